"""Base models over HTTP."""

import pytest
from pytest_django import DjangoCaptureOnCommitCallbacks
from rest_framework.test import APIClient

from federation.states import BaseModelState
from tests.api.problems import assert_same_as_unknown, faults, problem
from tests.conftest import Message
from tests.factories import BaseModelFactory

pytestmark = pytest.mark.django_db
PATH = "/api/v1/base-models"
BODY = {"name": "tiny", "directory": "tiny", "source": "made here", "licence": "Apache-2.0"}


def test_an_operator_registers_a_directory_and_a_worker_is_woken(
    operator_client: APIClient,
    sent_messages: list[Message],
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        made = operator_client.post(PATH, BODY, format="json")
    assert made.status_code == 201
    body = made.json()
    assert {name: body[name] for name in BODY} == BODY
    assert (body["state"], body["refusal"], body["facts"]) == ("registering", None, {})
    assert sent_messages == [Message("training_workers.work", [], "gpu")]
    assert operator_client.get(f"{PATH}/{body['id']}").json() == body


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"directory": "../secrets"}, "base_model_directory_invalid"),
        ({"directory": "/etc"}, "base_model_directory_invalid"),
    ],
)
def test_a_directory_outside_of_the_root(
    operator_client: APIClient, changed: dict[str, str], code: str
) -> None:
    problem(operator_client.post(PATH, {**BODY, **changed}, format="json"), 422, code)
    assert operator_client.get(PATH).json()["results"] == []


def test_bad_input(operator_client: APIClient) -> None:
    expected = {("source", "required"), ("licence", "blank")}
    sent = {"name": "a", "directory": "a", "licence": " "}
    assert faults(operator_client.post(PATH, sent, format="json")) == expected


def test_a_name_is_given_once(operator_client: APIClient) -> None:
    operator_client.post(PATH, BODY, format="json")
    problem(operator_client.post(PATH, BODY, format="json"), 409, "base_model_name_taken")
    assert len(operator_client.get(PATH).json()["results"]) == 1


def test_a_refusal_is_told_with_its_code(operator_client: APIClient) -> None:
    refused = BaseModelFactory.create(
        state=BaseModelState.REFUSED, refusal_code="base_model_broken", state_reason="No config.json."
    )
    body = operator_client.get(f"{PATH}/{refused.public_id}").json()
    assert body["refusal"] == {"code": "base_model_broken", "detail": "No config.json."}


def test_a_tenant_sees_those_that_are_ready_and_registers_none(acme_client: APIClient) -> None:
    ready = BaseModelFactory.create()
    hidden = BaseModelFactory.create(state=BaseModelState.REGISTERING)
    assert [row["id"] for row in acme_client.get(PATH).json()["results"]] == [ready.public_id]
    assert acme_client.get(f"{PATH}/{ready.public_id}").json()["facts"]["n_layers"] == 2
    assert_same_as_unknown(acme_client, PATH + "/{}", hidden.public_id)
    problem(acme_client.post(PATH, BODY, format="json"), 403, "operator_only")
