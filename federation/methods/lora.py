"""The settings of LoRA; its learning code is `training_workers.methods.lora`."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from federation.methods.method import MethodSection

ModuleName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w*(\.\w+)*$", max_length=200)]


class LoraSettings(MethodSection):
    """LoRA (Hu et al. 2021, arXiv 2106.09685): a low-rank product B A is added to the base's linear modules.

    As FFA-LoRA (Sun et al. 2024, arXiv 2403.12313) by default: A is drawn from the federation's seed and stays, so that
    the mean of the products is the product of the means. With both factors trained it is not: the mean of B times the
    mean of A is off by the covariance of the tenants' changes.
    """

    # Against A, since B begins at zero: twelve steps at the default rate are at 0.24, with both factors at 0.34.
    default_max_relative_norm: ClassVar[float] = 1.0
    default_learning_rate: ClassVar[float] = 1e-3

    kind: Literal["lora"]
    rank: int = Field(8, ge=1, le=256, description="Columns of B and rows of A.")
    alpha: float = Field(16.0, gt=0, le=1_024, description="The product is multiplied by alpha / rank.")
    target_modules: list[ModuleName] | None = Field(
        None,
        min_length=1,
        max_length=50,
        description="Names of linear modules of the base, or the last parts of names, such as q_proj; "
        "null: the queries' and values' projections.",
    )
    freeze_a: bool = Field(
        True,
        description="Train and send B alone (FFA-LoRA), which averages exactly. If false, both factors are trained and "
        "averaged apart, and the mean of B times the mean of A is not the mean of B A.",
    )

    def sends(self, name: str) -> bool:
        """B, and A unless it is frozen."""
        return not self.freeze_a or name.endswith(".lora_B.weight")
