"""Receiving a dataset's bytes: encrypted as they arrive, so that no plain copy is ever on the platform's disks."""

import codecs
import hashlib
import tempfile
from pathlib import PurePath
from types import TracebackType
from typing import Self
from uuid import UUID

from tenants import encryption, storage
from tenants.errors import DatasetEmpty, DatasetFormatUnknown, DatasetNotText, DatasetTooLarge
from tenants.ids import uuid7
from tenants.models import Dataset, Tenant
from tenants.services.limits import DatasetQuotas
from tenants.services.tenants import data_key
from tenants.states import DatasetFormat

_PARQUET_MAGIC = b"PAR1"


class DatasetUpload:
    """One file on its way in: `write` as it arrives, then `finish`; `abort` leaves nothing, until `keep`.

    As a context manager it aborts when its block fails.
    """

    def __init__(self, *, tenant: Tenant, file_name: str, limit_bytes: int, quotas: DatasetQuotas) -> None:
        """Raises DatasetFormatUnknown when the file's name does not end in a format that is read, QuotaDatasetRows."""
        quotas.rows.check(1)
        self.file_name = PurePath(file_name).name
        self.format = _format_of(self.file_name)
        self.dataset_id: UUID = uuid7()
        self.tenant = tenant
        self.size_bytes = 0
        self._content = hashlib.sha256()
        self._limit_bytes = limit_bytes
        self._quota = quotas.stored_bytes
        self.blob_name = ""  # in storage, once finished
        self._is_kept = False
        self._ciphertext = tempfile.TemporaryFile()  # noqa: SIM115 - finish and abort close it
        context = Dataset.blob_context(str(self.dataset_id))
        self._writer = encryption.EncryptingWriter(self._ciphertext, data_key(tenant), context)

    def write(self, chunk: bytes) -> None:
        """Take the next bytes.

        Raises DatasetTooLarge, QuotaStoredBytes and DatasetNotText as soon as they can be told.
        """
        if self.size_bytes == 0:
            self._check_beginning(chunk)
        self.size_bytes += len(chunk)
        if self.size_bytes > self._limit_bytes:
            raise DatasetTooLarge(file_name=self.file_name, limit_bytes=self._limit_bytes)
        self._quota.check(self.size_bytes)
        self._content.update(chunk)
        self._writer.write(chunk)

    @property
    def content_digest(self) -> bytes:
        """SHA-256 of what has come so far, in the clear. It confirms guesses: it is stored nowhere as it is."""
        return self._content.digest()

    def finish(self) -> None:
        """No more bytes will come: put them into storage, which may take long and is for no transaction.

        Raises DatasetEmpty when none came at all.
        """
        if self.size_bytes == 0:
            raise DatasetEmpty(file_name=self.file_name)
        self._writer.close()
        self._ciphertext.flush()
        self.blob_name = storage.put_file(self._ciphertext)
        self._ciphertext.close()

    def keep(self) -> None:
        """A row names the bytes, and what follows is the commit: they stay, whatever is heard of it.

        A connection may be lost when the commit took effect and before its answer came. Bytes that nothing names harm
        nobody.
        """
        self._is_kept = True

    def abort(self) -> None:
        """Forget what has arrived; doing so again changes nothing."""
        self._ciphertext.close()
        if self.blob_name and not self._is_kept:
            storage.delete(self.blob_name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.abort()

    def _check_beginning(self, chunk: bytes) -> None:
        if self.format == DatasetFormat.PARQUET:
            if not chunk.startswith(_PARQUET_MAGIC[: len(chunk)]):
                raise DatasetNotText(file_name=self.file_name, wanted="a Parquet file (PAR1)")
            return
        try:
            text = codecs.getincrementaldecoder("utf-8-sig")().decode(chunk)
        except UnicodeDecodeError:
            raise DatasetNotText(file_name=self.file_name, wanted="UTF-8 text") from None
        if "\x00" in text:
            raise DatasetNotText(file_name=self.file_name, wanted="text without NUL characters")
        if self.format == DatasetFormat.JSONL and text.strip() and not text.lstrip().startswith("{"):
            raise DatasetNotText(file_name=self.file_name, wanted="JSON objects, one a line")


def _format_of(file_name: str) -> DatasetFormat:
    ending = PurePath(file_name).suffix.removeprefix(".").lower()
    if ending not in DatasetFormat.values:
        raise DatasetFormatUnknown(file_name=file_name)
    return DatasetFormat(ending)
