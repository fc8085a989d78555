"""A version as one file that plain PEFT reads: the adapter's directory in a zip, with what its use takes.

Of a whole model, the directory that transformers reads, but for the tokenizer, which is the base's.

The same version under the same release gives the same bytes: members are stored, in a fixed order, without a clock.
"""

import base64
import hashlib
import io
import json
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import IO, Any

from federation.models import BaseModel, Federation, PersonalPrefix, PrefixVersion
from federation.specification import CompletionTask, LabelTask
from federation.states import PersonalRule
from tenants import storage

_ENCODER = "encoder"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first time that a zip can tell
_UNIX = 3
_MODE = 0o100644 << 16

_LABEL_SCORING = (
    "accuracy: the prompt is the template with {text} replaced by the text's first max_text_characters characters, "
    "tokenized as the tokenizer does by default; the answer is the label whose word's first token (tokenized without "
    "special tokens) has the highest logit at the prompt's last position; the score is the share of right answers."
)
_ENCODER_SCORING = (
    "accuracy: the prompt is the template with {text} replaced by the text's first max_text_characters characters; an "
    "embedding is the mean of the last hidden states over all tokens that the tokenizer makes of a text by default, "
    "special tokens among them and virtual ones not; the prompt is embedded with the adapter, each label's word, as a "
    "text of its own, by the base model alone; a label's logit is 20 times the cosine of the two; the answer is the "
    "label with the highest; the score is the share of right answers."
)
_PRIOR_USE = (
    "Nothing was trained for this rule: the tensors are the shared version's. To the logit of each label, as scoring "
    "defines it, its number in label_log_prior (prelude.json) is added before the highest is taken. The numbers are "
    "the logs of the labels' shares of the tenant's training rows, each label counting one row more than it has. It "
    "helps where labels are spread at use as they were in training."
)
_COMPLETION_SCORING = (
    "accuracy: the share of the completion's tokens (the end-of-text token included) that have the highest logit at "
    "the position before them, given the prompt and the completion's earlier tokens; of prompt and completion together "
    "at most max_tokens are read: the completion's beginning and the prompt's end."
)

_LOADING = """\
import json, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base = "path/to/the/base/model"  # {name}: {source}
task = json.load(open("prelude.json"))["task"]
tokenizer = AutoTokenizer.from_pretrained(base)
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), ".").eval()
"""
_LOADING_WHOLE = """\
import json, torch
from transformers import AutoModelForCausalLM, AutoTokenizer

base = "path/to/the/base/model"  # for its tokenizer; {name}: {source}
task = json.load(open("prelude.json"))["task"]
tokenizer = AutoTokenizer.from_pretrained(base)
model = AutoModelForCausalLM.from_pretrained(".", dtype=torch.float32).eval()
"""
_LABEL_USE = """\
prompt = task["template"].replace("{text}", "What a fine day."[: task["max_text_characters"]])
with torch.no_grad():
    logits = model(**tokenizer(prompt, return_tensors="pt")).logits[0, -1]
words = {label: tokenizer(word, add_special_tokens=False)["input_ids"] for label, word in task["label_words"].items()}
print(max(words, key=lambda label: logits[words[label][0]].item()))
"""
_ENCODER_USE = """\
import json, torch
from peft import PeftModel
from transformers import AutoModel, AutoTokenizer

base = "path/to/the/base/model"  # {name}: {source}
task = json.load(open("prelude.json"))["task"]
tokenizer = AutoTokenizer.from_pretrained(base)
bare = AutoModel.from_pretrained(base, dtype=torch.float32).eval()

def embed(model, text):
    inputs = tokenizer(text, return_tensors="pt")
    with torch.no_grad():
        states = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).last_hidden_state
    return states[0, -inputs["input_ids"].shape[1] :].mean(dim=0)

# The labels first, by the base model alone: an adapter changes it in place.
labels = {{label: embed(bare, word) for label, word in task["label_words"].items()}}
model = PeftModel.from_pretrained(bare, ".").eval()
prompt = embed(model, task["template"].replace("{{text}}", "What a fine day."[: task["max_text_characters"]]))
print(max(labels, key=lambda label: torch.cosine_similarity(prompt, labels[label], dim=0).item()))
"""
_ENCODER_USE_WHOLE = (
    _ENCODER_USE.replace("from peft import PeftModel\n", "")
    .replace('PeftModel.from_pretrained(bare, ".")', 'AutoModel.from_pretrained(".", dtype=torch.float32)')
    .replace(": an adapter changes it in place", "")
)
_COMPLETION_USE = """\
prompt = tokenizer("What a fine", return_tensors="pt")
answer = model.generate(**prompt, max_new_tokens=20, do_sample=False)
print(tokenizer.decode(answer[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True))
"""


@dataclass(frozen=True)
class Archive:
    """The zip as a file that is gone when it is closed, at its start, and its SHA-256."""

    file_name: str
    file: IO[bytes]
    size_bytes: int
    sha256: bytes

    @property
    def repr_digest(self) -> str:
        """The digest as RFC 9530 writes it."""
        return f"sha-256=:{base64.b64encode(self.sha256).decode()}:"

    @property
    def etag(self) -> str:
        """A strong validator."""
        return f'"{self.sha256.hex()}"'


