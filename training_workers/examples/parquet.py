"""Parquet files as a stream of rows: only the columns that are needed, a few rows at a time."""

from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from training_workers.errors import DatasetBroken, TextNotUtf8
from training_workers.examples.rows import COLUMNS_BY_KIND
from training_workers.examples.tables import Table

ROWS_PER_BATCH = 256
READ_BUFFER_BYTES = 1 << 20


def open_parquet(file: BinaryIO) -> Table:
    """The file's columns and rows.

    Raises:
        DatasetBroken: not a Parquet file, or a damaged one.
    """
    try:
        # No pre-buffering but a buffer: a row group's pages are read one after the other, not all at once.
        parquet = pq.ParquetFile(
            pa.PythonFile(file, mode="r"), pre_buffer=False, buffer_size=READ_BUFFER_BYTES
        )
    except (pa.ArrowException, OSError) as error:
        raise _broken(error) from None
    columns = tuple(parquet.schema_arrow.names)
    wanted = [column for names in COLUMNS_BY_KIND.values() for column in names if column in columns]
    return Table(columns=columns, rows=_rows(parquet, wanted))


def _rows(parquet: pq.ParquetFile, columns: list[str]) -> Iterator[Mapping[str, Any]]:
    n_before = 0
    batches = parquet.iter_batches(batch_size=ROWS_PER_BATCH, columns=columns, use_threads=False)
    while True:
        try:
            batch = next(batches, None)
        except (pa.ArrowException, OSError) as error:
            raise _broken(error, row=n_before + 1) from None
        if batch is None:
            return
        yield from _batch_rows(batch, n_before)
        n_before += batch.num_rows


def _batch_rows(batch: pa.RecordBatch, n_before: int) -> Iterator[Mapping[str, Any]]:
    for index in range(batch.num_rows):
        try:
            yield {name: batch.column(name)[index].as_py() for name in batch.schema.names}
        except UnicodeDecodeError:
            raise TextNotUtf8(row=n_before + index + 1) from None


def _broken(error: Exception, row: int | None = None) -> DatasetBroken:
    # Arrow's own text may quote bytes of the file.
    return DatasetBroken(file_format="Parquet", reason=f"Arrow gives up ({type(error).__name__})", row=row)
