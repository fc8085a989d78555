"""From a parent version and a round's updates to a candidate, columns by columns: files in, files out.

The same files give the same bytes. What tenants trained from is the *iterate*; where an average of past versions is
kept, that is the version (scored, published), and the iterate is a part of the server's state; otherwise the iterate is
the version itself.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from federation.aggregation.columns import (
    ROW_BYTES,
    Beat,
    Columns,
    Updates,
    Vector,
    columns_of,
    nothing,
    sends_all,
    shapes_of,
)
from federation.aggregation.files import TensorFile, TensorWriter, Values, numpy_dtype, open_version
from federation.aggregation.headers import TensorKind
from federation.aggregation.rules import changes
from federation.aggregation.servers import slots_of, take_step
from federation.aggregation.weights import checked_weights
from federation.aggregation.wire import GROUP, VERSION_METADATA, pack, scale_name, wire_kinds
from federation.aggregation_settings import BroadcastDtype, Rule, Server, WireDtype
from federation.errors import AggregateNotFinite

_ITERATE: Final = "iterate"
_STEP: Final = "step"
_STATE_DTYPE: Final = "F32"


@dataclass(frozen=True)
class WeightedUpdate:
    """An accepted update's file, and how much it counts."""

    path: Path
    weight: float


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How updates become a version, as the federation's specification has it.

    `sends` tells which of a version's tensors its updates hold; the others are copied.
    """

    rule: Rule
    server: Server | None = None
    average_decay: float | None = None
    upload_dtype: WireDtype = "float32"
    broadcast_dtype: BroadcastDtype = "float32"
    sends: Callable[[str], bool] = sends_all

    @property
    def state_slots(self) -> tuple[str, ...]:
        """What is kept beside a version for the next step, for each tensor that is sent."""
        return (*slots_of(self.server), *(() if self.average_decay is None else (_ITERATE,)))


@dataclass(frozen=True)
class Candidate:
    """A candidate's files. `broadcast`: what tenants train from; `server_state`: none where nothing is kept."""

    version: Path
    broadcast: Path
    server_state: Path | None


def combine(
    *,
    version: Path,
    server_state: Path | None,
    updates: Sequence[WeightedUpdate],
    recipe: Recipe,
    directory: Path,
    beat: Beat = nothing,
) -> Candidate:
    """Write the candidate that follows from a parent version, with its own server state, and these updates.

    Sums are kept in float64 and cast once. `beat` is called with each row that is read.

    Raises:
        NothingToAggregate, TooFewUpdates: there are not as many updates as the rule needs.
        WeightInvalid: a weight is not positive and finite, or their sum is not finite.
        UpdateRefused: an update has other tensors than the parent, or a value that is not finite.
        AggregateNotFinite: a result does not fit into its dtype.
    """
    weights = checked_weights([update.weight for update in updates])
    parent = open_version(version)
    shapes = shapes_of(parent, recipe.sends)
    kinds = wire_kinds(shapes, recipe.upload_dtype)
    files = [TensorFile.open(update.path, kinds) for update in updates]
    n_values = {name: parent.kinds[name].n_values for name in shapes}
    read = Updates(files, n_values, recipe.upload_dtype, beat)
    with ExitStack() as stack:
        step = _Step(parent, server_state, recipe, n_values, directory, stack)
        for columns, change in changes(recipe.rule, read, weights):
            step.move(columns, change)
        step.copy_unsent()
        return step.candidate


