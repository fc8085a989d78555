"""Parquet files as a stream of rows: only the columns that are needed, a few rows at a time.

What is bounded: a row's texts are measured before Python holds any of them, a value that rows share by a dictionary
is made for a few of them at once, and a row group that promises rows beyond the limit is not begun. What is not: a
page of the file is unpacked whole, as large as its writer made it (1 MB by default, 2 GB at most), and a
conversation's turns are counted only once Arrow has read the few rows around it.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from training_workers.errors import ColumnMissing, DatasetBroken, RowTooLong, TextNotUtf8, ValueOfWrongType
from training_workers.examples.rows import COLUMNS_BY_KIND, CONVERSATION, kind_of
from training_workers.examples.tables import MAX_RECORD_BYTES, Table

# Arrow makes a value that rows share by a dictionary anew for each row of a batch.
ROWS_PER_BATCH = 1
# The turns of one row may share one too, and are read as the dictionary, which is copied for each batch.
CONVERSATIONS_PER_BATCH = 16
TURN_FIELDS = ("role", "content")
READ_BUFFER_BYTES = 1 << 20
# What a value takes beside its text, as quotes and commas do in the other formats: no row has endless empty turns.
VALUE_BYTES = 8


def open_parquet(file: BinaryIO) -> Table:
    """The file's columns and rows.

    Raises:
        DatasetBroken: not a Parquet file, or a damaged one, or one whose columns' names cannot tell them apart.
        ColumnsUnknown, ColumnMissing, ColumnsAmbiguous, ValueOfWrongType: the columns are those of no example.
        RowTooLong: a row group's size promises rows beyond the limit.
    """
    source = pa.PythonFile(file, mode="r")
    try:
        metadata = pq.ParquetFile(source, pre_buffer=False).metadata
        schema = metadata.schema.to_arrow_schema()
        columns = tuple(schema.names)
        wanted = _wanted(schema)
        leaves = _leaves(metadata, wanted)
        _refuse_promised_rows(metadata, leaves)
        # No pre-buffering but a buffer: a row group's pages are read one after the other, not all at once.
        parquet = pq.ParquetFile(
            source,
            metadata=metadata,
            pre_buffer=False,
            buffer_size=READ_BUFFER_BYTES,
            read_dictionary=[path for path in leaves.values() if "." in path],
        )
    except (pa.ArrowException, OSError) as error:
        raise _broken(error) from None
    except UnicodeDecodeError:
        raise DatasetBroken(file_format="Parquet", reason="a column's name is not UTF-8") from None
    return Table(columns=columns, rows=_rows(parquet, wanted))


def _wanted(schema: pa.Schema) -> tuple[str, ...]:
    """The columns of the one kind of example that the file holds, each there once and of a type that is read."""
    wanted = COLUMNS_BY_KIND[kind_of(schema.names)]
    for column in wanted:
        fields = [field for field in schema if field.name == column]
        if len(fields) > 1:
            raise _ambiguous("columns")
        if column == "messages":
            _check_conversation(fields[0].type)
        elif column == "label":
            _check_type(column, fields[0].type, "text or a whole number", may_be_integer=True)
        else:
            _check_type(column, fields[0].type, "text")
    return wanted


def _check_conversation(found: pa.DataType) -> None:
    is_list = pa.types.is_list(found) or pa.types.is_large_list(found)
    if not pa.types.is_null(found) and not (is_list and pa.types.is_struct(found.value_type)):
        raise _wrong_type("messages", found, CONVERSATION)
    for name in TURN_FIELDS if is_list else ():
        fields = [field for field in found.value_type if field.name == name]
        if not fields:
            raise ColumnMissing(column=name)
        if len(fields) > 1:
            raise _ambiguous("fields of a message")
        _check_type(name, fields[0].type, "text")


def _check_type(column: str, found: pa.DataType, allowed: str, *, may_be_integer: bool = False) -> None:
    plain = found.value_type if pa.types.is_dictionary(found) else found
    is_text = pa.types.is_string(plain) or pa.types.is_large_string(plain) or pa.types.is_string_view(plain)
    # Of a column without any value Arrow knows no type; its rows are refused as empty.
    if not (is_text or pa.types.is_null(plain) or (may_be_integer and pa.types.is_integer(plain))):
        raise _wrong_type(column, found, allowed)


def _wrong_type(column: str, found: pa.DataType, allowed: str) -> ValueOfWrongType:
    # Without its parameters: the names of fields and time zones are the tenant's.
    name = str(found).partition("[")[0].partition("<")[0].partition("(")[0]
    return ValueOfWrongType(column=column, found=name, allowed=allowed)


def _ambiguous(what: str) -> DatasetBroken:
    return DatasetBroken(file_format="Parquet", reason=f"two {what} have the same name")


def _leaves(metadata: pq.FileMetaData, wanted: Sequence[str]) -> dict[int, str]:
    """What Parquet stores of the columns, by place: a conversation's parts are columns of their own."""
    paths = {place: metadata.schema.column(place).path for place in range(metadata.num_columns)}
    return {place: path for place, path in paths.items() if path.partition(".")[0] in wanted}


