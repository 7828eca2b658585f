"""Golden files for the engine's dense chat models: tiny random checkpoints of Hugging Face's own classes, written to GGUF
with gguf-py by the rules of llama.cpp's converter, and what transformers computes with them; and small tokenizers with
the ids that sentencepiece and transformers give.

    pip install -r requirements-dense.txt
    python dense_golden.py ../diffusion-engine/tests/fixtures/dense
"""

import io
import json
import os
import sys

import gguf
import numpy as np
import sentencepiece as spm
import torch
import transformers as hf
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

SEED = 7
VOCAB, HIDDEN, INNER, HEADS, KV_HEADS, LENGTH = 300, 32, 48, 4, 2, 48

CORPUS = [
    "The quick brown fox jumps over the lazy dog. Don't panic: 12345 numbers, 3.14 and 2026-11-29!",
    "def main():\n    for i in range(10):\n        print(i)\n\n\treturn None\n",
    "Größe, naïve café, señor, smørrebrød; 日本語のテキストと中文文本。 한국어 문장. Привет, мир!",
    "  leading spaces, trailing spaces  \n\n\nthree newlines\r\nand\ttabs",
    "JSON: {\"key\": [1, 2, 3], \"text\": \"a b\"} <table><tr> emoji 😀👍🏽 e\u0301",
    "hello hello world world the the and and ing ing tion tion er er",
]

AWKWARD = [
    "", " ", "  ", "   a", "a  b   c    d", "\n", "\n\n", "a\n\nb\n", "\r\n\t x", "Hello, world!", " hello", "hello ",
    "I'm, you'RE, they'll", "12345 67", "日本語 中文", "naïve café e\u0301", "😀👍🏽", "\u0000\u0001\u007f", "\u200b\ufeffx",
    "def f(x):\n    return x\n", "<s></s><unk>", "<start_of_turn>user", "<|im_start|>system<|im_end|>", "<0x41>", "▁x▁y",
    "<table> and\t<td>", "𝔘𝔫𝔦", "a" * 70, "Привет 한국어", "the quick brown", "…—“”",
]


def common(**more):
    return dict(
        vocab_size=VOCAB, hidden_size=HIDDEN, intermediate_size=INNER, num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS, num_hidden_layers=2, max_position_embeddings=256, rms_norm_eps=1e-5,
        attn_implementation="eager", **more,
    )


LLAMA3 = dict(rope_type="llama3", rope_theta=10000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=32)
GEMMA3 = dict(
    full_attention=dict(rope_type="linear", rope_theta=1e6, factor=8.0),
    sliding_attention=dict(rope_type="default", rope_theta=1e4),
)


def families():
    plain = dict(rope_type="default", rope_theta=50000.0)
    yield "llama", hf.LlamaForCausalLM(hf.LlamaConfig(**common(head_dim=16, rope_parameters=LLAMA3, tie_word_embeddings=False)))
    yield "qwen2", hf.Qwen2ForCausalLM(hf.Qwen2Config(**common(rope_parameters=plain, tie_word_embeddings=False)))
    yield "qwen3", hf.Qwen3ForCausalLM(hf.Qwen3Config(**common(head_dim=16, rope_parameters=plain, tie_word_embeddings=True)))
    yield "gemma", hf.GemmaForCausalLM(hf.GemmaConfig(**common(head_dim=16, tie_word_embeddings=True)))
    more = {**common(head_dim=16, query_pre_attn_scalar=16, sliding_window=8, rope_parameters=GEMMA3, tie_word_embeddings=True)}
    more["num_hidden_layers"] = 6
    yield "gemma3", hf.Gemma3ForCausalLM(hf.Gemma3TextConfig(**more))


