"""System checks of settings that are sound alone and unsound together."""

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core import checks

from deploy.settings.environment import Environment


@checks.register(checks.Tags.security)
def check_environment(**_: Any) -> list[checks.CheckMessage]:
    """Whether the environment's variables fit each other."""
    return list(environment_problems(settings.ENVIRONMENT))


def environment_problems(environment: Environment) -> Iterator[checks.CheckMessage]:
    """What does not fit."""
    if environment.debug and environment.https_only:
        yield checks.Error(
            "Debugging pages show settings and data to whoever meets an error; this is set up as a public site.",
            hint="Set PRELUDE_DEBUG to false, or PRELUDE_HTTPS_ONLY to false on a developer's machine.",
            id="deploy.E002",
        )
    if not environment.https_only and environment.public_url.startswith("https://"):
        yield checks.Error(
            "The public address is https, and cookies and keys may yet travel in the clear.",
            hint="Set PRELUDE_HTTPS_ONLY to true.",
            id="deploy.E003",
        )
    if environment.oidc_issuer and not (
        environment.oidc_client_id and environment.oidc_client_secret.get_secret_value()
    ):
        yield checks.Error(
            "An OpenID provider is named, and nothing that it knows this platform by.",
            hint="Set PRELUDE_OIDC_CLIENT_ID and PRELUDE_OIDC_CLIENT_SECRET, or leave PRELUDE_OIDC_ISSUER out.",
            id="deploy.E004",
        )
    if environment.https_only and environment.oidc_issuer.startswith("http://"):
        yield checks.Error(
            "Whoever is between here and the OpenID provider could sign in as anybody: its address is not https.",
            hint="Set PRELUDE_OIDC_ISSUER to an https address.",
            id="deploy.E005",
        )
    if environment.fail_points is not None and environment.https_only:
        yield checks.Error(
            "Processes may be killed at the fail points of a round; this is set up as a public site.",
            hint="Unset PRELUDE_FAIL_POINTS: it is for the fault loops alone.",
            id="deploy.E006",
        )
    if environment.storage_endpoint_url and not environment.storage_bucket:
        yield checks.Warning(
            "PRELUDE_STORAGE_ENDPOINT_URL says where a bucket is, and there is no bucket.",
            hint="Set PRELUDE_STORAGE_BUCKET, or leave the endpoint out.",
            id="deploy.W001",
        )
    if not environment.debug and not environment.allowed_hosts:
        yield checks.Warning(
            "No host name is allowed: every request is answered with 400.",
            hint="Set PRELUDE_ALLOWED_HOSTS.",
            id="deploy.W002",
        )
