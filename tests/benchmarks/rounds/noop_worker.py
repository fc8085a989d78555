"""The product's training worker without learning: `celery … -I tests.benchmarks.rounds.noop_worker`.

Claims, leases, tenants' scopes, the reading of datasets and versions, and submissions are the product's. Only the
resident trainer is another one: where that would train it draws noise, and every version scores the same.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any
from unittest import mock

import numpy as np
from safetensors.numpy import save

from tests.benchmarks.rounds import marks
from tests.benchmarks.rounds.payload import noise, payload
from training_workers import tasks, work
from training_workers.resident import TrainerResult

SCORE = {"accuracy": 0.5, "loss": 0.7, "n_rows": 10}
FACTS = {
    "architecture": "LlamaForCausalLM",
    "model_type": "llama",
    "n_layers": 2,
    "n_kv_heads": 2,
    "head_size": 12,
    "hidden_size": 48,
    "vocabulary_size": 400,
    "context_length": 2048,
    "n_parameters": 1,
    "weights_bytes": 4,
    "weights_sha256": "a" * 64,
    "tokenizer_sha256": "b" * 64,
}


class NoopTrainer:
    """Answers the resident trainer's jobs at once."""

    def run(
        self,
        job: Mapping[str, Any],
        blobs: Mapping[str, bytes],
        *,
        on_event: Callable[[dict[str, Any]], None],
        beat_seconds: float,
        on_beat: Callable[[], None],
    ) -> TrainerResult:
        """One job's answer."""
        match job["kind"]:
            case "inspect":
                return TrainerResult({"facts": dict(FACTS)}, {})
            case "start":
                configuration = {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 4}
                return TrainerResult(
                    {"configuration": configuration}, {"start": _file(payload(), {"format": "pt"})}
                )
            case "evaluate":
                return TrainerResult(dict(SCORE), {})
        assert job["kind"] == "train"
        marks.hold_if_asked()
        metrics = {"seconds": 0.0, "scores": {"before": SCORE, "after": SCORE}}
        return TrainerResult({"metrics": metrics, "base_loaded": False}, {"update": _update(job["identity"])})


def _update(identity: Mapping[str, Any]) -> bytes:
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).digest()
    metadata = {name: str(value) for name, value in identity.items()}
    return _file(noise(int.from_bytes(digest[:8], "big")), {**metadata, "base": FACTS["weights_sha256"]})


def _file(values: "np.ndarray[Any, np.dtype[np.float32]]", metadata: Mapping[str, Any]) -> bytes:
    content: bytes = save({"prompt_embeddings": values}, metadata=dict(metadata))
    return content


mock.patch.object(work, "resident_trainer", return_value=NoopTrainer()).start()
__all__ = ["tasks"]
