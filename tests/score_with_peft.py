"""Scores a downloaded archive with plain PEFT. It knows nothing of the project: run it by itself, anywhere.

python score_with_peft.py ARCHIVE.zip BASE_MODEL_DIRECTORY ROWS.jsonl [--dtype float32]
"""

import argparse
import json
import tempfile
import zipfile
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer


def score(archive: Path, base_directory: Path, rows: list[dict[str, str]], dtype: torch.dtype) -> float:
    """The share of rows whose label's word has the highest logit of all label words after the prompt."""
    with tempfile.TemporaryDirectory() as adapter:
        zipfile.ZipFile(archive).extractall(adapter)
        task = json.loads(Path(adapter, "prelude.json").read_text())["task"]
        base = AutoModelForCausalLM.from_pretrained(base_directory, dtype=dtype, local_files_only=True)
        model = PeftModel.from_pretrained(base, adapter).eval()
    tokenizer = AutoTokenizer.from_pretrained(base_directory, local_files_only=True)
    words = task["label_words"]
    first_tokens = {
        label: tokenizer(word, add_special_tokens=False).input_ids[0] for label, word in words.items()
    }
    n_right = 0
    for row in rows:
        prompt = task["template"].replace("{text}", row["text"][: task["max_text_characters"]])
        with torch.inference_mode():
            logits = model(**tokenizer(prompt, return_tensors="pt")).logits[0, -1]
        guess = max(first_tokens, key=lambda label: float(logits[first_tokens[label]]))
        n_right += guess == row["label"]
    return n_right / len(rows)


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
