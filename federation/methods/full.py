"""The settings of full fine-tuning; its learning code is `training_workers.methods.full`."""

from typing import ClassVar, Literal

from federation.methods.method import MethodSection


class FullSettings(MethodSection):
    """Full fine-tuning of a small base: every weight is trained, and travels with every update."""

    default_max_relative_norm: ClassVar[float] = 0.1
    is_whole_model: ClassVar[bool] = True

    kind: Literal["full"]
