"""Presets over HTTP: what is answered can be sent back."""

import pytest
from rest_framework.test import APIClient

from tests.factories import BaseModelFactory

pytestmark = pytest.mark.django_db


def test_a_federation_is_made_from_a_preset_as_it_was_answered(
    operator_client: APIClient, acme_client: APIClient
) -> None:
    presets = operator_client.get("/api/v1/federation-presets").json()["results"]
    assert acme_client.get("/api/v1/federation-presets").json()["results"] == presets
    assert presets[0]["name"] == "default"
    for preset in presets:
        body = {
            "name": preset["name"],
            "base_model": BaseModelFactory.create().public_id,
            "specification": preset["specification"],
        }
        made = operator_client.post("/api/v1/federations", body, format="json")
        assert made.status_code == 201, made.content
        assert made.json()["specification"] == preset["specification"]
        assert set(preset["campaign"]) == {"n_rounds", "patience", "evaluate_every"}
