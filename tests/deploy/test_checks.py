"""System checks of settings that are unsound together."""

from typing import Any

import pytest
from django.conf import settings

from deploy.checks import check_environment, environment_problems
from deploy.settings.environment import Environment

SOUND = {
    "storage_root": "/srv/blobs",
    "storage_bucket": None,
    "allowed_hosts": "prelude.example",
    "public_url": "https://prelude.example",
    "https_only": True,
    "debug": False,
    "oidc_issuer": "",
}


def environment(**changes: Any) -> Environment:
    """Like the tests' own environment, but for what a check looks at."""
    own: Environment = settings.ENVIRONMENT
    return own.model_copy(update=SOUND | changes)


def test_the_tests_own_environment_is_sound() -> None:
    assert check_environment() == []


@pytest.mark.parametrize(
    ("changes", "problems"),
    [
        ({}, []),
        ({"storage_root": None, "storage_bucket": "blobs", "storage_endpoint_url": "http://s3"}, []),
        ({"debug": True}, ["deploy.E002"]),
        ({"debug": True, "https_only": False, "public_url": ""}, []),
        ({"https_only": False}, ["deploy.E003"]),
        ({"fail_points": "/tmp/armed"}, ["deploy.E006"]),
        ({"fail_points": "/tmp/armed", "https_only": False, "public_url": ""}, []),
        ({"storage_endpoint_url": "http://s3"}, ["deploy.W001"]),
        ({"allowed_hosts": ""}, ["deploy.W002"]),
        ({"oidc_issuer": "https://sign-in.example"}, []),
        ({"oidc_issuer": "https://sign-in.example", "oidc_client_id": ""}, ["deploy.E004"]),
        ({"oidc_issuer": "http://sign-in.example"}, ["deploy.E005"]),
    ],
)
def test_variables_that_do_not_fit_are_told(changes: dict[str, Any], problems: list[str]) -> None:
    assert [problem.id for problem in environment_problems(environment(**changes))] == problems
