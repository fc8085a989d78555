"""Receiving a dataset: its bytes are encrypted as they arrive, before anything else of the request is looked at."""

from types import TracebackType
from typing import Any, Self

from django.core.files.uploadedfile import UploadedFile
from django.core.files.uploadhandler import FileUploadHandler, StopUpload

from api.refusals import RequestNotReadable, UploadInterrupted
from tenants.errors import PreludeError
from tenants.models import Tenant
from tenants.services.limits import DatasetQuotas
from tenants.services.uploads import DatasetUpload

FIELD = "file"
# The rest of a refused body is read and forgotten up to here, so that its sender lives to read why: a connection that
# is closed on unread bytes is reset.
MOST_DRAINED_BYTES = 64 * 2**20


class ReceivedDataset(UploadedFile):  # type: ignore[type-arg]  # generic for the type checker alone
    """What the request's files hold: no content, the upload that has taken it."""

    def __init__(self, upload: DatasetUpload) -> None:
        super().__init__(name=upload.file_name, size=upload.size_bytes)
        self.upload = upload

    def close(self) -> None:
        """Nothing is open here; the view decides what becomes of the upload."""


class DatasetUploadHandler(FileUploadHandler):
    """Takes the one file of the form into a `DatasetUpload`. A refusal ends the reading and is raised after it.

    As a context manager it leaves nothing of the file when its block fails before a row names it.
    """

    def __init__(self, *, tenant: Tenant, limit_bytes: int, quotas: DatasetQuotas) -> None:
        super().__init__()
        self._tenant = tenant
        self._limit_bytes = limit_bytes
        self._quotas = quotas
        self._body: Any = None
        self._left_bytes = 0
        self._refusal: PreludeError | None = None
        self.upload: DatasetUpload | None = None

    def handle_raw_input(
        self, input_data: Any, _meta: Any, content_length: int, _boundary: str, _encoding: str | None = None
    ) -> None:
        """Note what is to come."""
        self._body, self._left_bytes = input_data, content_length

    def new_file(self, field_name: str, *args: Any, **kwargs: Any) -> None:
        """Begin the upload of the form's one file."""
        super().new_file(field_name, *args, **kwargs)
        if field_name != FIELD or self.upload is not None:
            self._refuse(RequestNotReadable(problem=f"a form here has one file, in the field {FIELD!r}"))
        try:
            self.upload = DatasetUpload(
                tenant=self._tenant,
                file_name=self.file_name or "",
                limit_bytes=self._limit_bytes,
                quotas=self._quotas,
            )
        except PreludeError as refusal:
            self._refuse(refusal)

    def receive_data_chunk(self, raw_data: bytes, _start: int) -> None:
        """Encrypt the next bytes."""
        assert self.upload is not None
        self._left_bytes -= len(raw_data)
        try:
            self.upload.write(raw_data)
        except PreludeError as refusal:
            self._refuse(refusal)

    def file_complete(self, _size: int) -> ReceivedDataset | None:
        """The file's last byte is there; whether it is the body's, `upload_interrupted` tells."""
        return ReceivedDataset(self.upload) if self.upload is not None else None

    def upload_interrupted(self) -> None:
        """The body ended within the file."""
        self._refusal = UploadInterrupted()

    def upload_complete(self) -> None:
        """The body is read, or given up: now the refusal, if there was one."""
        if self._refusal is not None:
            raise self._refusal

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and self.upload is not None:
            self.upload.abort()

    def _refuse(self, refusal: PreludeError) -> None:
        """Give up. (Django would read the rest by lines, and hold a file without line ends in memory.)"""
        self._refusal = refusal
        if self._left_bytes <= MOST_DRAINED_BYTES:
            while self._body.read(self.chunk_size):
                pass
        raise StopUpload(connection_reset=True)
