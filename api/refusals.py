"""Refusals of requests as such, before any use case is asked."""

from typing import ClassVar

from tenants.errors import PreludeError


class RequestTooLarge(PreludeError):
    """A body is larger than its endpoint reads."""

    code = "request_too_large"

    def __init__(self, *, limit_bytes: int) -> None:
        super().__init__(f"The request's body is too large; at most {limit_bytes} bytes are read here.")


class RequestNotReadable(PreludeError):
    """The body is not what its content type announces."""

    code = "request_not_readable"

    def __init__(self, *, problem: str) -> None:
        super().__init__(f"The request's body cannot be read: {problem}.")


class LengthRequired(PreludeError):
    """A body in chunks of unknown number: what cannot be bounded is not read."""

    code = "length_required"

    def __init__(self) -> None:
        super().__init__("The request has a body without a Content-Length; send one.")


class UploadInterrupted(PreludeError):
    """The connection broke before the body's end."""

    code = "upload_interrupted"

    def __init__(self) -> None:
        super().__init__("The upload ended before its last byte; nothing of it was kept.")


class CursorInvalid(PreludeError):
    """A cursor that this list has not given out."""

    code = "cursor_invalid"

    def __init__(self) -> None:
        super().__init__("The cursor is not one of this list; begin without one and follow `next`.")


class PreconditionInvalid(PreludeError):
    """A header that holds neither `*` nor entity tags."""

    code = "precondition_invalid"

    def __init__(self, *, header: str) -> None:
        super().__init__(
            f'The header {header} must hold `*`, or entity tags such as "3f2c…" with their quotes and commas between.'
        )


class PreconditionFailed(PreludeError):
    """What is there is not what the request was made for: somebody changed it in between. Nothing was changed."""

    code = "precondition_failed"

    def __init__(self, *, header: str, path: str) -> None:
        super().__init__(
            f"{path} is not as {header} says; nothing was changed. Read it again, and send the new ETag."
        )


class TooManyStreams(PreludeError):
    """Each stream holds a thread, and the API has to answer besides."""

    code = "too_many_streams"
    retry_after_seconds: ClassVar[int] = 10

    def __init__(self, *, limit: int) -> None:
        super().__init__(f"{limit} streams of events are open here, the limit; try again, or ask for pages.")


class IdempotencyKeyInvalid(PreludeError):
    """The header is there and holds no usable key."""

    code = "idempotency_key_invalid"

    def __init__(self, *, header: str, max_length: int) -> None:
        super().__init__(
            f"The header {header} must hold 1 to {max_length} characters of printable ASCII, "
            "or be left out; it is not usable as it came."
        )
