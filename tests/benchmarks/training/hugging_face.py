"""The Hugging Face Trainer with PEFT's prefix tuning, everything at its defaults but what the task says.

That is: steps, batch size, learning rate, a constant rate rather than a falling one, and the start prefix. Batches
come in a random order, padded to their longest row; the loss is the model's own, over the vocabulary everywhere.
"""

import argparse
import os
from pathlib import Path
from typing import Any

import torch
from peft import PrefixTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Trainer,
    TrainingArguments,
)

from tests.benchmarks.training.turns import START_FILE, Task, peak_bytes, serve, timed


class HuggingFace:
    """A PEFT model, and a new Trainer for each training run."""

    def __init__(self, arguments: argparse.Namespace, task: Task) -> None:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        self._tokenizer = AutoTokenizer.from_pretrained(task.base_directory, padding_side="right")
        base = AutoModelForCausalLM.from_pretrained(
            task.base_directory, dtype=getattr(torch, arguments.dtype)
        )
        self._start = load_file(arguments.place / START_FILE)["prompt_embeddings"]
        config = PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=len(self._start))
        self._model: Any = get_peft_model(base, config)
        self._texts, self._settings = task.texts(), task.specification["training"]
        self._output = arguments.place / "trainer"

    def facts(self) -> dict[str, Any]:
        """Nothing that is not known."""
        return {}

    def train(self, n_steps: int) -> tuple[float, float]:
        """One training run."""
        with torch.no_grad():
            self._prefix.copy_(self._start)
        return timed(lambda: self._train(n_steps))

    def figures(self) -> dict[str, int]:
        """The device's peak, or this process's."""
        return {"peak_bytes": peak_bytes()}

    def save(self, path: Path) -> None:
        """The prefix under PEFT's name."""
        save_file({"prompt_embeddings": self._prefix.detach().cpu().contiguous()}, path)

    @property
    def _prefix(self) -> torch.nn.Parameter:
        weight: torch.nn.Parameter = self._model.prompt_encoder["default"].embedding.weight
        return weight

    def _train(self, n_steps: int) -> None:
        texts = self._texts[: n_steps * self._settings["batch_size"]]
        arguments = TrainingArguments(
            output_dir=str(self._output),
            max_steps=n_steps,
            per_device_train_batch_size=self._settings["batch_size"],
            learning_rate=self._settings["learning_rate"],
            lr_scheduler_type="constant",
            max_grad_norm=self._settings["gradient_clip"],
            seed=self._settings["seed"],
            save_strategy="no",
            disable_tqdm=True,
        )
        collator = DataCollatorForSeq2Seq(self._tokenizer)
        Trainer(self._model, arguments, collator, [self._encode(*text) for text in texts]).train()

    def _encode(self, prompt: str, answer: str) -> dict[str, list[int]]:
        before = self._tokenizer(prompt)["input_ids"]
        after = self._tokenizer(answer, add_special_tokens=False)["input_ids"]
        n_tokens = len(before) + len(after)
        return {
            "input_ids": before + after,
            "attention_mask": [1] * n_tokens,
            "labels": [-100] * len(before) + after,
        }


if __name__ == "__main__":
    serve(HuggingFace)