def build_archive(*, version: PrefixVersion) -> Archive:
    """Zip the version with its configuration and its use, a chunk at a time; the caller closes the file.

    Raises BlobMissing and BlobCorrupt.
    """
    tensors = storage.get_chunks(version.sha256, max_bytes=version.size_bytes)
    contents = _Contents(version.federation, tensors, version.size_bytes, describe(version), readme(version))
    # Whoever asked for the archive closes the file.
    return _build(version.public_id, tempfile.TemporaryFile(), contents)


def build_personal_archive(*, personal_prefix: PersonalPrefix, content: bytes) -> Archive:
    """Zip what a tenant has grown as a version is zipped: `content` in the clear, which no disk gets to see.

    Raises BlobMissing and BlobCorrupt.
    """
    version = personal_prefix.version
    about = describe(version)
    about["grown_from"] = about.pop("version")
    about["personal_prefix"] = {"id": personal_prefix.public_id, "rule": personal_prefix.rule}
    text = _readme(version.federation, f"a personal prefix grown from version {version.number}")
    tensors: Iterable[bytes] = [content]
    n_bytes = len(content)
    if personal_prefix.rule == PersonalRule.PRIOR:
        about |= {"label_log_prior": json.loads(content), "label_log_prior_use": _PRIOR_USE}
        text += f"\n{_PRIOR_USE}\n"
        n_bytes = version.size_bytes
        tensors = storage.get_chunks(version.sha256, max_bytes=n_bytes)
    contents = _Contents(version.federation, tensors, n_bytes, about, text)
    return _build(personal_prefix.public_id, io.BytesIO(), contents)


@dataclass(frozen=True)
class _Contents:
    """What goes into an archive; `n_bytes` are the tensors'."""

    federation: Federation
    tensors: Iterable[bytes]
    n_bytes: int
    about: Mapping[str, Any]
    readme: str


def _build(name: str, file: io.BytesIO | io.BufferedRandom, contents: _Contents) -> Archive:
    try:
        _write_zip(file, contents)
        size_bytes = file.tell()
        file.seek(0)
        sha256 = hashlib.file_digest(file, "sha256").digest()
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return Archive(f"{name}.zip", file, size_bytes, sha256)


def describe(version: PrefixVersion) -> dict[str, Any]:
    """What one must know to use the version and to score it again."""
    federation, base_model = version.federation, version.federation.base_model
    rules = federation.rules
    return {
        "federation": {"id": federation.public_id, "name": federation.name},
        "version": {"id": version.public_id, "number": version.number, "sha256": version.sha256},
        "specification_sha256": federation.specification_sha256,
        "base_model": {
            "name": base_model.name,
            "kind": base_model.kind,
            "source": base_model.source,
            "licence": base_model.licence,
            "weights_sha256": base_model.weights_sha256,
            "tokenizer_sha256": base_model.tokenizer_sha256,
        },
        "method": rules.method.kind,
        "task": rules.task.model_dump(mode="json"),
        "scoring": _scoring(rules.task, base_model),
    }


def readme(version: PrefixVersion) -> str:
    """How to load the version with plain PEFT or transformers, for a person."""
    return _readme(version.federation, f"prefix version {version.number}")


def _readme(federation: Federation, title: str) -> str:
    is_whole = federation.rules.method.is_whole_model
    what = "A fine-tuned copy of" if is_whole else f"A {federation.rules.method.kind} for"
    layout = "as a transformers model" if is_whole else "as a PEFT adapter"
    return (
        f"# {federation.name}, {title}\n\n"
        f"{what} {federation.base_model.name}, {layout}. `prelude.json` names the base model\n"
        "by the digest of its weights, the task, and how a score is taken. In this directory:\n\n"
        f"```python\n{_program(federation)}```\n"
    )


def _program(federation: Federation) -> str:
    base_model, is_whole = federation.base_model, federation.rules.method.is_whole_model
    name, source = (" ".join(text.split()) for text in (base_model.name, base_model.source))
    if base_model.kind == _ENCODER:
        program = _ENCODER_USE_WHOLE if is_whole else _ENCODER_USE
        return program.format(name=name, source=source)
    loading = _LOADING_WHOLE if is_whole else _LOADING
    use = _LABEL_USE if isinstance(federation.rules.task, LabelTask) else _COMPLETION_USE
    return loading.format(name=name, source=source) + use


def _scoring(task: LabelTask | CompletionTask, base_model: BaseModel) -> str:
    if base_model.kind == _ENCODER:
        return _ENCODER_SCORING
    return _LABEL_SCORING if isinstance(task, LabelTask) else _COMPLETION_SCORING


def _as_json(value: object) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _write_zip(file: IO[bytes], contents: _Contents) -> None:
    part = "" if contents.federation.rules.method.is_whole_model else "adapter_"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, f"{part}config.json", [_as_json(contents.federation.configuration)])
        _add(archive, f"{part}model.safetensors", contents.tensors, n_bytes=contents.n_bytes)
        _add(archive, "prelude.json", [_as_json(contents.about)])
        _add(archive, "README.md", [contents.readme.encode()])


def _add(archive: zipfile.ZipFile, name: str, chunks: Iterable[bytes], *, n_bytes: int = 0) -> None:
    """Add a member; zipfile wants to know beforehand whether it has more than two gigabytes."""
    member = zipfile.ZipInfo(name, date_time=_EPOCH)
    member.create_system, member.external_attr, member.file_size = _UNIX, _MODE, n_bytes
    with archive.open(member, "w") as target:
        target.writelines(chunks)
