"""Streams of rows out of JSONL, CSV and Parquet files, in bounded memory."""

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from training_workers.errors import DatasetBroken, DatasetFormatUnreadable, RowTooLong, TextNotUtf8
from training_workers.examples.rows import Example, example_from_row, kind_of
from training_workers.examples.tables import MAX_RECORD_BYTES, Table

CHUNK_BYTES = 65_536
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_examples(file: BinaryIO, file_format: str) -> Iterator[Example]:
    """Every row of the file as an example, in the file's order.

    Raises:
        DatasetRefusal: at the first row that cannot be used.
    """
    table = open_table(file, file_format)
    if table.columns is None:
        return
    kind = kind_of(table.columns)
    for number, row in enumerate(table.rows, start=1):
        yield example_from_row(row, kind=kind, number=number)


def open_table(file: BinaryIO, file_format: str) -> Table:
    """The file's columns and rows; of an empty file, neither.

    Raises:
        DatasetFormatUnreadable: the format is none of the three.
        DatasetBroken: the bytes are not of that format.
    """
    file.seek(0)
    if file_format == "jsonl":
        return _open_jsonl(file)
    if file_format == "csv":
        return _open_csv(file)
    if file_format == "parquet":
        # pyarrow is 40 MB of code that the other two formats do not need.
        from training_workers.examples.parquet import open_parquet

        return open_parquet(file)
    raise DatasetFormatUnreadable(file_format=file_format)


def _open_jsonl(file: BinaryIO) -> Table:
    rows = _json_rows(file)
    first = next(rows, None)
    if first is None:
        return Table(columns=None, rows=iter(()))
    return Table(columns=tuple(first), rows=_chain(first, rows))


def _chain(first: Mapping[str, Any], rest: Iterator[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    yield first
    yield from rest


def _json_rows(file: BinaryIO) -> Iterator[Mapping[str, Any]]:
    position = _Position(row=1)
    for line in _lines(file, position):
        position.n_bytes = 0
        if line.strip():
            yield _json_row(line, position.row)
            position.row += 1


def _json_row(text: str, number: int) -> Mapping[str, Any]:
    try:
        row = json.loads(text)
    except json.JSONDecodeError as error:
        raise DatasetBroken(
            file_format="JSONL", reason=f"{error.msg} (column {error.colno})", row=number
        ) from None
    except (ValueError, RecursionError):
        # A number of thousands of digits, or a thousand brackets inside each other.
        raise DatasetBroken(file_format="JSONL", reason="the JSON is beyond reading", row=number) from None
    if not isinstance(row, dict):
        raise DatasetBroken(file_format="JSONL", reason="a line is not a JSON object", row=number)
    return row


def _open_csv(file: BinaryIO) -> Table:
    # A setting of the whole process, below it by default; `_lines` bounds what a record is made of.
    csv.field_size_limit(MAX_RECORD_BYTES)
    records = _csv_records(file)
    header = tuple(name.strip() for name in next(records, []))
    if not header:
        return Table(columns=None, rows=iter(()))
    if len(set(header)) != len(header):
        raise DatasetBroken(file_format="CSV", reason="two columns have the same name")
    return Table(columns=header, rows=_csv_rows(header, records))


def _csv_rows(header: tuple[str, ...], records: Iterator[list[str]]) -> Iterator[Mapping[str, Any]]:
    for number, record in enumerate(records, start=1):
        if len(record) != len(header):
            reason = f"it has {len(record)} fields where the header has {len(header)}"
            raise DatasetBroken(file_format="CSV", reason=reason, row=number)
        yield dict(zip(header, record, strict=True))


def _csv_records(file: BinaryIO) -> Iterator[list[str]]:
    """The file's records, the header first; empty lines are no records."""
    position = _Position(row=0)
    records = csv.reader(_lines(file, position), strict=True)
    while True:
        try:
            record = next(records)
        except StopIteration:
            return
        except csv.Error as error:
            raise DatasetBroken(file_format="CSV", reason=str(error), row=position.row) from None
        position.n_bytes = 0
        if record:
            position.row += 1
            yield record


@dataclass
class _Position:
    """The row that is being read, 0 being a CSV file's header, and how much was read of it: it may span lines."""

    row: int
    n_bytes: int = 0


def _lines(file: BinaryIO, position: _Position) -> Iterator[str]:
    """The file's lines with their line breaks; of a row without an end no more than the limit is held."""
    pending = b""
    is_first = True
    while chunk := file.read(CHUNK_BYTES):
        if is_first:
            chunk = chunk.removeprefix(BYTE_ORDER_MARK)
            is_first = False
        lines = (pending + chunk).split(b"\n")
        pending = lines.pop()
        for line in lines:
            yield _line_text(line + b"\n", position)
        if len(pending) > MAX_RECORD_BYTES:
            raise RowTooLong(limit_bytes=MAX_RECORD_BYTES, row=position.row)
    if pending:
        yield _line_text(pending, position)


def _line_text(line: bytes, position: _Position) -> str:
    position.n_bytes += len(line)
    if position.n_bytes > MAX_RECORD_BYTES:
        raise RowTooLong(limit_bytes=MAX_RECORD_BYTES, row=position.row)
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        raise TextNotUtf8(row=position.row) from None
