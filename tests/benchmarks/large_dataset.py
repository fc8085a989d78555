"""What a large dataset costs the platform: peak memory of web and training workers against a small dataset's.

python -m tests.benchmarks.large_dataset [GIBIBYTES]
"""

import json
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.platform import RunningPlatform, running_platform, wait_for

MEBIBYTE = 2**20
ROLES = ("web", "gpu")


def write_rows(path: Path, n_bytes: int) -> None:
    """Rows of about a thousand characters, as JSONL, until the file has `n_bytes`."""
    draw = random.Random(1)
    words = [f"word{number}" for number in range(5_000)]
    with path.open("w") as file:
        number = 0
        while file.tell() < n_bytes:
            text = f"row {number} {' '.join(draw.choices(words, k=120))}"
            label = "positive" if number % 2 else "negative"
            file.write(json.dumps({"text": text, "label": label}) + "\n")
            number += 1


def largest_resident_bytes(running: RunningPlatform, role: str) -> int:
    """The resident set of the role's largest process, children included."""
    sizes = [0]
    for pid in running.platform.pids(role):
        parent = psutil.Process(pid)
        sizes += [process.memory_info().rss for process in (parent, *parent.children(recursive=True))]
    return max(sizes)


@contextmanager
def peaks(running: RunningPlatform) -> Iterator[dict[str, int]]:
    """Each role's largest resident set while the block runs, sampled five times a second."""
    seen = {role: largest_resident_bytes(running, role) for role in ROLES}
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(0.2):
            for role in ROLES:
                seen[role] = max(seen[role], largest_resident_bytes(running, role))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        is_over.set()
        watcher.join()


def upload(running: RunningPlatform, path: Path) -> None:
    """Upload the file as a tenant and wait for its verdict; prints seconds and peaks."""
    client = running.tenants[0].client
    with peaks(running) as seen:
        started_at = time.monotonic()
        with path.open("rb") as file:
            response = client.post(
                "datasets", data={"name": path.stem}, files={"file": (path.name, file)}, timeout=900
            )
        assert response.status_code == 201, response.text
        uploaded_at = time.monotonic()
        address = f"datasets/{response.json()['id']}"
        verdict = wait_for(client, address, lambda found: found["state"] != "validating", seconds=1_800)
        validated_at = time.monotonic()
    peak = ", ".join(f"{role} {size / MEBIBYTE:.0f} MiB" for role, size in seen.items())
    print(
        f"{path.stat().st_size / MEBIBYTE:8.1f} MiB: {verdict['state']}, {verdict['facts'].get('n_rows')} rows, "
        f"upload {uploaded_at - started_at:.1f} s, validation {validated_at - uploaded_at:.1f} s, peaks: {peak}"
    )


def main() -> None:
    """A small and a large dataset one after the other."""
    large_bytes = int(float(sys.argv[1] if len(sys.argv) > 1 else "1") * 2**30)
    with tempfile.TemporaryDirectory(prefix="prl") as directory:
        files = {"small": MEBIBYTE, "large": large_bytes}
        for name, n_bytes in files.items():
            write_rows(Path(directory, f"{name}.jsonl"), n_bytes)
        with running_platform(Path(directory, "p")) as running:
            for name in files:
                upload(running, Path(directory, f"{name}.jsonl"))


if __name__ == "__main__":
    main()
