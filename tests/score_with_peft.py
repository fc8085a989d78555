"""Scores a downloaded archive with plain PEFT. It knows nothing of the project: run it by itself, anywhere.

python score_with_peft.py ARCHIVE.zip BASE_MODEL_DIRECTORY ROWS.jsonl [--dtype float32]
"""

import argparse
import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel


def score(archive: Path, base_directory: Path, rows: list[dict[str, str]], dtype: torch.dtype) -> float:
    """The share of rows whose label has the highest logit, as the archive's `scoring` says in words."""
    with tempfile.TemporaryDirectory() as directory:
        zipfile.ZipFile(archive).extractall(directory)
        about = json.loads(Path(directory, "prelude.json").read_text())
        scorer = EncoderScorer if about["base_model"]["kind"] == "encoder" else CausalScorer
        judge = scorer(base_directory, directory, about["task"]["label_words"], dtype)
    task = about["task"]
    n_right = 0
    for row in rows:
        prompt = task["template"].replace("{text}", row["text"][: task["max_text_characters"]])
        with torch.inference_mode():
            logits = judge.logits(prompt)
        n_right += max(logits, key=lambda label: float(logits[label])) == row["label"]
    return n_right / len(rows)


def customized(base: PreTrainedModel, directory: str) -> Any:
    """The base with the directory's adapter, or the whole model that is there instead."""
    if Path(directory, "config.json").exists():
        whole: Any = type(base).from_pretrained(directory, dtype=base.dtype, local_files_only=True)
        return whole.eval()
    return PeftModel.from_pretrained(base, directory).eval()


class CausalScorer:
    """By the first token of a label's word after the prompt."""

    def __init__(self, base_directory: Path, adapter: str, words: dict[str, str], dtype: torch.dtype) -> None:
        base = AutoModelForCausalLM.from_pretrained(base_directory, dtype=dtype, local_files_only=True)
        self.model = customized(base, adapter)
        self.tokenizer = AutoTokenizer.from_pretrained(base_directory, local_files_only=True)
        self.first_tokens = {
            label: self.tokenizer(word, add_special_tokens=False).input_ids[0]
            for label, word in words.items()
        }

    def logits(self, prompt: str) -> dict[str, torch.Tensor]:
        """Each label's."""
        logits = self.model(**self.tokenizer(prompt, return_tensors="pt")).logits[0, -1]
        return {label: logits[token] for label, token in self.first_tokens.items()}


class EncoderScorer:
    """By the cosine of the prompt's embedding to each label's word's."""

    def __init__(self, base_directory: Path, adapter: str, words: dict[str, str], dtype: torch.dtype) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(base_directory, local_files_only=True)
        self.model = AutoModel.from_pretrained(base_directory, dtype=dtype, local_files_only=True).eval()
        with torch.inference_mode():
            self.labels = {label: self.embed(word) for label, word in words.items()}
        self.model = customized(self.model, adapter)

    def embed(self, text: str) -> torch.Tensor:
        """The mean over the text's own tokens."""
        inputs = self.tokenizer(text, return_tensors="pt")
        states = self.model(
            input_ids=inputs.input_ids, attention_mask=inputs.attention_mask
        ).last_hidden_state
        embedding: torch.Tensor = states[0, -inputs.input_ids.shape[1] :].float().mean(dim=0)
        return embedding

    def logits(self, prompt: str) -> dict[str, torch.Tensor]:
        """Each label's."""
        text = self.embed(prompt)
        return {label: 20 * torch.cosine_similarity(text, word, dim=0) for label, word in self.labels.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", type=Path)
    parser.add_argument("base_directory", type=Path)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--dtype", default="float32")
    options = parser.parse_args()
    lines = options.rows.read_text().splitlines()
    held_out = [json.loads(line) for line in lines]
    print(score(options.archive, options.base_directory, held_out, getattr(torch, options.dtype)))
