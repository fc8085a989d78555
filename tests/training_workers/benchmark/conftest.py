"""A task's texts, and two layers in the place of SmolLM2."""

from pathlib import Path

import pytest

from tests.training_workers.benchmark.made import TINY, write_texts
from tests.training_workers.tiny_model import make_tiny_base
from training_workers.benchmark.plan import BASES
from training_workers.benchmark.texts import Texts, read_texts
from training_workers.benchmark.workplace import Workplace


@pytest.fixture(scope="session")
def texts_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The texts of one task."""
    return write_texts(tmp_path_factory.mktemp("benchmark") / "texts")


@pytest.fixture(scope="session")
def bases_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers in the place of SmolLM2."""
    directory = tmp_path_factory.mktemp("benchmark") / "bases"
    make_tiny_base(directory / BASES["smollm2"])
    return directory


@pytest.fixture
def texts(texts_directory: Path) -> Texts:
    """The task's rows."""
    return read_texts(texts_directory / "sentiment", n_train=400, n_validation=16, n_test=16)


@pytest.fixture
def place(texts_directory: Path, bases_directory: Path) -> Workplace:
    """Texts and base, and small runs."""
    return Workplace(texts_directory, bases_directory, TINY)
