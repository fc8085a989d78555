"""A base model's directory, looked at without torch: what it is, and the digests that pin it.

A base model is a directory in Hugging Face's layout: `config.json`, weights as safetensors, tokenizer files.
The weights' digest covers every safetensors file, their index and `config.json` (the same numbers with
another configuration are another model); the tokenizer's digest covers the tokenizer's files.
"""

import hashlib
import json
import math
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from training_workers.errors import (
    ArchitectureUnsupported,
    BaseModelBroken,
    BaseModelDigestMismatch,
    BaseModelFileMissing,
    BaseModelNotFound,
    WeightsPickled,
)

CONFIG_FILE = "config.json"
INDEX_FILE = "model.safetensors.index.json"
TOKENIZER_FILES = (
    "added_tokens.json",
    "chat_template.jinja",
    "merges.txt",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
)
MAX_HEADER_BYTES = 100_000_000


@dataclass(frozen=True)
class Architecture:
    """How one family of language models is customized.

    A causal model writes its answer token by token; an encoder reads a text as a whole, and answers by what
    the text's embedding is near to.
    """

    class_name: str
    kind: Literal["causal", "encoder"] = "causal"
    # What the family's configuration means where it names no head size; None: hidden size by heads.
    default_head_size: int | None = None
    # The linear modules of its queries and values, which LoRA changes unless it is told others.
    attention_modules: tuple[str, ...] = ("q_proj", "v_proj")


# By `model_type`. Each is checked against plain PEFT in tests/training_workers/test_golden.py.
ARCHITECTURES: Mapping[str, Architecture] = {
    "bert": Architecture("BertModel", kind="encoder", attention_modules=("query", "value")),
    "gemma": Architecture("GemmaForCausalLM", default_head_size=256),
    "gemma2": Architecture("Gemma2ForCausalLM", default_head_size=256),
    "gemma3_text": Architecture("Gemma3ForCausalLM", default_head_size=256),
    "gpt2": Architecture("GPT2LMHeadModel", attention_modules=("c_attn",)),
    "gpt_neox": Architecture("GPTNeoXForCausalLM", attention_modules=("query_key_value",)),
    "llama": Architecture("LlamaForCausalLM"),
    "mistral": Architecture("MistralForCausalLM"),
    "opt": Architecture("OPTForCausalLM"),
    "qwen2": Architecture("Qwen2ForCausalLM"),
    "qwen3": Architecture("Qwen3ForCausalLM", default_head_size=128),
}


@dataclass(frozen=True)
class BaseModelFacts:
    """What the files say of a base model."""

    architecture: str
    model_type: str
    kind: str
    n_layers: int
    n_kv_heads: int
    head_size: int
    hidden_size: int
    vocabulary_size: int
    context_length: int
    n_parameters: int
    weights_bytes: int
    weights_sha256: str
    tokenizer_sha256: str

    @property
    def token_size(self) -> int:
        """Numbers that one position's keys take in one layer, and its values again."""
        return self.n_kv_heads * self.head_size

    @property
    def peft_task(self) -> str:
        """Which of PEFT's models it is wrapped in."""
        return "FEATURE_EXTRACTION" if self.kind == "encoder" else "CAUSAL_LM"

    def to_dict(self) -> dict[str, Any]:
        """The facts as JSON values."""
        return asdict(self)


def inspect_directory(directory: Path, *, on_file: Callable[[], None] = lambda: None) -> BaseModelFacts:
    """Reads what the directory holds, every byte of it once; `on_file` is called before each file's bytes.

    Raises:
        BaseModelRefusal: it is not there, is incomplete or broken, holds pickles, or is no supported
        architecture.
    """
    if not directory.is_dir():
        raise BaseModelNotFound(directory=str(directory))
    config = _read_json(directory, CONFIG_FILE)
    model_type = str(config.get("model_type"))
    architecture = _architecture(config, model_type)
    weights = _weight_files(directory)
    tokenizer = _tokenizer_files(directory)
    indexes = [path for path in (directory / INDEX_FILE,) if path.is_file()]
    return BaseModelFacts(
        architecture=architecture.class_name,
        model_type=model_type,
        kind=architecture.kind,
        **_sizes(directory, config, architecture),
        n_parameters=sum(_n_parameters(directory, path) for path in weights),
        weights_bytes=sum(path.stat().st_size for path in weights),
        weights_sha256=_digest([*weights, *indexes, directory / CONFIG_FILE], on_file),
        tokenizer_sha256=_digest(tokenizer, on_file),
    )


def refuse_other_digests(facts: BaseModelFacts, base: Mapping[str, str]) -> None:
    """Refuses a directory whose bytes are not those that were registered.

    Raises:
        BaseModelDigestMismatch: the weights or the tokenizer differ.
    """
    found = {"weights": facts.weights_sha256, "tokenizer": facts.tokenizer_sha256}
    for part, digest in found.items():
        expected = base[f"{part}_sha256"]
        if digest != expected:
            raise BaseModelDigestMismatch(directory=base["path"], part=part, expected=expected, found=digest)


