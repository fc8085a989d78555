"""The settings of prompt tuning; its learning code is `training_workers.methods.prompt`."""

from typing import ClassVar, Literal

from pydantic import Field

from federation.methods.method import MethodSection
from federation.sections import Text


class PromptSettings(MethodSection):
    """Soft prompt tuning (Lester et al. 2021, arXiv 2104.08691), started from the embeddings of a public text."""

    # Twelve steps at the default rate are at 0.16, at four times that rate at 0.67.
    default_max_relative_norm: ClassVar[float] = 1.0
    default_learning_rate: ClassVar[float] = 5e-3

    kind: Literal["prompt"]
    n_virtual_tokens: int = Field(16, ge=1, le=512, description="Virtual tokens before the input's own.")
    start_text: Text = Field(
        min_length=1, max_length=20_000, pattern=r"\S", description="Public text; never a tenant's."
    )
