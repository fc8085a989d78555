"""Presets: whole specifications that hold up, each with the campaign that goes with it and why, to start from."""

from dataclasses import dataclass
from typing import Final

from federation.aggregation_settings import FedAdam
from federation.specification import EXAMPLE, Aggregation, FederationSpecification, Training, Upload


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
    Preset(
        name="heavy-skew",
        description="For tenants that hardly share a label: very short rounds of plain SGD, whose updates the server's "
        "Adam takes for gradients, and a running average of the versions. Updates travel in 4 bits, which cost 0.3 "
        "points with this recipe. Choose the server's learning rate on held-out rows of your own: it differs from one "
        "base model to another, and 0.06, which led with MiniLM, did not carry over to SmolLM2.",
        specification=EXAMPLE.model_copy(
            update={
                "training": Training(optimizer="sgd", learning_rate=1.0, n_steps=2, gradient_clip=1.0),
                "aggregation": Aggregation(
                    server=FedAdam(kind="fedadam", learning_rate=0.06, beta_1=0.9, beta_2=0.99, epsilon=1e-6),
                    average_decay=0.8,
                ),
                "upload": Upload(dtype="int4"),
            }
        ),
        campaign=CampaignRules(n_rounds=30, patience=None, evaluate_every=3),
    ),
)
"""In the order in which they are offered."""
