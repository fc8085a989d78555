"""Text comes as UTF-8: queries, forms and JSON alike."""

import codecs
from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from django.utils.http import parse_header_parameters


class Utf8Only:
    """A body that announces another charset is one of unknown type, and refused as such by whatever reads bodies.

    It stands before Django, which decodes the query by that charset before its first middleware, with any codec that
    Python knows: also with those that decode to no text.
    """

    def __init__(self, application: WSGIApplication) -> None:
        self._application = application

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer as the application does."""
        if not _is_utf8(environ.get("CONTENT_TYPE", "")):
            environ["CONTENT_TYPE"] = "application/octet-stream"
        return self._application(environ, start_response)


def _is_utf8(content_type: str) -> bool:
    """By any of its names, or for want of another."""
    try:
        _, parameters = parse_header_parameters(content_type)
        return codecs.lookup(parameters.get("charset", "utf-8")).name == "utf-8"
    except (LookupError, ValueError):
        return False  # the latter from parameters that are in a charset themselves (RFC 2231)
