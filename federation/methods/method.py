"""What the settings of every method say."""

from typing import ClassVar

from federation.sections import Section


class MethodSection(Section):
    """A method's settings: what of a version it trains, and how far a tenant may move it."""

    # The most that an update's norm may be of its parent version's, where the specification does not say.
    default_max_relative_norm: ClassVar[float]
    # For AdamW, where the specification does not say.
    default_learning_rate: ClassVar[float]
    # A version is a model of its own, and no adapter beside the base.
    is_whole_model: ClassVar[bool] = False

    def sends(self, name: str) -> bool:  # noqa: ARG002 (others hold tensors that are never trained)
        """Whether this tensor of a version is trained, so that its change travels in an update."""
        return True