def randomise(model, rng):
    """Numbers that bfloat16 holds; norms stay around the identity of their family."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            spread = 0.3 if "norm" in name or "bias" in name else 1.2 / parameter.shape[-1] ** 0.5
            if "embed_tokens" in name:
                spread = 0.5
            base = parameter.numpy() if "norm" in name else 0.0
            numbers = torch.tensor(base + rng.standard_normal(parameter.shape) * spread, dtype=torch.bfloat16)
            parameter.copy_(numbers.float())


NAMES = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "post_attention_layernorm": "ffn_norm",
}
NAMES3 = {**NAMES, "post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm",
          "post_feedforward_layernorm": "post_ffw_norm"}


def stored(family, name, config):
    """llama.cpp's name for a parameter."""
    whole = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
             "lm_head.weight": "output.weight"}
    if name in whole:
        return whole[name]
    _, _, layer, rest = name.split(".", 3)
    rest, kind = rest.rsplit(".", 1)
    return f"blk.{layer}.{(NAMES3 if family == 'gemma3' else NAMES)[rest]}.{kind}"


def permuted(weight, heads):
    """llama.cpp turns neighbours; its converter moves the two halves of a head between each other."""
    return weight.reshape(heads, 2, weight.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(weight.shape)


def rope_factors(rope, dim):
    factors = []
    for freq in 1.0 / rope["rope_theta"] ** (np.arange(0, dim, 2, dtype=np.float32) / dim):
        length, old = 2 * np.pi / freq, rope["original_max_position_embeddings"]
        if length < old / rope["high_freq_factor"]:
            factors.append(1.0)
        elif length > old / rope["low_freq_factor"]:
            factors.append(rope["factor"])
        else:
            smooth = (old / length - rope["low_freq_factor"]) / (rope["high_freq_factor"] - rope["low_freq_factor"])
            factors.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    return np.array(factors, np.float32)


def write_model(path, family, model, tokenizer):
    config = model.config
    writer = gguf.GGUFWriter(path, family)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_key_length(dim)
    writer.add_value_length(dim)
    rope = config.rope_parameters
    if family == "gemma3":
        writer.add_sliding_window(config.sliding_window)
        writer.add_rope_freq_base(rope["full_attention"]["rope_theta"])
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["full_attention"]["factor"])
    else:
        writer.add_rope_freq_base(rope["rope_theta"])
    if family == "llama":
        writer.add_rope_dimension_count(dim)
        writer.add_tensor("rope_freqs.weight", rope_factors(rope, dim))
    tokenizer(writer)
    for name, parameter in model.named_parameters():
        numbers = parameter.detach().numpy()
        if family == "llama" and ("q_proj" in name or "k_proj" in name):
            numbers = permuted(numbers, config.num_attention_heads if "q_proj" in name else config.num_key_value_heads)
        if family.startswith("gemma") and "norm" in name:
            numbers = numbers + 1
        name = stored(family, name, config)
        if numbers.ndim == 2:
            kind = gguf.GGMLQuantizationType.BF16
            writer.add_tensor(name, gguf.quants.quantize(np.ascontiguousarray(numbers), kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, numbers.astype(np.float32))
    finish(writer)


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def plain_tokens(writer):
    """Bytes and nothing else: the models are asked by ids."""
    letters = list(byte_letters().values())
    tokens = letters + ["th"] + [f"<|{i}|>" for i in range(VOCAB - len(letters) - 1)]
    byte_level(writer, "gpt-2", tokens, [3 if token.startswith("<|") else 1 for token in tokens], ["t h"])


def byte_letters():
    kept = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in kept]
    return {**{b: chr(b) for b in kept}, **{b: chr(256 + i) for i, b in enumerate(rest)}}


def byte_level(writer, pre, tokens, types, merges):
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_eos_token_id(len(tokens) - 1)
    writer.add_chat_template("{{ messages[0].content }}")


def pieces(writer, processor, prefix, user):
    types = {"is_unknown": 2, "is_control": 3, "is_unused": 5, "is_byte": 6}
    tokens, scores, kinds = [], [], []
    for index in range(processor.vocab_size()):
        piece = processor.id_to_piece(index)
        kind = next((kind for ask, kind in types.items() if getattr(processor, ask)(index)), 4 if piece in user else 1)
        # The converter writes the spaces of user-defined pieces as such.
        tokens.append((piece.replace("▁", " ") if kind == 4 else piece).encode())
        scores.append(processor.get_score(index))
        kinds.append(kind)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(kinds)
    writer.add_add_space_prefix(prefix)
    writer.add_add_bos_token(False)
    writer.add_eos_token_id(processor.eos_id())
    writer.add_chat_template("{{ messages[0].content }}")


