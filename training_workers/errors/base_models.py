"""Base models that cannot be used."""

from collections.abc import Sequence

from tenants.errors import PreludeError


class BaseModelRefusal(PreludeError):
    """A directory that cannot serve as a base model."""

    code = "base_model_refused"


class BaseModelNotFound(BaseModelRefusal):
    """The directory does not exist."""

    code = "base_model_not_found"

    def __init__(self, *, directory: str) -> None:
        super().__init__(
            f"There is no directory {directory!r}; a base model is a directory in Hugging Face's layout."
        )


class BaseModelFileMissing(BaseModelRefusal):
    """A file that every base model has is not there."""

    code = "base_model_file_missing"

    def __init__(self, *, directory: str, file_name: str) -> None:
        super().__init__(f"The base model {directory!r} has no {file_name}; it is needed.")


class BaseModelBroken(BaseModelRefusal):
    """A file of the base model cannot be read."""

    code = "base_model_broken"

    def __init__(self, *, directory: str, file_name: str, reason: str) -> None:
        super().__init__(f"The file {file_name} of the base model {directory!r} cannot be read: {reason}")


class WeightsPickled(BaseModelRefusal):
    """Weights as a pickle can run code when they are opened: they never are."""

    code = "weights_pickled"

    def __init__(self, *, directory: str, file_name: str) -> None:
        super().__init__(
            f"The base model {directory!r} has its weights in the pickle {file_name}; "
            "only safetensors is read."
        )


class ArchitectureUnsupported(BaseModelRefusal):
    """Not a language model whose keys and values can be prefixed."""

    code = "architecture_unsupported"

    def __init__(self, *, architecture: str, supported: Sequence[str]) -> None:
        super().__init__(
            f"The architecture {architecture!r} is not supported; supported are {', '.join(supported)}."
        )


class BaseModelDigestMismatch(BaseModelRefusal):
    """The directory holds other bytes than the ones that were registered."""

    code = "base_model_digest_mismatch"

    def __init__(self, *, directory: str, part: str, expected: str, found: str) -> None:
        super().__init__(
            f"The {part} in {directory!r} have the digest {found[:16]}… and not {expected[:16]}…, "
            "with which the base model was registered."
        )


class BaseModelTooLarge(PreludeError):
    """A base model that is too large for the method."""

    code = "base_model_too_large"

    def __init__(self, *, method: str, n_parameters: int, limit: int) -> None:
        super().__init__(
            f"The base model has {n_parameters} parameters; the method {method} takes up to {limit}."
        )
