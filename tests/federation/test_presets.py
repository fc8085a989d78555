"""Presets are whole specifications, fit to be made into federations and campaigns as they stand."""

import pytest

from federation.models import Campaign
from federation.presets import PRESETS, Preset
from federation.specification import parse_specification


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_a_preset_is_what_a_caller_could_send(preset: Preset) -> None:
    assert parse_specification(preset.specification.as_json()) == preset.specification
    rules = preset.campaign
    campaign = Campaign(n_rounds=rules.n_rounds, patience=rules.patience, evaluate_every=rules.evaluate_every)
    assert campaign.evaluates(rules.n_rounds)
    assert preset.specification.training.n_steps * rules.n_rounds == 60  # as many as were measured
    assert preset.description


def test_names_tell_presets_apart() -> None:
    assert len({preset.name for preset in PRESETS}) == len(PRESETS)
