"""Reading problem bodies."""

from typing import Any

from rest_framework.test import APIClient


def problem(response: Any, status: int, code: str) -> dict[str, Any]:
    """The body of an error answer, whose shape is checked."""
    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["code"] == code, body
    assert body["status"] == status
    assert body["type"] == f"urn:prelude:problem:{code}"
    assert body["title"]
    assert body["detail"]
    assert body["request_id"] == response["X-Request-ID"]
    return body


def faults(response: Any) -> set[tuple[str, str]]:
    """(field, code) of a body that is not valid."""
    return {(fault["field"], fault["code"]) for fault in problem(response, 422, "invalid")["errors"]}


def assert_same_as_unknown(client: APIClient, path: str, public_id: str, **send: Any) -> None:
    """Another tenant's object answers exactly as one that never was: but for the id that was asked for."""
    unknown = f"{public_id.partition('_')[0]}_{'0' * 26}"
    method = send.pop("method", "get")
    hidden = problem(getattr(client, method)(path.format(public_id), **send), 404, "not_found")
    missing = problem(getattr(client, method)(path.format(unknown), **send), 404, "not_found")
    hidden_detail, missing_detail = hidden.pop("detail"), missing.pop("detail")
    assert hidden_detail.replace(public_id, unknown) == missing_detail
    del hidden["request_id"], missing["request_id"]
    assert hidden == missing
