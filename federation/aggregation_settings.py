"""Settings of aggregation rules, server optimizers and travel, without NumPy: what the web knows of aggregation."""

from typing import Annotated, Literal

from pydantic import Field

from federation.sections import Section

WireDtype = Literal["float32", "float16", "int8", "int4"]
BroadcastDtype = Literal["float32", "float16", "int8"]


class WeightedMean(Section):
    """FedAvg (McMahan et al. 2017, arXiv 1602.05629): the mean by numbers of examples."""

    kind: Literal["weighted_mean"]

    @property
    def n_needed(self) -> int:
        """One update is a mean."""
        return 1


class Median(Section):
    """Coordinate-wise median (Yin et al. 2018, arXiv 1803.01498), by heads."""

    kind: Literal["median"]

    @property
    def n_needed(self) -> int:
        """The median of two is their mean."""
        return 3


class TrimmedMean(Section):
    """Coordinate-wise trimmed mean (Yin et al. 2018, arXiv 1803.01498), by heads."""

    kind: Literal["trimmed_mean"]
    n_trimmed: int = Field(ge=1, le=50_000, description="Values left out at each end.")

    @property
    def n_needed(self) -> int:
        """One value is left."""
        return 2 * self.n_trimmed + 1


class Krum(Section):
    """Krum (Blanchard et al. 2017, arXiv 1703.02757): the one update that is nearest to its neighbours."""

    kind: Literal["krum"]
    n_byzantine: int = Field(ge=1, le=50_000, description="Bad updates that may be among them.")

    @property
    def n_needed(self) -> int:
        """The paper's condition."""
        return 2 * self.n_byzantine + 3


class MultiKrum(Section):
    """Multi-Krum (Blanchard et al. 2017, arXiv 1703.02757): the plain mean of the best by Krum's score."""

    kind: Literal["multi_krum"]
    n_byzantine: int = Field(ge=1, le=50_000, description="Bad updates that may be among them.")
    n_selected: int = Field(ge=1, le=50_000, description="Updates whose mean is taken.")

    @property
    def n_needed(self) -> int:
        """Krum's condition, and no more selected than the neighbours that each is judged by."""
        return max(2 * self.n_byzantine + 3, self.n_byzantine + 2 + self.n_selected)


class NormClipping(Section):
    """The mean by numbers of examples, of updates scaled down to a norm (Sun et al. 2019, arXiv 1911.07963)."""

    kind: Literal["norm_clipping"]
    max_norm: float = Field(gt=0, le=1e9, description="The L2 norm that no update exceeds.")

    @property
    def n_needed(self) -> int:
        """One update is a mean."""
        return 1


Rule = Annotated[
    WeightedMean | Median | TrimmedMean | Krum | MultiKrum | NormClipping, Field(discriminator="kind")
]
"""How accepted updates become one change. `n_needed`: the fewest that it works on."""


class FedAvgM(Section):
    """Server momentum (Hsu et al. 2019, arXiv 1909.06335)."""

    kind: Literal["fedavgm"]
    learning_rate: float = Field(1.0, gt=0, le=10)
    momentum: float = Field(0.9, ge=0, lt=1)


class FedAdam(Section):
    """Server Adam (Reddi et al. 2020, arXiv 2003.00295), with Adam's correction of the first steps.

    The rate that helps differs from one base model to another: choose it on held-out scores.
    """

    kind: Literal["fedadam"]
    learning_rate: float = Field(0.06, gt=0, le=10)
    beta_1: float = Field(0.9, ge=0, lt=1)
    beta_2: float = Field(0.99, ge=0, lt=1)
    epsilon: float = Field(1e-6, gt=0, le=1)


class FedYogi(Section):
    """Server Yogi (Reddi et al. 2020, arXiv 2003.00295)."""

    kind: Literal["fedyogi"]
    learning_rate: float = Field(0.01, gt=0, le=10)
    beta_1: float = Field(0.9, ge=0, lt=1)
    beta_2: float = Field(0.99, ge=0, lt=1)
    epsilon: float = Field(1e-3, gt=0, le=1)


Server = Annotated[FedAvgM | FedAdam | FedYogi, Field(discriminator="kind")]
"""How the change becomes a step: an optimizer whose gradient is the change's opposite."""
