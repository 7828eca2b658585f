"""Turns a model directory in the Hugging Face layout (LLaDA2 or Ling-2.0) into one GGUF file.

    python to_gguf.py MODEL_DIR OUT.gguf [--type F32|F16|BF16|Q8_0|Q4_0|Q4_K|Q6_K]

Vectors, the router and its bias stay F32; a matrix whose rows are not whole blocks of the type becomes F16. Tensors
are converted one at a time, so a model needs no more memory than its largest layer's experts. The tokenizer.json
goes along whole (`tokenizer.huggingface.json`), beside the keys llama.cpp reads.
"""

import argparse
import json
import os

import gguf
import numpy as np
import torch
from safetensors import safe_open

from gguf_quants import TYPES, encode, fits

ARCHITECTURES = {"llada2_moe": "llada2", "llada2_moe_veomni": "llada2", "bailing_moe_v2": "bailingmoe2"}

# GGUF key after the architecture's name, field of config.json.
WHOLE = {
    "vocab_size": "vocab_size", "embedding_length": "hidden_size", "feed_forward_length": "intermediate_size",
    "block_count": "num_hidden_layers", "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads", "attention.key_length": "head_dim",
    "attention.value_length": "head_dim", "context_length": "max_position_embeddings", "expert_count": "num_experts",
    "expert_used_count": "num_experts_per_tok", "expert_feed_forward_length": "moe_intermediate_size",
    "expert_shared_count": "num_shared_experts", "expert_group_count": "n_group",
    "expert_group_used_count": "topk_group", "leading_dense_block_count": "first_k_dense_replace",
    "expert_capacity": "expert_capacity", "block_size": "block_size", "delete_token_id": "delete_token_id",
    "split_token_id": "split_token_id",
}
REAL = {
    "attention.layer_norm_rms_epsilon": "rms_norm_eps", "rope.freq_base": "rope_theta",
    "expert_weights_scale": "routed_scaling_factor",
}
SIGMOID = 2

# How Ling and LLaDA2 split a text before BPE; llama.cpp names it bailingmoe2.
BAILING = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
)
NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5


class Checkpoint:
    """The tensors of a directory, sharded or not, one at a time."""

    def __init__(self, path):
        index = os.path.join(path, "model.safetensors.index.json")
        names = ["model.safetensors"]
        if os.path.exists(index):
            names = sorted(set(read(index)["weight_map"].values()))
        self.files = [safe_open(os.path.join(path, name), framework="pt") for name in names]
        self.where = {tensor: file for file in self.files for tensor in file.keys()}
        self.left = set(self.where)

    def shape(self, name):
        return list(self.where[name].get_slice(name).get_shape())

    def take(self, name):
        self.left.discard(name)
        return self.where[name].get_tensor(name).to(torch.float32).numpy()


def read(path):
    with open(path, encoding="utf-8") as f:
        return json.load(f)


def tensors(config, checkpoint):
    """(GGUF name, published names) of every tensor; several names are experts to be stacked."""
    yield "token_embd.weight", ["model.word_embeddings.weight"]
    yield "output_norm.weight", ["model.norm.weight"]
    if "lm_head.weight" in checkpoint.where:
        yield "output.weight", ["lm_head.weight"]
    for n in range(config["num_hidden_layers"]):
        own, hf = f"blk.{n}.", f"model.layers.{n}."
        yield own + "attn_norm.weight", [hf + "input_layernorm.weight"]
        yield own + "attn_qkv.weight", [hf + "attention.query_key_value.weight"]
        yield own + "attn_q_norm.weight", [hf + "attention.query_layernorm.weight"]
        yield own + "attn_k_norm.weight", [hf + "attention.key_layernorm.weight"]
        yield own + "attn_output.weight", [hf + "attention.dense.weight"]
        yield own + "ffn_norm.weight", [hf + "post_attention_layernorm.weight"]
        if n < config["first_k_dense_replace"]:
            for part in ("gate", "up", "down"):
                yield f"{own}ffn_{part}.weight", [f"{hf}mlp.{part}_proj.weight"]
            continue
        yield own + "ffn_gate_inp.weight", [hf + "mlp.gate.weight"]
        if config.get("moe_router_enable_expert_bias", True):
            yield own + "exp_probs_b.bias", [hf + "mlp.gate.expert_bias"]
        for part in ("gate", "up", "down"):
            if config.get("num_shared_experts"):
                yield f"{own}ffn_{part}_shexp.weight", [f"{hf}mlp.shared_experts.{part}_proj.weight"]
            merged = [name for name in (f"{hf}mlp.experts.{part}_proj{s}" for s in ("", ".weight")) if name in checkpoint.where]
            single = [f"{hf}mlp.experts.{e}.{part}_proj.weight" for e in range(config["num_experts"])]
            yield f"{own}ffn_{part}_exps.weight", merged or single


