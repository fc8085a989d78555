"""Presets: whole specifications that hold up, each with the campaign that goes with it and why, to start from."""

from dataclasses import dataclass
from typing import Final

from federation.specification import EXAMPLE, FederationSpecification


@dataclass(frozen=True)
class CampaignRules:
    """What a campaign is started with."""

    n_rounds: int
    patience: int | None
    evaluate_every: int


@dataclass(frozen=True)
class Preset:
    """An example to change the task of; the rest of it was measured together."""

    name: str
    description: str
    specification: FederationSpecification
    campaign: CampaignRules


PRESETS: Final = (
    Preset(
        name="default",
        description="Many short rounds: between two averages no tenant trains long enough to drift from the others. "
        "No classification head is trained or shipped, the model answers with label words; updates are weighted by "
        "examples; the campaign publishes the best version by held-out rows.",
        specification=EXAMPLE,
        campaign=CampaignRules(n_rounds=12, patience=None, evaluate_every=1),
    ),
)
"""In the order in which they are offered."""
