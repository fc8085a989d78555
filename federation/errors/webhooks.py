"""Refusals about webhooks."""

from tenants.errors import PreludeError


class WebhookUrlInvalid(PreludeError):
    """The URL is not one that messages are sent to."""

    code = "webhook_url_invalid"

    def __init__(self, *, field: str, problem: str) -> None:
        self.field = field
        super().__init__(f"The webhook's URL cannot be used: {problem}.")


class WebhookKindUnknown(PreludeError):
    """No event is of this kind."""

    code = "webhook_kind_unknown"

    def __init__(self, *, field: str, kind: str) -> None:
        self.field = field
        super().__init__(f"No event has the kind {kind!r}; kinds are such as round.published.")


class WebhookLimitReached(PreludeError):
    """Each event is written once for each webhook, so that their number is bounded."""

    code = "webhook_limit_reached"

    def __init__(self, *, limit: int) -> None:
        super().__init__(f"There are {limit} webhooks already, the limit; delete one first.")


class WebhookDisabled(PreludeError):
    """Nothing is sent to a disabled webhook."""

    code = "webhook_disabled"

    def __init__(self, *, webhook_id: str) -> None:
        super().__init__(f"Webhook {webhook_id} is disabled; make it active first.")


class AddressNotReachable(PreludeError):
    """A name of a webhook's URL has an address inside some network; which one, its owner is not told."""

    code = "address_not_reachable"

    def __init__(self, *, host: str) -> None:
        super().__init__(f"{host} has an address that is not public, and is not connected to.")
