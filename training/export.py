"""Writes a trained checkpoint as a Hugging Face style model directory, and reads both back.

    python export.py CHECKPOINT.pt KIND TOKENIZER.json OUT_DIR
"""

import json
import os
import shutil
import sys

import torch
from safetensors.torch import load_file, save_file

import template
from model import Nano

KINDS = {"diffusion": ("llada2_moe", "LLaDA2MoeModelLM"), "ar": ("bailing_moe_v2", "BailingMoeV2ForCausalLM")}


def _names(config):
    """(own name, published name, expert or None) of every tensor."""
    yield "embed", "model.word_embeddings.weight", None
    yield "norm", "model.norm.weight", None
    yield "head", "lm_head.weight", None
    for n in range(config["num_hidden_layers"]):
        own, hf = f"layers.{n}.", f"model.layers.{n}."
        yield own + "input_norm", hf + "input_layernorm.weight", None
        yield own + "post_norm", hf + "post_attention_layernorm.weight", None
        yield own + "qkv", hf + "attention.query_key_value.weight", None
        yield own + "q_norm", hf + "attention.query_layernorm.weight", None
        yield own + "k_norm", hf + "attention.key_layernorm.weight", None
        yield own + "out", hf + "attention.dense.weight", None
        if n < config["first_k_dense_replace"]:
            for part in ("gate", "up", "down"):
                yield own + part, f"{hf}mlp.{part}_proj.weight", None
            continue
        yield own + "router", hf + "mlp.gate.weight", None
        yield own + "expert_bias", hf + "mlp.gate.expert_bias", None
        for part in ("gate", "up", "down"):
            yield own + part, f"{hf}mlp.shared_experts.{part}_proj.weight", None
            for e in range(config["num_experts"]):
                yield f"{own}e_{part}", f"{hf}mlp.experts.{e}.{part}_proj.weight", e


def write(checkpoint, kind, tokenizer, out):
    """Export `checkpoint` in bf16 (norms, router and its bias stay f32)."""
    state = torch.load(checkpoint)
    config, weights, tensors = state["config"], state["model"], {}
    for own, name, expert in _names(config):
        value = weights[own] if expert is None else weights[own][expert]
        keep = value.dim() == 1 or own.endswith("router")
        tensors[name] = value.detach().to(torch.float32 if keep else torch.bfloat16).contiguous()
    os.makedirs(out, exist_ok=True)
    save_file(tensors, os.path.join(out, "model.safetensors"), metadata={"format": "pt"})
    model_type, architecture = KINDS[kind]
    config = dict(config, model_type=model_type, architectures=[architecture], torch_dtype="bfloat16")
    _json(os.path.join(out, "config.json"), config)
    shutil.copyfile(tokenizer, os.path.join(out, "tokenizer.json"))
    _json(os.path.join(out, "tokenizer_config.json"), {
        "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": template.END, "pad_token": template.END,
        "mask_token": template.MASK, "bos_token": template.START, "add_bos_token": False, "add_eos_token": False,
        "clean_up_tokenization_spaces": False, "model_max_length": config["max_position_embeddings"],
        "chat_template": template.JINJA,
    })


def _json(path, value):
    with open(path, "w", encoding="utf-8") as f:
        json.dump(value, f, indent=1)
        f.write("\n")


def load(path):
    """The network from a model directory or from a training checkpoint."""
    if not os.path.isdir(path):
        state = torch.load(path)
        model = Nano(state["config"])
        model.load_state_dict(state["model"])
        return model
    with open(os.path.join(path, "config.json"), encoding="utf-8") as f:
        config = json.load(f)
    tensors, weights = load_file(os.path.join(path, "model.safetensors")), {}
    for own, name, expert in _names(config):
        value = tensors[name].float()
        weights.setdefault(own, []).append(value)
    model = Nano(config)
    model.load_state_dict({k: torch.stack(v) if "e_" in k.split(".")[-1][:2] else v[0] for k, v in weights.items()})
    return model


if __name__ == "__main__":
    write(*sys.argv[1:5])
