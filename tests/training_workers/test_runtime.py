"""The choice of number format and threads, and its reasons."""

import pytest
import torch

from training_workers.errors import RuntimeSettingInvalid
from training_workers.runtime import choose_runtime, make_deterministic


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRELUDE_TRAINING_THREADS", "1")
    monkeypatch.delenv("PRELUDE_TRAINING_DTYPE", raising=False)


def test_the_reason_says_what_was_measured() -> None:
    runtime = choose_runtime()
    assert runtime.dtype in (torch.float32, torch.bfloat16)
    assert runtime.n_threads == torch.get_num_threads() == 1
    assert runtime.reason.startswith(f"{runtime.device.type}: ")


@pytest.mark.parametrize(("name", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch, name: str, dtype: torch.dtype) -> None:
    monkeypatch.setenv("PRELUDE_TRAINING_DTYPE", name)
    runtime = choose_runtime()
    assert (runtime.dtype, runtime.dtype_name) == (dtype, name)
    assert "PRELUDE_TRAINING_DTYPE" in runtime.reason


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PRELUDE_TRAINING_DTYPE", "float16"),
        ("PRELUDE_TRAINING_THREADS", "0"),
        ("PRELUDE_TRAINING_THREADS", "many"),
    ],
)
def test_a_wrong_setting_is_refused(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(RuntimeSettingInvalid, match=variable):
        choose_runtime()


def test_a_seed_decides_random_numbers() -> None:
    make_deterministic(3)
    first = torch.rand(4)
    make_deterministic(3)
    assert torch.equal(first, torch.rand(4))
    assert torch.are_deterministic_algorithms_enabled()


def test_new_tensors_are_not_filled_for_determinisms_sake() -> None:
    make_deterministic(0)
    assert not torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
