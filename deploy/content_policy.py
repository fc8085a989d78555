"""What a browser may load and run on our pages: what comes from here, and nothing else."""

from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase

HEADER: Final = "Content-Security-Policy"
# Alpine, which Unfold's pages are made with, evaluates the expressions in their attributes; Unfold also writes styles
# into its pages. No script within a page runs.
_POLICY: Final = (
    "default-src 'none'; script-src 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
)


class ContentPolicyMiddleware:
    """Puts the policy on every answer."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer with the policy in force."""
        response = self._get_response(request)
        response[HEADER] = _POLICY + _provider()
        return response


def _provider() -> str:
    """The OpenID provider's origin: browsers also ask where a form's answer leads to."""
    issuer = urlsplit(settings.OIDC_ISSUER)
    return f" {issuer.scheme}://{issuer.netloc}" if issuer.netloc else ""