def directory_stamp(directory: Path) -> tuple[tuple[str, int, int], ...]:
    """Name, size and time of every file: tells cheaply whether the digests must be taken again."""
    stamps = []
    for path in sorted(directory.iterdir()):
        status = path.stat()
        stamps.append((path.name, status.st_size, status.st_mtime_ns))
    return tuple(stamps)


def _architecture(config: Mapping[str, Any], model_type: str) -> Architecture:
    classes = config.get("architectures") or []
    known = ARCHITECTURES.get(model_type)
    if known is None or classes != [known.class_name]:
        found = f"{model_type} ({', '.join(map(str, classes)) or 'no class named'})"
        raise ArchitectureUnsupported(
            architecture=found, supported=[architecture.class_name for architecture in ARCHITECTURES.values()]
        )
    return known


def _sizes(directory: Path, config: Mapping[str, Any], architecture: Architecture) -> dict[str, int]:
    n_heads = _size(directory, config, "num_attention_heads", "n_head")
    hidden_size = _size(directory, config, "hidden_size", "n_embd")
    return {
        "n_layers": _size(directory, config, "num_hidden_layers", "n_layer"),
        "n_kv_heads": config.get("num_key_value_heads") or n_heads,
        "head_size": config.get("head_dim") or architecture.default_head_size or hidden_size // n_heads,
        "hidden_size": hidden_size,
        "vocabulary_size": _size(directory, config, "vocab_size"),
        "context_length": _size(directory, config, "max_position_embeddings", "n_positions"),
    }


def _size(directory: Path, config: Mapping[str, Any], *names: str) -> int:
    for name in names:
        value = config.get(name)
        if isinstance(value, int) and value > 0:
            return value
    raise BaseModelBroken(directory=str(directory), file_name=CONFIG_FILE, reason=f"it has no {names[0]}")


def _weight_files(directory: Path) -> list[Path]:
    weights = sorted(directory.glob("*.safetensors"))
    if not weights:
        for pickled in sorted([*directory.glob("*.bin"), *directory.glob("*.pt"), *directory.glob("*.pth")]):
            raise WeightsPickled(directory=str(directory), file_name=pickled.name)
        raise BaseModelFileMissing(directory=str(directory), file_name="model.safetensors")
    if (directory / INDEX_FILE).is_file():
        named = set(_read_json(directory, INDEX_FILE).get("weight_map", {}).values())
        for missing in sorted(named - {path.name for path in weights}):
            raise BaseModelFileMissing(directory=str(directory), file_name=str(missing))
    return weights


def _tokenizer_files(directory: Path) -> list[Path]:
    files = [directory / name for name in TOKENIZER_FILES if (directory / name).is_file()]
    names = {path.name for path in files}
    if not names & {"tokenizer.json", "tokenizer.model"} and not {"vocab.json", "merges.txt"} <= names:
        raise BaseModelFileMissing(directory=str(directory), file_name="tokenizer.json")
    return files


def _read_json(directory: Path, file_name: str) -> dict[str, Any]:
    path = directory / file_name
    if not path.is_file():
        raise BaseModelFileMissing(directory=str(directory), file_name=file_name)
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise BaseModelBroken(directory=str(directory), file_name=file_name, reason="it is no JSON") from None
    if not isinstance(content, dict):
        raise BaseModelBroken(directory=str(directory), file_name=file_name, reason="it is no JSON object")
    return content


def _n_parameters(directory: Path, path: Path) -> int:
    """Numbers in a safetensors file, by its header; refuses a file that is not as long as its header says."""
    try:
        with path.open("rb") as file:
            (n_header_bytes,) = struct.unpack("<Q", file.read(8))
            if n_header_bytes > MAX_HEADER_BYTES:
                raise ValueError("header too large")
            header = json.loads(file.read(n_header_bytes))
        tensors = [entry for name, entry in header.items() if name != "__metadata__"]
        end = 8 + n_header_bytes + max(entry["data_offsets"][1] for entry in tensors)
        if path.stat().st_size != end:
            raise ValueError("truncated")
        # Some families store the numbers of their positions along with the weights.
        return sum(math.prod(entry["shape"]) for entry in tensors if not entry["dtype"].startswith("I"))
    except (ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        reason = f"it is no whole safetensors file ({type(error).__name__})"
        raise BaseModelBroken(directory=str(directory), file_name=path.name, reason=reason) from None


def _digest(paths: Iterable[Path], on_file: Callable[[], None]) -> str:
    """SHA-256 over the sorted lines `name sha256`: neither order nor the directory's place matters."""
    lines = []
    for path in paths:
        on_file()
        with path.open("rb") as file:
            lines.append(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n")
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()