def _refuse_promised_rows(metadata: pq.FileMetaData, leaves: Mapping[int, str]) -> None:
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        n_bytes = sum(group.column(place).total_uncompressed_size for place in leaves)
        if n_bytes > max(group.num_rows, 1) * MAX_RECORD_BYTES:
            raise RowTooLong(limit_bytes=MAX_RECORD_BYTES)


def _rows(parquet: pq.ParquetFile, columns: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    n_rows = CONVERSATIONS_PER_BATCH if "messages" in columns else ROWS_PER_BATCH
    batches = parquet.iter_batches(batch_size=n_rows, columns=list(columns), use_threads=False)
    number = 0
    while True:
        try:
            batch = next(batches, None)
        except (pa.ArrowException, OSError) as error:
            raise _broken(error, row=number + 1) from None
        if batch is None:
            return
        arrays = {column: batch.column(column) for column in columns}
        for index in range(batch.num_rows):
            number += 1
            yield _row({column: array[index] for column, array in arrays.items()}, number)


def _row(scalars: Mapping[str, pa.Scalar], number: int) -> Mapping[str, Any]:
    row = _Row(number)
    try:
        return {column: row.value(scalar) for column, scalar in scalars.items()}
    except UnicodeDecodeError:
        raise TextNotUtf8(row=number) from None
    except pa.ArrowException as error:
        raise _broken(error, row=number) from None


class _Row:
    """Makes one row's values; each is measured in Arrow's memory before it is made."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._n_bytes = 0

    def value(self, scalar: pa.Scalar) -> Any:
        """A text, a whole number, a list of turns, or None."""
        if isinstance(scalar, pa.DictionaryScalar):
            scalar = scalar.value
        if isinstance(scalar, pa.ListScalar):
            return self._turns(scalar)
        self._count(scalar)
        return scalar.as_py()

    def _turns(self, scalar: pa.ListScalar) -> list[dict[str, Any] | None] | None:
        if not scalar.is_valid:
            return None
        turns = scalar.values
        fields = [turns.field(name) for name in TURN_FIELDS]
        return [
            dict(zip(TURN_FIELDS, [self.value(field[index]) for field in fields], strict=True))
            if turn.is_valid
            else None
            for index, turn in enumerate(turns)
        ]

    def _count(self, scalar: pa.Scalar) -> None:
        is_text = scalar.is_valid and isinstance(scalar, (pa.StringScalar, pa.StringViewScalar))
        self._n_bytes += VALUE_BYTES + (scalar.as_buffer().size if is_text else 0)
        if self._n_bytes > MAX_RECORD_BYTES:
            raise RowTooLong(limit_bytes=MAX_RECORD_BYTES, row=self._number)


def _broken(error: Exception, row: int | None = None) -> DatasetBroken:
    # Arrow's own text may quote bytes of the file.
    return DatasetBroken(file_format="Parquet", reason=f"Arrow gives up ({type(error).__name__})", row=row)