class _Step:
    """The parent's files, and the candidate's while they are written."""

    def __init__(
        self,
        parent: TensorFile,
        server_state: Path | None,
        recipe: Recipe,
        n_values: Mapping[str, int],
        directory: Path,
        stack: ExitStack,
    ) -> None:
        self._parent = parent
        self._recipe = recipe
        self._n_values = n_values
        self._before = None if server_state is None else open_version(server_state)
        self._number = 1 if self._before is None else int(self._before.metadata[_STEP]) + 1
        self._version = _Target(stack, directory / "version", parent.kinds, VERSION_METADATA)
        self._state = self._open_state(stack, directory / "server_state") if recipe.state_slots else None
        self._broadcast = self._open_broadcast(stack, directory / "broadcast")

    def _open_state(self, stack: ExitStack, path: Path) -> "_Target":
        kinds = {
            _slot(slot, name): TensorKind(_STATE_DTYPE, self._parent.kinds[name].shape)
            for name in self._n_values
            for slot in self._recipe.state_slots
        }
        return _Target(stack, path, kinds, {_STEP: str(self._number)})

    def _open_broadcast(self, stack: ExitStack, path: Path) -> "_Target | None":
        """A file of its own only where it would differ from the version."""
        if self._recipe.average_decay is None and self._recipe.broadcast_dtype == "float32":
            return None
        shapes = {name: kind.shape for name, kind in self._parent.kinds.items()}
        return _Target(stack, path, wire_kinds(shapes, self._recipe.broadcast_dtype), VERSION_METADATA)

    @property
    def candidate(self) -> Candidate:
        """The files, as far as they are written."""
        return Candidate(
            version=self._version.path,
            broadcast=(self._broadcast or self._version).path,
            server_state=None if self._state is None else self._state.path,
        )

    def move(self, columns: Columns, change: Vector) -> None:
        """Take the step that these columns' change leads to."""
        recipe, old = self._recipe, self._read_version(columns)
        with np.errstate(over="ignore", invalid="ignore"):  # whoever writes looks
            step, slots = take_step(recipe.server, change, self._read_slots(columns), self._number)
            moved = self._read_iterate(columns, old) + step
            decay = recipe.average_decay
            self._version.write(columns, moved if decay is None else decay * old + (1 - decay) * moved)
        self._write_state(columns, slots if decay is None else {**slots, _ITERATE: moved})
        self._write_broadcast(columns, moved)

    def copy_unsent(self) -> None:
        """Tensors that updates do not hold stay as they are."""
        unsent = {
            name: kind.n_values for name, kind in self._parent.kinds.items() if name not in self._n_values
        }
        for columns in columns_of(unsent, n_bytes=ROW_BYTES):
            values = self._read_version(columns)
            self._version.write(columns, values)
            self._write_broadcast(columns, values)

    def _read_version(self, columns: Columns) -> Vector:
        return self._parent.read(columns.name, columns.start, columns.stop).astype(np.float64)

    def _read_slots(self, columns: Columns) -> dict[str, Vector]:
        zeros = np.zeros(columns.stop - columns.start)
        return {slot: self._read_slot(slot, columns, zeros) for slot in slots_of(self._recipe.server)}

    def _read_iterate(self, columns: Columns, version: Vector) -> Vector:
        """The start version is both: nothing was averaged yet."""
        return version if self._recipe.average_decay is None else self._read_slot(_ITERATE, columns, version)

    def _read_slot(self, slot: str, columns: Columns, start: Vector) -> Vector:
        if self._before is None:
            return start
        return self._before.read(_slot(slot, columns.name), columns.start, columns.stop).astype(np.float64)

    def _write_state(self, columns: Columns, slots: Mapping[str, Vector]) -> None:
        if self._state is not None:
            for slot, values in slots.items():
                self._state.write(Columns(_slot(slot, columns.name), columns.start, columns.stop), values)

    def _write_broadcast(self, columns: Columns, iterate: Vector) -> None:
        if self._broadcast is not None:
            self._broadcast.write_packed(columns, iterate, self._recipe.broadcast_dtype)


class _Target:
    """A file in writing, which takes nothing that does not fit into its dtypes."""

    def __init__(
        self, stack: ExitStack, path: Path, kinds: Mapping[str, TensorKind], metadata: Mapping[str, str]
    ) -> None:
        self.path = path
        self._dtypes = {name: numpy_dtype(kind.dtype) for name, kind in kinds.items()}
        self._writer = stack.enter_context(TensorWriter(path, kinds, metadata))

    def write(self, columns: Columns, values: Vector) -> None:
        """Cast once, and write. Raises AggregateNotFinite."""
        dtype = self._dtypes[columns.name]
        with np.errstate(over="ignore", invalid="ignore"):
            cast: Values = values.astype(dtype)
        if not np.isfinite(cast).all():
            raise AggregateNotFinite(name=columns.name, dtype=dtype.name)
        self._writer.write(columns.name, columns.start, cast)

    def write_packed(self, columns: Columns, values: Vector, dtype: BroadcastDtype) -> None:
        """Write as the values travel. Raises AggregateNotFinite."""
        packed = pack(values, dtype)
        if not packed.is_finite:
            raise AggregateNotFinite(name=columns.name, dtype=dtype)
        self._writer.write(columns.name, columns.start, packed.codes)
        if packed.scales is not None:
            self._writer.write(scale_name(columns.name), columns.start // GROUP, packed.scales)


def _slot(slot: str, name: str) -> str:
    return f"{slot}:{name}"
