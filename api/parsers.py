"""Reading bodies: JSON of bounded size and depth."""

import json
from collections.abc import Mapping
from typing import IO, Any

from rest_framework import parsers

from api.refusals import RequestNotReadable


class JsonParser(parsers.JSONParser):
    """JSON as RFC 8259 has it; its size is bounded by the view, its depth by Python's stack.

    Escapes of lone surrogates are refused: they are no Unicode text, neither a database nor an answer could hold them.
    """

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        """The value. Raises ParseError and RequestNotReadable."""
        try:
            value = super().parse(stream, media_type, parser_context)
            json.dumps(value, ensure_ascii=False).encode()
        except RecursionError:
            raise RequestNotReadable(problem="its JSON is nested too deeply") from None
        except UnicodeEncodeError:
            raise RequestNotReadable(problem="its JSON holds lone surrogates") from None
        return value
