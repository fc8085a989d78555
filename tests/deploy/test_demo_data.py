"""The demo's tenants: the same rows each time, balanced, no repeats, enough of them after the split."""

import io
import json
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.demo.data import MIN_ROWS, SOURCES, Row, balanced, labelled, read_texts, write_rows, write_tenants
from deploy.demo.errors import TextsTooFew
from training_workers.examples.rows import LabelExample
from training_workers.examples.split import input_hash, is_held_out


def make_package(file: Path, *, n_lines: int) -> Path:
    """A package like the real one: an archive of scored texts within a zip, scores on both sides of zero."""
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as texts:
        for name in SOURCES.values():
            lines = [f"{i}\t{(i % 9 - 4) / 2}\t{name} says  thing {i}\r\n" for i in range(n_lines)]
            content = "".join(lines).encode("utf-8-sig")
            member = tarfile.TarInfo(f"hutto_ICWSM_2014/{name}")
            member.size = len(content)
            texts.addfile(member, io.BytesIO(content))
    with zipfile.ZipFile(file, "w") as outer:
        outer.writestr("vaderSentiment-0.5/additional_resources/hutto_ICWSM_2014.tar.gz", inner.getvalue())
    return file


def rows_of(file: Path) -> list[dict[str, str]]:
    """The rows of a JSONL file."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_four_tenants_get_enough_rows_to_train_on_and_to_hold_out(tmp_path: Path) -> None:
    files = write_tenants(make_package(tmp_path / "texts.zip", n_lines=2_400), tmp_path / "data")

    assert list(files) == ["movies", "shop", "newspaper", "tweets"]
    for file in files.values():
        rows = rows_of(file)
        sides = Counter(is_held_out(input_hash(LabelExample(**row))) for row in rows)
        labels = Counter(row["label"] for row in rows)
        assert set(rows[0]) == {"text", "label"}
        assert labels["positive"] == labels["negative"] == len(rows) / 2
        assert sides[False] >= 800
        assert sides[True] >= 200


def test_a_second_run_writes_the_same_bytes(tmp_path: Path) -> None:
    package = make_package(tmp_path / "texts.zip", n_lines=2_400)
    first = {name: file.read_bytes() for name, file in write_tenants(package, tmp_path / "data").items()}

    assert {
        name: file.read_bytes() for name, file in write_tenants(package, tmp_path / "data").items()
    } == first
    assert {
        name: file.read_bytes() for name, file in write_tenants(package, tmp_path / "more").items()
    } == first


def test_whoever_reads_a_file_of_rows_while_it_is_written_anew_reads_it_whole(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    write_rows(file, [Row("A good film.", "positive")] * 3)
    with file.open() as reader:
        write_rows(file, [Row("A bad film.", "negative")])
        assert [json.loads(line)["text"] for line in reader] == ["A good film."] * 3
    assert json.loads(file.read_text())["text"] == "A bad film."
    assert list(tmp_path.iterdir()) == [file]


def test_too_few_texts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TextsTooFew, match=f"'movies' give .*at least {MIN_ROWS}"):
        write_tenants(make_package(tmp_path / "texts.zip", n_lines=300), tmp_path / "data")


def test_lines_are_read_without_their_mark_and_empty_ends(tmp_path: Path) -> None:
    texts = read_texts(make_package(tmp_path / "texts.zip", n_lines=3))

    assert [line.split("\t")[0] for line in texts["tweets"]] == ["0", "1", "2"]


def test_clear_scores_give_labels_and_texts_are_cleaned_once() -> None:
    lines = [
        "1\t0.8\t  A   good\tone &amp; more \r",
        "2\t-0.8\tA bad one",
        "3\t0.79\tSo so",
        "4\t2.0\ta GOOD one & more",
        "5\t-3\t \r",
    ]

    assert labelled(lines) == [
        Row(text="A good one & more", label="positive"),
        Row(text="A bad one", label="negative"),
    ]


@given(
    st.lists(
        st.tuples(st.text(max_size=8), st.sampled_from(["positive", "negative"])),
        unique_by=lambda row: row[0],
    )
)
def test_balanced_rows_do_not_depend_on_the_order_they_come_in(drawn: list[tuple[str, str]]) -> None:
    rows = [Row(text=text, label=label) for text, label in drawn]
    chosen = balanced(rows)

    counts = Counter(row.label for row in chosen)
    assert balanced(reversed(rows)) == chosen
    assert (
        counts["positive"]
        == counts["negative"]
        == min(sum(row.label == label for row in rows) for label in ("positive", "negative"))
    )
    assert len({row.text for row in chosen}) == len(chosen)
