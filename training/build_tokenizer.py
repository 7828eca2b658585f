"""Builds the byte-level BPE tokenizer of the nano models from the generators' text.

Two thirds of the vocabulary are whole pre-tokens (words, JSON fragments) taken
directly from the generators; with `ignore_merges` the encoder uses such an entry
without needing intermediate merges. Everything else falls back on ordinary
byte-level merges, down to single bytes, so every text can be encoded.

    python build_tokenizer.py OUT_DIR
"""

import collections
import itertools
import json
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

import mix
import template

VOCAB = 1280
FALLBACK = 120  # merges for text outside the banks

SPLIT = "|".join([
    r"# Tools\n<tools>", r"\n</tools>\n", r"detailed thinking off",
    r"\n[a-z]+(?:_[a-z]+)+",  # an offered tool
    r'\n\{"name": "', r'", "arguments": \{"', r'": "', r'", "', r'": ', r'"\}\}\n', r"\}\}\n", r', "', r'"\}', r'\{"',
    r"</?tool_response>\n?",
    r", ", r": ", r">[A-Z]", r"'[a-z]+",
    r" ?\p{N}", r" ?[\p{L}]+(?:_[a-z]+)*", r" ?[^\s\p{L}\p{N}]", r"\s",
])


def pre_tokenizer():
    return pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])


def corpus(n=60000, seed=99):
    for s in itertools.islice(mix.stream(seed), n):
        text = template.render(s["user"], s["system"], s["tools"]) + s["answer"]
        for special in template.SPECIAL + template.VISIBLE:
            text = text.replace(special, "\x00")
        yield from (part for part in text.split("\x00") if part)


def build(samples=60000):
    pre = pre_tokenizer()
    counts, rare = collections.Counter(), collections.Counter()
    for part in corpus(samples):
        counts.update(piece for piece, _ in pre.pre_tokenize_str(part))
    # fallback merges, learned on distinct words so that common ones do not take them all
    trainer_tok = Tokenizer(models.BPE())
    trainer_tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    trainer = trainers.BpeTrainer(
        vocab_size=256 + FALLBACK, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    words = [w.replace("Ġ", " ") for w in counts if w.replace("Ġ", "").isalpha()]
    trainer_tok.train_from_iterator(sorted(words), trainer)
    base = json.loads(trainer_tok.to_str())["model"]
    vocab, merges = dict(base["vocab"]), [tuple(m) for m in base["merges"]]
    room = VOCAB - len(template.SPECIAL) - len(template.VISIBLE)
    kept = 0
    for piece, count in sorted(counts.items(), key=lambda kv: (-kv[1], kv[0])):
        if len(vocab) >= room:
            break
        if piece not in vocab:
            vocab[piece] = len(vocab)
            kept = count
    tok = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=True))
    tok.pre_tokenizer = pre
    tok.decoder = decoders.ByteLevel()
    tok.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in template.SPECIAL])
    tok.add_tokens([AddedToken(t, special=False, normalized=False) for t in template.VISIBLE])
    missing = {w: c for w, c in counts.items() if w not in vocab}
    print("left out, most frequent:", sorted(missing, key=missing.get)[-60:])
    print(f"vocab {tok.get_vocab_size()}, distinct pre-tokens {len(counts)}, least count kept {kept}, "
          f"left out {len(missing)} types / {sum(missing.values())} of {sum(counts.values())} tokens")
    return tok


def check(tok):
    text = "Ünïcode 漢字 \U0001f600 <x>\t\n  {\"a\": 1}\r\n"
    assert tok.decode(tok.encode(text).ids) == text
    for s in itertools.islice(mix.stream(7), 2000):
        text = template.render(s["user"], s["system"], s["tools"]) + s["answer"]
        assert tok.decode(tok.encode(text).ids, skip_special_tokens=False) == text, text


if __name__ == "__main__":
    t = build()
    check(t)
    t.save(sys.argv[1] + "/tokenizer.json")
