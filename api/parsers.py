"""Reading bodies: JSON of bounded size and depth."""

from collections.abc import Mapping
from typing import IO, Any

from rest_framework import parsers

from api.refusals import RequestNotReadable


class JsonParser(parsers.JSONParser):
    """JSON as RFC 8259 has it; its size is bounded by the view, its depth by Python's stack."""

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        """The value. Raises ParseError and RequestNotReadable."""
        try:
            return super().parse(stream, media_type, parser_context)
        except RecursionError:
            raise RequestNotReadable(problem="its JSON is nested too deeply") from None
