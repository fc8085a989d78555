"""Device, number format and threads of a trainer: chosen once, with the reason."""

import os
import time
from dataclasses import dataclass

import structlog
import torch

from training_workers.errors import RuntimeSettingInvalid

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# bfloat16 costs accuracy: it must be clearly faster, not just luckier in one probe.
WORTHWHILE_SPEED_UP = 1.25

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Runtime:
    """Where and in which number format the base model's forward and backward pass run."""

    device: torch.device
    dtype: torch.dtype
    n_threads: int
    reason: str

    @property
    def dtype_name(self) -> str:
        """The format's name without torch's prefix."""
        return str(self.dtype).removeprefix("torch.")


def choose_runtime() -> Runtime:
    """CUDA where there is one; bfloat16 where this very processor is clearly faster at it; all allowed cores.

    `PRELUDE_TRAINING_DTYPE` (float32 or bfloat16) and `PRELUDE_TRAINING_THREADS` decide where they are set.

    Raises:
        RuntimeSettingInvalid: one of the two is set to what cannot be used.
    """
    n_threads = _n_threads()
    torch.set_num_threads(n_threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype, reason = _dtype(device)
    runtime = Runtime(device=device, dtype=dtype, n_threads=n_threads, reason=f"{device.type}: {reason}")
    log.info(
        "training_workers.runtime_chosen",
        device=device.type,
        dtype=runtime.dtype_name,
        n_threads=n_threads,
        reason=runtime.reason,
    )
    return runtime


def make_deterministic(seed: int) -> None:
    """The same seed gives the same numbers on the same machine; operations without such a form only warn."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # It would also fill every new tensor, to give wrong reads away: thousands of writes a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def _n_threads() -> int:
    wanted = os.environ.get("PRELUDE_TRAINING_THREADS")
    if not wanted:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not wanted.isdigit() or int(wanted) < 1:
        raise RuntimeSettingInvalid(
            variable="PRELUDE_TRAINING_THREADS", value=wanted, allowed="a number from 1 up"
        )
    return int(wanted)


def _dtype(device: torch.device) -> tuple[torch.dtype, str]:
    wanted = os.environ.get("PRELUDE_TRAINING_DTYPE")
    if wanted:
        if wanted not in DTYPES:
            raise RuntimeSettingInvalid(
                variable="PRELUDE_TRAINING_DTYPE", value=wanted, allowed=" or ".join(DTYPES)
            )
        return DTYPES[wanted], f"PRELUDE_TRAINING_DTYPE is {wanted}"
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16, "the GPU computes in bfloat16"
        return torch.float32, "the GPU has no bfloat16"
    speed_up = _bfloat16_speed_up()
    reason = f"a training-like product is {speed_up:.1f} times as fast in bfloat16 as in float32"
    return (torch.bfloat16 if speed_up >= WORTHWHILE_SPEED_UP else torch.float32), reason


def _bfloat16_speed_up() -> float:
    """A forward and a backward product's time in float32 by that in bfloat16; best of interleaved tries."""
    best = {torch.float32: float("inf"), torch.bfloat16: float("inf")}
    operands = {
        dtype: (torch.ones(256, 768, dtype=dtype), torch.ones(768, 2048, dtype=dtype)) for dtype in best
    }
    for _ in range(6):
        for dtype, (left, right) in operands.items():
            started_at = time.perf_counter()
            torch.mm(torch.mm(left, right), right.t())
            best[dtype] = min(best[dtype], time.perf_counter() - started_at)
    return best[torch.float32] / best[torch.bfloat16]