USER = ["\n", "\n\n", "▁▁", "▁▁▁", "<table>"]


def trained_pieces(prefix, user):
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(line for text in CORPUS * 4 for line in text.split("\n")), model_writer=model,
        vocab_size=500, model_type="bpe", byte_fallback=True, normalization_rule_name="identity",
        add_dummy_prefix=prefix, remove_extra_whitespaces=False, split_digits=True, num_threads=1,
        control_symbols=["<start_of_turn>", "<end_of_turn>"], user_defined_symbols=user,
        hard_vocab_limit=False, allow_whitespace_only_pieces=True, minloglevel=2,
    )
    return spm.SentencePieceProcessor(model_proto=model.getvalue())


def trained_bytes():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=420, initial_alphabet=list(byte_letters().values()), show_progress=False)
    tokenizer.train_from_iterator(CORPUS * 4, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(pair) for pair in model["merges"]]


def shape(writer, vocab):
    """The least that a file needs to be taken for a model's; its numbers are never multiplied."""
    writer.add_context_length(256)
    writer.add_embedding_length(2)
    writer.add_block_count(1)
    writer.add_feed_forward_length(2)
    writer.add_head_count(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tensor("token_embd.weight", np.zeros((vocab, 2), np.float16))


def case(text, ids, decode):
    return {"text": text, "ids": ids, "back": decode(ids)}


def tokenizers(out):
    """One GGUF file without a model for each, and the ids of the texts."""
    cases = {}
    for name, prefix, user in [("pieces", False, USER), ("prefixed-pieces", True, [])]:
        processor = trained_pieces(prefix, user)
        writer = gguf.GGUFWriter(os.path.join(out, f"{name}.gguf"), "llama")
        shape(writer, processor.vocab_size())
        pieces(writer, processor, prefix, user)
        finish(writer)
        cases[name] = [case(text, processor.encode(text), processor.decode) for text in AWKWARD]
    vocab, merges = trained_bytes()
    controls = ["<|im_start|>", "<|im_end|>", "<|endoftext|>"]
    for pre, own in [("qwen2", hf.Qwen2Tokenizer), ("gpt-2", hf.GPT2Tokenizer)]:
        name = f"bytes-{pre}"
        reference = own(vocab=dict(vocab), merges=list(merges), unk_token=None, split_special_tokens=True)
        tokens = sorted(vocab, key=vocab.get) + controls
        writer = gguf.GGUFWriter(os.path.join(out, f"{name}.gguf"), "llama")
        shape(writer, len(tokens))
        byte_level(writer, pre, tokens, [3 if t in controls else 1 for t in tokens], [" ".join(pair) for pair in merges])
        finish(writer)
        encode = lambda text: reference.encode(text, add_special_tokens=False, split_special_tokens=True)
        decode = lambda ids: reference.decode(ids, clean_up_tokenization_spaces=False)
        cases[name] = [case(text, encode(text), decode) for text in AWKWARD]
    with open(os.path.join(out, "tokens.json"), "w") as file:
        json.dump(cases, file, separators=(",", ":"))


def main(out):
    os.makedirs(out, exist_ok=True)
    expected = {}
    for family, model in families():
        rng = np.random.default_rng(SEED)
        randomise(model.eval(), rng)
        write_model(os.path.join(out, f"{family}.gguf"), family, model, plain_tokens)
        ids = rng.integers(0, VOCAB, LENGTH)
        with torch.no_grad():
            logits = model(torch.tensor(ids)[None]).logits[0].numpy().astype(np.float32)
        expected[f"{family}.ids"] = ids.astype(np.int32)
        expected[f"{family}.logits"] = np.ascontiguousarray(logits[[0, 1, 7, 8, 9, 30, LENGTH - 1]])
        print(family, sum(p.numel() for p in model.parameters()), "parameters, logits' spread", logits.std())
    save_file(expected, os.path.join(out, "expected.safetensors"), {"seed": str(SEED), "rows": "0 1 7 8 9 30 47"})
    tokenizers(out)


if __name__ == "__main__":
    main(sys.argv[1])
