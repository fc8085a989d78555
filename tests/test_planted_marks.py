"""Marks are planted in a tenant's rows, key and numbers; then all that the platform keeps is searched for them."""

import base64
import json
import secrets
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import pytest
from safetensors.numpy import load

from tests.platform import RunningPlatform, client_of, get, post, specification, wait_for
from tests.traces import Traces, forms, members_of, traces_of

pytestmark = pytest.mark.processes

WORDS = [("positive", "great"), ("negative", "awful")]


def new_mark() -> str:
    """Text that is nowhere else."""
    return f"planted{secrets.token_hex(12)}"


@dataclass(frozen=True)
class Planted:
    """What was planted where, and what the platform keeps after it has worked with it."""

    text: bytes
    key: bytes
    stray_key: bytes
    dataset_name: bytes
    round_id: bytes
    update: bytes
    published: bytes
    archive: bytes
    traces: Traces


def rows(mark: str, n_rows: int = 60) -> bytes:
    """Reviews, each with the mark in its text."""
    lines = []
    for number in range(n_rows):
        label, word = WORDS[number % 2]
        lines.append(json.dumps({"text": f"{mark} {number} was {word}", "label": label}))
    return "\n".join(lines).encode() + b"\n"


def faulty_files(mark: str) -> dict[str, bytes]:
    """Files that are refused in different places, with the mark where the fault is."""
    good = rows(mark)
    return {
        "broken.jsonl": good + f'{{"text": "{mark}", "label" {mark}\n'.encode(),
        "wrong-type.jsonl": good + json.dumps({"text": {mark: mark}, "label": [mark]}).encode(),
        "no-label.jsonl": good + json.dumps({"text": mark}).encode(),
        "not-text.jsonl": good + f'{{"text": "{mark}'.encode() + b"\xff\xfe",
        "ragged.csv": f"text,label\n{mark},positive,{mark}\n".encode(),
        "open-quote.csv": f'text,label\n"{mark}'.encode(),
        "strange.csv": f"{mark},label\n{mark},positive\n".encode(),
        "broken.parquet": b"PAR1" + mark.encode(),
        "unknown.exe": mark.encode(),
        "binary.jsonl": b"\xff" + mark.encode(),
    }


def upload(client: httpx.Client, name: str, data: bytes) -> httpx.Response:
    """The answer to an upload."""
    return client.post("datasets", data={"name": name}, files={"file": (name, data)})


def validated(client: httpx.Client, made: httpx.Response) -> dict[str, Any]:
    """The dataset when a worker has judged it."""
    assert made.status_code == 201, made.text
    return wait_for(client, f"datasets/{made.json()['id']}", lambda found: found["state"] != "validating")


def blob(platform: RunningPlatform, sha256: str) -> bytes:
    """The bytes behind a digest."""
    [path] = [path for path in platform.storage.rglob("*") if path.name == sha256]
    return path.read_bytes()


@pytest.fixture(scope="module")
def planted(platform: RunningPlatform) -> Planted:
    """A tenant whose rows are all marked does all that a tenant does: good and faulty data, a round, an archive."""
    text, dataset_name, slug = new_mark(), new_mark(), new_mark()
    tenant = post(platform.operator, "tenants", {"name": slug, "slug": slug})
    key = post(platform.operator, f"tenants/{tenant['id']}/keys", {"name": "marked"})["key"]
    stray_key = f"prl_{new_mark()}"
    with client_of(platform.platform, stray_key) as stranger:
        assert stranger.get("me").status_code == 401
    with client_of(platform.platform, key) as client:
        for name, data in faulty_files(text).items():
            if (made := upload(client, name, data)).status_code == 201:
                assert validated(client, made)["state"] == "refused"
        dataset = validated(client, upload(client, f"{dataset_name}.jsonl", rows(text)))
        assert dataset["state"] == "ready"
        version, update = trained(platform, client, tenant, dataset)
        archive = client.get(f"prefix-versions/{version['id']}/archive").content
    return Planted(
        text=text.encode(),
        key=key.split("_", 2)[2].encode(),
        stray_key=stray_key.encode(),
        dataset_name=dataset_name.encode(),
        round_id=version["round"].encode(),
        update=blob(platform, update),
        published=blob(platform, version["sha256"]),
        archive=archive,
        traces=traces_of(platform),
    )


def trained(
    platform: RunningPlatform, client: httpx.Client, tenant: dict[str, Any], dataset: dict[str, Any]
) -> tuple[dict[str, Any], str]:
    """A federation of this tenant alone after one round: its published version, and its update's digest."""
    body = {
        "name": new_mark(),
        "base_model": platform.base_model["id"],
        "specification": specification(quorum=1),
    }
    made = post(platform.operator, "federations", body)
    post(platform.operator, f"federations/{made['id']}/enrolments", {"tenant": tenant["id"]})
    post(client, f"federations/{made['id']}/enrolments", {"dataset": dataset["id"]})
    federation = platform.wait_for(f"federations/{made['id']}", lambda found: found["state"] == "ready")
    ended = platform.finish_round(platform.start_round(federation))
    assert ended["state"] == "published", ended
    [run] = get(client, f"local-runs?round={ended['id']}")["results"]
    pointer = get(client, f"federations/{made['id']}/published")
    return get(client, f"prefix-versions/{pointer['version']}"), run["update"]["sha256"]


def numbers(file: bytes) -> list[bytes]:
    """Numbers of a tensor, as bytes of four at once and as each is written out in single and double precision."""
    values = load(file)["prompt_embeddings"].ravel()
    chosen = values[np.abs(values) > 1e-4][:8]
    assert len(chosen) == 8
    written = [text for value in chosen for text in (str(value), repr(float(value))[:12])]
    return [values[:4].tobytes(), chosen[:4].tobytes(), *(text.encode() for text in written)]


def test_the_search_finds_what_is_there(planted: Planted) -> None:
    """Else the other tests would prove nothing: each kind of place holds something that is known to be there."""
    held = planted.traces
    assert {"database", "postgres"} <= held.kinds_of(planted.dataset_name)
    assert "valkey" in held.kinds_of(planted.round_id)  # in a message, which Celery writes in base64
    assert {"broker", "valkey"} <= held.kinds_of(b"_kombu.binding.gpu")
    assert "logs" in held.kinds_of(b"training_workers.work")
    assert held.kinds_of(planted.update[:64]) == {"storage"}


@pytest.mark.parametrize("n_before", range(3))
@pytest.mark.parametrize("n_after", range(3))
def test_a_mark_is_known_within_base64(n_before: int, n_after: int) -> None:
    mark = new_mark().encode()
    encoded = base64.b64encode(b"x" * n_before + mark + b"x" * n_after)
    assert any(form in encoded for form in forms(mark))


def test_a_datasets_text_is_nowhere_in_the_clear(planted: Planted) -> None:
    assert planted.traces.of([planted.text]) == set()
    assert planted.text not in members_of(planted.archive)


def test_keys_are_nowhere(planted: Planted) -> None:
    assert planted.traces.of([planted.key, planted.stray_key]) == set()


@pytest.mark.parametrize("which", ["update", "published"])
def test_a_prefixs_numbers_are_in_storage_alone(planted: Planted, which: str) -> None:
    found = planted.traces.of(numbers(getattr(planted, which)))
    assert {place.partition("/")[0] for place in found} == {"storage storage"}
    assert all("/content/" in place for place in found)
