"""The settings of prefix-tuning; its learning code is `training_workers.methods.prefix`."""

from typing import ClassVar, Literal

from pydantic import Field

from federation.methods.method import MethodSection
from federation.sections import Text


class PrefixSettings(MethodSection):
    """Prefix-tuning (Li and Liang 2021, arXiv 2101.00190), started from the key-values of a public text."""

    # Honest updates are at about 0.02; from about 0.3 on, a mean of prefixes no longer acts like its parts.
    default_max_relative_norm: ClassVar[float] = 0.3
    default_learning_rate: ClassVar[float] = 5e-3

    kind: Literal["prefix"]
    n_virtual_tokens: int = Field(
        16, ge=1, le=512, description="Virtual tokens before each layer's keys and values."
    )
    start_text: Text = Field(
        min_length=1, max_length=20_000, pattern=r"\S", description="Public text; never a tenant's."
    )
