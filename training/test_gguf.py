"""Checks gguf_quants.py and to_gguf.py against gguf-py, and writes the fixtures of the engine's tests.

    python test_gguf.py                     # checks, a few seconds
    python test_gguf.py --fixtures DIR      # and writes blocks.* and small.*
"""

import json
import os
import sys
import tempfile

import gguf
import numpy as np
import torch
from safetensors.numpy import save_file

os.environ.setdefault("WEIR_FUSE", "0")
import export
from gguf_quants import TYPES, encode
from model import CONFIG, Nano, block_causal, sdpa
from to_gguf import convert

# Largest error of a number, as a share of the largest in its row.
CLOSE = {"F32": 0, "F16": 1e-3, "BF16": 4e-3, "Q8_0": 5e-3, "Q4_0": 0.13, "Q4_K": 0.06, "Q6_K": 0.03}


def decode(data, kind):
    return gguf.quants.dequantize(data, TYPES[kind]).astype(np.float32)


def check_every_type_comes_back(rng):
    x = rng.standard_normal((6, 512)).astype(np.float32)
    x[1] *= 0.05
    x[2] = 0
    x[3, :256] = np.abs(x[3, :256])
    x[4] -= 3
    for kind, close in CLOSE.items():
        got = decode(encode(x, TYPES[kind]), kind)
        error = np.abs(got - x).max(-1) / np.maximum(np.abs(x).max(-1), 1e-9)
        assert (error <= close).all(), (kind, error)
        print(f"{kind}: largest error {error.max():.2e} of the row's largest number")


def blocks_fixture(rng, out):
    """Encoded rows, then blocks of random bits: every bit must find its place."""
    writer, expected = gguf.GGUFWriter(os.path.join(out, "blocks.gguf"), "blocks"), {}
    for kind, own in TYPES.items():
        data = encode(rng.standard_normal((1, 256)).astype(np.float32), own)
        _, size = gguf.GGML_QUANT_SIZES[own]
        if data.dtype == np.uint8 and kind != "BF16":
            noise = rng.integers(0, 256, data.shape, np.uint8).reshape(-1, size)
            scales = {"Q6_K": [208], "Q4_K": [0, 2]}.get(kind, [0])
            for at in scales:
                noise[:, at : at + 2] = rng.uniform(0.001, 2, len(noise)).astype(np.float16).view(np.uint8).reshape(-1, 2)
            data = np.concatenate([data, noise.reshape(data.shape)])
        writer.add_tensor(kind, data, raw_dtype=own)
        expected[kind] = decode(data, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    save_file(expected, os.path.join(out, "blocks.expected.safetensors"))


def small_model(path):
    """A random model in the Hugging Face layout with a byte-level tokenizer."""
    torch.manual_seed(7)
    config = dict(
        CONFIG, vocab_size=272, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, max_position_embeddings=256, rope_theta=600000.0, num_experts=4,
        num_experts_per_tok=2, n_group=2, topk_group=1, moe_intermediate_size=32,
    )
    model = Nano(config)
    for layer in model.layers:
        if not layer.dense:
            layer.expert_bias += 0.05 * torch.randn(4)
    with torch.no_grad():
        model.head *= 20
    torch.save({"config": config, "model": model.state_dict()}, path + ".pt")
    letters = [chr(b) if 33 <= b <= 126 or 161 <= b <= 172 or 174 <= b <= 255 else None for b in range(256)]
    beyond = iter(range(256, 512))
    vocab = {letter or chr(next(beyond)): b for b, letter in enumerate(letters)}
    vocab.update({"he": 256, "ll": 257, "llo": 258})
    texts = ["<|startoftext|>", "<|endoftext|>", "<|mask|>", "<|role_end|>", "<role>", "</role>", "<tool_call>"]
    added = [
        dict(id=259 + i, content=text, single_word=False, lstrip=False, rstrip=False, normalized=False, special=i < 6)
        for i, text in enumerate(texts)
    ]
    level = dict(type="ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=True)
    tokenizer = dict(
        version="1.0", truncation=None, padding=None, added_tokens=added, normalizer=None, pre_tokenizer=level,
        post_processor=None, decoder=level,
        model=dict(
            type="BPE", dropout=None, unk_token=None, continuing_subword_prefix=None, end_of_word_suffix=None,
            fuse_unk=False, byte_fallback=False, ignore_merges=False, vocab=vocab,
            merges=[["h", "e"], ["l", "l"], ["ll", "o"]],
        ),
    )
    with open(path + ".tokenizer.json", "w", encoding="utf-8") as f:
        json.dump(tokenizer, f)
    export.write(path + ".pt", "diffusion", path + ".tokenizer.json", path)
    return config


def check_small_model(out):
    """Converts it to Q8_0 and computes its logits from gguf-py's reading of the file."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "small")
        config = small_model(path)
        file = os.path.join(out or folder, "small.gguf")
        convert(path, file, "Q8_0")
        reader = gguf.GGUFReader(file)
        tensors = {t.name: gguf.quants.dequantize(t.data, t.tensor_type).reshape(t.shape[::-1].tolist()) for t in reader.tensors}
    model, names = Nano(config), {}
    for n in range(2):
        own, blk = f"layers.{n}.", f"blk.{n}."
        names.update({own + a: blk + b + ".weight" for a, b in [
            ("input_norm", "attn_norm"), ("post_norm", "ffn_norm"), ("q_norm", "attn_q_norm"),
            ("k_norm", "attn_k_norm"), ("qkv", "attn_qkv"), ("out", "attn_output")]})
        for part in ("gate", "up", "down"):
            names[own + part] = f"{blk}ffn_{part}{'' if n == 0 else '_shexp'}.weight"
            if n:
                names[f"{own}e_{part}"] = f"{blk}ffn_{part}_exps.weight"
        if n:
            names.update({own + "router": blk + "ffn_gate_inp.weight", own + "expert_bias": blk + "exp_probs_b.bias"})
    names.update({"embed": "token_embd.weight", "norm": "output_norm.weight", "head": "output.weight"})
    assert sorted(names.values()) == sorted(tensors), "a tensor is missing or left over"
    model.load_state_dict({own: torch.tensor(tensors[name].copy()) for own, name in names.items()})
    ids = torch.arange(40) * 37 % 259
    mask = block_causal(40, 32)
    attend = lambda q, k, v: sdpa(q[None], k[None], v[None], mask)[0]
    with torch.no_grad():
        logits = model.eval().logits(model(ids, torch.arange(40), attend))
    assert torch.isfinite(logits).all() and logits.std() > 0.1
    if out:
        expected = {"input_ids": ids.int().numpy(), "logits": logits[:24].contiguous().numpy()}
        save_file(expected, os.path.join(out, "small.expected.safetensors"))
    print(f"small.gguf: {len(tensors)} tensors, logits of {logits.std():.2f}")


if __name__ == "__main__":
    rng = np.random.default_rng(5)
    place = sys.argv[2] if sys.argv[1:2] == ["--fixtures"] else None
    check_every_type_comes_back(rng)
    check_small_model(place)
    if place:
        blocks_fixture(rng, place)
