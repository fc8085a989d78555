"""The request rate over HTTP: each request of a tenant's is counted, and its answer tells what is left."""

from typing import Final

from api.authentication import Principal
from tenants.services import request_rate
from tenants.services.request_counts import REQUESTS
from tenants.services.request_windows import Rate

HEADERS: Final = {
    "RateLimit-Limit": "Requests that the tenant may send a minute; absent where it has no limit.",
    "RateLimit-Remaining": "How many more fit now.",
    "RateLimit-Reset": "Seconds until none is used, if no more are sent.",
}


def count(principal: Principal) -> Rate | None:
    """Count a request that came with a tenant's key; operators' are not limited."""
    return None if principal.tenant is None else request_rate.hit(principal.tenant)


def admit(principal: Principal, rate: Rate | None) -> None:
    """Let the request through, and have it in the tenant's usage. Raises RateLimited."""
    if rate is not None:
        rate.check()
    if principal.tenant is not None:
        REQUESTS.count(principal.tenant.pk)


def headers(rate: Rate) -> dict[str, str]:
    """What the answer tells."""
    told = (rate.limit, rate.n_left, rate.window.reset_seconds)
    return {name: str(number) for name, number in zip(HEADERS, told, strict=True)}
