"""A base model of two layers with its own small tokenizer, made in a second: `python -m … DIRECTORY`."""

import argparse
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedTokenizerFast

from training_workers.base_models import ARCHITECTURES

CORPUS = (
    "The film was wonderful and I liked it very much, good acting and a great story.",
    "The service was terrible and the food was bad, I did not like it at all.",
    "Sentiment: positive Sentiment: negative Question: Answer: yes no good bad world sports business",
) * 4
CHAT_TEMPLATE = (
    "{% for message in messages %}<{{ message.role }}>{{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
# Grouped heads, sliding windows and soft caps where the family has them, all far from their defaults.
_SHARED = {
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "initializer_range": 0.3,
}
_GROUPED = {**_SHARED, "num_key_value_heads": 2}
_WINDOWED = {**_GROUPED, "head_dim": 16, "sliding_window": 32}
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "llama": {**_GROUPED, "rope_theta": 10_000.0},
    "gpt2": {"n_embd": 48, "n_layer": 2, "n_head": 4, "initializer_range": 0.3},
    "gpt_neox": _SHARED,
    "opt": {**_SHARED, "ffn_dim": 64, "word_embed_proj_dim": 48},
    "mistral": {**_GROUPED, "sliding_window": None},
    "qwen2": _GROUPED,
    "qwen3": {**_GROUPED, "head_dim": 16},
    "gemma": {**_GROUPED, "head_dim": 16},
    "gemma2": {**_WINDOWED, "query_pre_attn_scalar": 16},
    "gemma3_text": {**_WINDOWED, "query_pre_attn_scalar": 16},
    "bert": _SHARED,
}
CAUSAL = [name for name in CONFIGURATIONS if ARCHITECTURES[name].kind == "causal"]
ENCODERS = [name for name in CONFIGURATIONS if ARCHITECTURES[name].kind == "encoder"]


def make_tiny_base(
    directory: Path,
    *,
    seed: int = 0,
    architecture: str = "llama",
    dtype: torch.dtype = torch.float32,
    n_positions: int = 2048,
) -> Path:
    """Writes a base model of random weights to the directory; the same arguments give the same bytes."""
    is_encoder = architecture in ENCODERS
    tokenizer = _make_tokenizer(is_encoder=is_encoder)
    config = AutoConfig.for_model(
        architecture,
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **CONFIGURATIONS[architecture],
        max_position_embeddings=n_positions,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        maker: Any = AutoModel if is_encoder else AutoModelForCausalLM
        model = maker.from_config(config, dtype=dtype)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def _make_tokenizer(*, is_encoder: bool) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer: every text can be written with it.

    An encoder's knows no capital letters, and marks where a text begins and ends, as BERT's do.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<pad>", "<bos>", "<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    if is_encoder:
        tokenizer.normalizer = normalizers.Lowercase()
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<bos> $A <eos>", special_tokens=[("<bos>", 1), ("<eos>", 2)]
        )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        chat_template=CHAT_TEMPLATE,
        model_input_names=["input_ids", "attention_mask", *(["token_type_ids"] if is_encoder else [])],
    )


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--architecture", choices=CONFIGURATIONS, default="llama")
    arguments = parser.parse_args()
    make_tiny_base(arguments.directory, seed=arguments.seed, architecture=arguments.architecture)


if __name__ == "__main__":
    main()
