"""Prefix-tuning as a good engineer writes it down in an hour, with torch and transformers alone.

With `--buckets` it has what is known to pay: rows of similar length together, and logits at the labels only.
Without, rows come in a random order and the model gives its logits everywhere.
"""

import argparse
import os
import random
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

from tests.benchmarks.training.turns import START_FILE, Task, peak_bytes, serve, timed

WINDOW = 8
Row = tuple[list[int], list[int]]


class Loop:
    """A frozen base model, a prefix, and the loop."""

    def __init__(self, arguments: argparse.Namespace, task: Task) -> None:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.tokenizer = AutoTokenizer.from_pretrained(task.base_directory)
        model: Any = AutoModelForCausalLM.from_pretrained(
            task.base_directory, dtype=getattr(torch, arguments.dtype)
        )
        self.model = model.to(self.device).requires_grad_(False)
        self.texts, self.settings = task.texts(), task.specification["training"]
        self.has_buckets = arguments.buckets
        self.start = load_file(arguments.place / START_FILE)["prompt_embeddings"].to(self.device)
        self.prefix = self.start

    def run(self, n_steps: int) -> None:
        """The whole training run."""
        batch_size = self.settings["batch_size"]
        texts = self.texts[: n_steps * batch_size]
        prompts = self.tokenizer([prompt for prompt, _ in texts])["input_ids"]
        answers = self.tokenizer([answer for _, answer in texts], add_special_tokens=False)["input_ids"]
        batches = self.batches(list(zip(prompts, answers, strict=True)), batch_size)
        self.prefix = self.start.clone().requires_grad_()
        optimizer = torch.optim.AdamW([self.prefix], lr=self.settings["learning_rate"], weight_decay=0.0)
        for batch in batches:
            loss = self.loss(batch)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_([self.prefix], self.settings["gradient_clip"])
            optimizer.step()
        self.prefix = self.prefix.detach().cpu()

    def batches(self, rows: list[Row], batch_size: int) -> list[list[Row]]:
        """Rows in batches, in an order that the seed decides."""
        draw = random.Random(self.settings["seed"])
        if not self.has_buckets:
            draw.shuffle(rows)
            return [rows[first : first + batch_size] for first in range(0, len(rows), batch_size)]
        size = WINDOW * batch_size
        windows = [
            sorted(rows[first : first + size], key=lambda row: len(row[0]) + len(row[1]))
            for first in range(0, len(rows), size)
        ]
        found = [
            window[first : first + batch_size]
            for window in windows
            for first in range(0, len(window), batch_size)
        ]
        draw.shuffle(found)
        return found

    def loss(self, rows: list[Row]) -> torch.Tensor:
        """Mean loss of the answers' tokens behind the prefix."""
        width = max(len(prompt) + len(answer) for prompt, answer in rows)
        tokens = torch.zeros(len(rows), width, dtype=torch.int64)
        labels = torch.full((len(rows), width), -100)
        mask = torch.zeros(len(rows), width, dtype=torch.int64)
        for index, (prompt, answer) in enumerate(rows):
            end = len(prompt) + len(answer)
            tokens[index, :end] = torch.tensor(prompt + answer)
            labels[index, len(prompt) : end] = torch.tensor(answer)
            mask[index, :end] = 1
        tokens, labels, mask = (
            each.to(self.device) for each in (tokens[:, :-1], labels[:, 1:], mask[:, :-1])
        )
        mask = torch.cat([mask.new_ones(len(rows), len(self.prefix)), mask], dim=1)
        inputs = {"input_ids": tokens, "attention_mask": mask, "past_key_values": self.cache(len(rows))}
        if not self.has_buckets:
            logits = self.model(**inputs).logits
            return functional.cross_entropy(logits.flatten(0, 1).float(), labels.flatten())
        states = self.model.model(**inputs).last_hidden_state[labels >= 0]
        return functional.cross_entropy(self.model.lm_head(states).float(), labels[labels >= 0])

    def cache(self, n_rows: int) -> DynamicCache:
        """The prefix as the keys and values that come before the rows' own."""
        config = self.model.config
        shape = (len(self.prefix), config.num_hidden_layers, 2, config.num_key_value_heads, -1)
        pairs = self.prefix.to(self.model.dtype).view(shape).permute(1, 2, 3, 0, 4)
        expanded = pairs.unsqueeze(2).expand(-1, -1, n_rows, -1, -1, -1)
        return DynamicCache([(keys, values) for keys, values in expanded])

    def facts(self) -> dict[str, Any]:
        """What a share of the device's peak is counted from."""
        layers = self.model.model.layers
        return {
            "n_layer_parameters": sum(parameter.numel() for parameter in layers.parameters()),
            "device_name": torch.cuda.get_device_name() if self.device.type == "cuda" else "",
        }

    def train(self, n_steps: int) -> tuple[float, float]:
        """One training run."""
        return timed(lambda: self.run(n_steps))

    def figures(self) -> dict[str, int]:
        """The device's peak, or this process's."""
        return {"peak_bytes": peak_bytes()}

    def save(self, path: Path) -> None:
        """The prefix under PEFT's name."""
        save_file({"prompt_embeddings": self.prefix}, path)


if __name__ == "__main__":
    serve(Loop)
