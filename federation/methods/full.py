"""The settings of full fine-tuning; its learning code is `training_workers.methods.full`."""

from typing import ClassVar, Literal

from federation.methods.method import MethodSection


class FullSettings(MethodSection):
    """Full fine-tuning of a small base: every weight is trained, and travels with every update."""

    # Twelve steps at the default rate move SmolLM2-135M by 0.0007; a thousand at most by 0.06.
    default_max_relative_norm: ClassVar[float] = 0.06
    default_learning_rate: ClassVar[float] = 2e-5
    is_whole_model: ClassVar[bool] = True

    kind: Literal["full"]
