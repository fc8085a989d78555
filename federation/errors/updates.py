"""Why a tenant's update does not count, or no version comes of a round's: `federation.aggregation` raises them."""

from typing import ClassVar

from tenants.errors import PreludeError


class UpdateRefused(PreludeError):
    """A tenant's update may not count. One class per reason derives from this."""

    code = "update_refused"


class UpdateTooLarge(UpdateRefused):
    """More bytes than the parent version's tensors and a header can need; nothing of it was read."""

    code = "update_too_large"

    def __init__(self, *, size_bytes: int, max_bytes: int) -> None:
        super().__init__(
            f"The update has {size_bytes} bytes; for this parent version at most {max_bytes} are read."
        )


class UpdateTruncated(UpdateRefused):
    """The bytes end before what the header announces."""

    code = "update_truncated"

    def __init__(self, *, size_bytes: int, wanted_bytes: int) -> None:
        super().__init__(f"The update ends after {size_bytes} bytes; it announces {wanted_bytes}.")


class UpdateHeaderTooLarge(UpdateRefused):
    """The header is longer than any honest update needs."""

    code = "update_header_too_large"

    def __init__(self, *, header_bytes: int, max_bytes: int) -> None:
        super().__init__(f"The update's header has {header_bytes} bytes; at most {max_bytes} are read.")


class UpdateNotSafetensors(UpdateRefused):
    """The bytes are not a safetensors file."""

    code = "update_not_safetensors"

    def __init__(self, *, problem: str) -> None:
        super().__init__(f"The update is not a safetensors file: {problem}.")


class UpdateIsPickle(UpdateRefused):
    """A pickle, which could run code when it is loaded; it was not."""

    code = "update_is_pickle"

    def __init__(self) -> None:
        super().__init__("The update is a Python pickle. Only safetensors files are read; it was not loaded.")


class UpdateIsArchive(UpdateRefused):
    """A compressed archive, a PyTorch checkpoint among them; it was not unpacked."""

    code = "update_is_archive"

    def __init__(self, *, kind: str) -> None:
        super().__init__(
            f"The update is a {kind} archive. Only safetensors files are read; it was not unpacked."
        )


class UpdateNamesDiffer(UpdateRefused):
    """Not the same set of tensors as the parent version."""

    code = "update_names_differ"

    def __init__(self, *, missing: list[str], unknown: list[str]) -> None:
        super().__init__(
            f"The update's tensors are not the parent version's: {_listed(missing)} missing, "
            f"{_listed(unknown)} unknown."
        )


class UpdateShapeDiffers(UpdateRefused):
    """A tensor whose shape is not the parent version's; NumPy would broadcast some of these in silence."""

    code = "update_shape_differs"

    def __init__(self, *, name: str, found: tuple[int, ...], expected: tuple[int, ...]) -> None:
        super().__init__(
            f"Tensor {name!r} of the update has the shape {_shortened(found)}; {expected} is taken."
        )


class UpdateDtypeDiffers(UpdateRefused):
    """A tensor whose dtype is not the parent version's."""

    code = "update_dtype_differs"

    def __init__(self, *, name: str, found: str, expected: str) -> None:
        super().__init__(
            f"Tensor {name!r} of the update has the dtype {_shortened(found)}; {expected} is taken."
        )


class UpdateNotFinite(UpdateRefused):
    """A tensor holds a NaN or an infinity: one such value would ruin the mean of all tenants."""

    code = "update_not_finite"

    def __init__(self, *, name: str, n_values: int) -> None:
        super().__init__(
            f"Tensor {name!r} of the update holds {n_values} values that are NaN or infinite; none may be."
        )


class UpdateNormTooLarge(UpdateRefused):
    """The change is larger, against the parent version, than the federation allows."""

    code = "update_norm_too_large"

    def __init__(self, *, relative_norm: float, max_relative_norm: float) -> None:
        super().__init__(
            f"The update's norm is {relative_norm:.4g} of its parent version's; "
            f"at most {max_relative_norm:.4g} counts."
        )


class UpdateOriginDiffers(UpdateRefused):
    """The update's metadata do not name what was asked for. One class per field derives from this."""

    code = "update_wrong_origin"
    field: ClassVar[str] = "origin"

    def __init__(self, *, found: object, expected: str) -> None:
        super().__init__(f"The update names the {self.field} {_shortened(found)}; {expected!r} is taken.")


class UpdateFromWrongRound(UpdateOriginDiffers):
    """An update of another round: a replay, or one that came too late."""

    code = "update_wrong_round"
    field = "round"


class UpdateFromWrongTenant(UpdateOriginDiffers):
    """An update that another tenant made."""

    code = "update_wrong_tenant"
    field = "tenant"


class UpdateFromWrongAttempt(UpdateOriginDiffers):
    """An update of an attempt that does not hold the local run (any more)."""

    code = "update_wrong_attempt"
    field = "attempt"


class UpdateForWrongBase(UpdateOriginDiffers):
    """An update that was trained on another base model's weights."""

    code = "update_wrong_base"
    field = "base"


class UpdateForWrongParent(UpdateOriginDiffers):
    """An update against another prefix version than the round's parent."""

    code = "update_wrong_parent"
    field = "parent"


class WeightInvalid(PreludeError):
    """A weight that is not a positive, finite number, or a count of examples below one."""

    code = "weight_invalid"

    def __init__(self, *, weight: float) -> None:
        super().__init__(f"An update has the weight {weight}; weights are positive and finite.")


class NothingToAggregate(PreludeError):
    """An aggregation without a single update."""

    code = "nothing_to_aggregate"

    def __init__(self) -> None:
        super().__init__("No update was given to aggregate; at least one is needed.")


class TooFewUpdates(PreludeError):
    """A rule that withstands some bad updates needs enough good ones."""

    code = "too_few_updates"

    def __init__(self, *, rule: str, n_updates: int, n_needed: int) -> None:
        super().__init__(f"The rule {rule} works on {n_needed} updates or more; {n_updates} were accepted.")


class AggregateNotFinite(PreludeError):
    """The result does not fit into its dtype; the parent version stays."""

    code = "aggregate_not_finite"

    def __init__(self, *, name: str, dtype: str) -> None:
        super().__init__(
            f"The aggregated tensor {name!r} does not fit into {dtype}; nothing was made from it."
        )


_MAX_QUOTED = 80


def _shortened(value: object) -> str:
    """A value from outside, quoted and cut: error texts are stored and shown."""
    text = repr(value)
    return text if len(text) <= _MAX_QUOTED else text[:_MAX_QUOTED] + "…"


def _listed(names: list[str]) -> str:
    """Names for an error text: the first four, each quoted and cut."""
    if not names:
        return "none"
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(_shortened(name) for name in names[:4]) + more