def add_config(writer, architecture, config):
    for key, field in WHOLE.items():
        if config.get(field) is not None:
            writer.add_uint32(f"{architecture}.{key}", config[field])
    for key, field in REAL.items():
        if config.get(field) is not None:
            writer.add_float32(f"{architecture}.{key}", config[field])
    dims = config.get("rotary_dim") or int(config["head_dim"] * config.get("partial_rotary_factor", 1.0))
    writer.add_uint32(f"{architecture}.rope.dimension_count", dims)
    writer.add_uint32(f"{architecture}.expert_gating_func", SIGMOID)
    writer.add_bool(f"{architecture}.expert_weights_norm", bool(config.get("norm_topk_prob", True)))
    if architecture == "llada2":
        writer.add_bool("diffusion.shift_logits", False)
        writer.add_bool(f"{architecture}.attention.causal", False)


def add_tokenizer(writer, path, config):
    with open(os.path.join(path, "tokenizer.json"), encoding="utf-8") as f:
        text = f.read()
    tokenizer, settings = json.loads(text), read(os.path.join(path, "tokenizer_config.json"))
    tokens = [f"[PAD{i}]" for i in range(config["vocab_size"])]
    types = [UNUSED] * config["vocab_size"]
    for token, i in tokenizer["model"]["vocab"].items():
        tokens[i], types[i] = token, NORMAL
    for added in tokenizer["added_tokens"]:
        tokens[added["id"]] = added["content"]
        types[added["id"]] = CONTROL if added["special"] else USER_DEFINED
    merges = [m if isinstance(m, str) else " ".join(m) for m in tokenizer["model"]["merges"]]
    writer.add_string("tokenizer.ggml.model", "gpt2")
    writer.add_string("tokenizer.ggml.pre", splitting(tokenizer))
    writer.add_array("tokenizer.ggml.tokens", tokens)
    writer.add_array("tokenizer.ggml.token_type", types)
    if merges:
        writer.add_array("tokenizer.ggml.merges", merges)
    writer.add_string("tokenizer.huggingface.json", text)
    for key, name in (("bos", "bos_token"), ("eos", "eos_token"), ("padding", "pad_token"), ("mask", "mask_token")):
        token = settings.get(name)
        token = token["content"] if isinstance(token, dict) else token
        if token in tokens:
            writer.add_uint32(f"tokenizer.ggml.{key}_token_id", tokens.index(token))
    writer.add_string("tokenizer.chat_template", settings["chat_template"])


def splitting(tokenizer):
    """llama.cpp's name of the pre-tokenizer; a name of our own where it has none."""
    text = json.dumps(tokenizer["pre_tokenizer"])
    if json.dumps(BAILING)[1:-1] in text:
        return "bailingmoe2"
    plain = tokenizer["pre_tokenizer"]
    return "gpt-2" if plain["type"] == "ByteLevel" and plain.get("use_regex", True) else "weir-nano"


def convert(path, out, kind):
    config = read(os.path.join(path, "config.json"))
    architecture = ARCHITECTURES[config["model_type"]]
    checkpoint = Checkpoint(path)
    writer = gguf.GGUFWriter(out, architecture)
    add_config(writer, architecture, config)
    add_tokenizer(writer, path, config)
    plan = []
    for name, sources in tensors(config, checkpoint):
        shape = checkpoint.shape(sources[0])
        shape = shape if len(sources) == 1 else [len(sources)] + shape
        own = gguf.GGMLQuantizationType.F32
        if len(shape) > 1 and "ffn_gate_inp" not in name:
            own = TYPES[kind] if fits(shape[-1], TYPES[kind]) else gguf.GGMLQuantizationType.F16
        block, size = gguf.GGML_QUANT_SIZES[own]
        nbytes = int(np.prod(shape, dtype=np.int64)) // block * size
        # The writer takes a quantised tensor's shape in bytes.
        stored = shape if block == 1 else shape[:-1] + [shape[-1] // block * size]
        writer.add_tensor_info(name, stored, np.dtype(np.uint8 if block > 1 else np.float32), nbytes, raw_dtype=own)
        plan.append((sources, own))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for sources, own in plan:
        parts = [encode(checkpoint.take(source), own) for source in sources]
        writer.write_tensor_data(parts[0] if len(parts) == 1 else np.stack(parts))
    writer.close()
    if checkpoint.left:
        raise SystemExit(f"{out} lacks what this architecture does not have: {sorted(checkpoint.left)[:5]}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model_dir")
    parser.add_argument("out")
    parser.add_argument("--type", choices=list(TYPES), default="F16")
    arguments = parser.parse_args()
    convert(arguments.model_dir, arguments.out, arguments.type)
