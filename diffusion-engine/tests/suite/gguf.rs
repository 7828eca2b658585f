//! GGUF files: the golden model through one, and hostile ones, each with what its error must say.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use safetensors::SafeTensors;
use weir_diffusion_engine::inspect::{inspect, verify};
use weir_diffusion_engine::{Engine, EngineKind, EngineOptions, ModelFiles, logits_for};
use weir_protocol::{ChatRequest, Message, Role};

use crate::gguf_file::{self, F32, File, LIST, TEXT, U32, list, text, typed};
use crate::support;

fn written(dir: &tempfile::TempDir, bytes: &[u8]) -> PathBuf {
    let path = dir.path().join("tiny.gguf");
    std::fs::write(&path, bytes).expect("writable");
    path
}

fn load(path: &Path) -> Result<Engine, String> {
    let options = EngineOptions::default();
    Engine::load(ModelFiles::Dir(path.to_path_buf()), options).map_err(|error| error.to_string())
}

fn request(content: &str) -> ChatRequest {
    ChatRequest { messages: vec![Message::text(Role::User, content)], ..ChatRequest::default() }
}

#[test]
fn a_single_file_is_a_whole_checkpoint() {
    let (folder, dir) = (support::tiny_model("llada2_moe"), tempfile::tempdir().expect("folder"));
    let path = written(&dir, &gguf_file::golden().bytes());
    let (from_folder, from_file) = (load(folder.path()).expect("loads"), load(&path).expect("loads"));
    let (a, b) = (from_folder.info(), from_file.info());
    assert_eq!(
        (a.parameters, a.weights_bytes, a.context, a.vocab),
        (b.parameters, b.weights_bytes, b.context, b.vocab)
    );
    assert_eq!((b.kind, b.architecture.as_str()), (EngineKind::Diffusion, "llada2_moe"));
    // The same tokenizer and template: control tokens in text stay text, merges merge, other scripts stay whole.
    for content in ["hello", "it's <|mask|> 12 hello\n\n  yellow", "žluťoučký <tool_call> 漢字 <role>x</role>", ""]
    {
        let request = request(content);
        let counts = [&from_folder, &from_file].map(|engine| engine.count_prompt_tokens(&request).expect("renders"));
        assert_eq!(counts[0], counts[1], "{content}");
    }
    let answer = |engine: &Engine| {
        let mut asked = request("hello");
        asked.max_tokens = Some(40);
        let mut generation = engine.generate(&asked).expect("starts");
        std::iter::from_fn(move || generation.next_blocking()).map(|event| format!("{event:?}")).collect::<Vec<_>>()
    };
    assert_eq!(answer(&from_folder), answer(&from_file));
    assert!(verify(&path, |_| {}).is_empty());
    assert_eq!(inspect(&path).expect("reads").parameters, 313_920);
}

#[test]
fn any_single_file_is_read_as_one_and_what_is_none_is_named() {
    let dir = tempfile::tempdir().expect("folder");
    // As Ollama keeps them.
    let path = dir.path().join("sha256-970aa74c");
    std::fs::write(&path, gguf_file::golden().bytes()).expect("writable");
    assert!(load(&path).is_ok() && verify(&path, |_| {}).is_empty());
    std::fs::write(&path, "{}").expect("writable");
    let error = load(&path).map(|_| ()).expect_err("is no model");
    assert!(error.contains("sha256-970aa74c: does not begin with GGUF"), "{error}");
    let error = inspect(&dir.path().join("absent.gguf")).expect_err("is not there").to_string();
    assert!(error.contains("absent.gguf: ") && !error.contains("config.json"), "{error}");
}

#[test]
fn the_ar_sibling_loads_and_a_tokenizer_of_its_own_is_taken_at_its_word() {
    let dir = tempfile::tempdir().expect("folder");
    let mut file = gguf_file::golden();
    for (key, _) in &mut file.keys {
        *key = key.replace("llada2.", "bailingmoe2.");
    }
    file.set("general.architecture", typed(TEXT, &text("bailingmoe2")));
    file.set("tokenizer.ggml.pre", typed(TEXT, &text("weir-nano")));
    let path = written(&dir, &file.bytes());
    assert!(load(&path).expect_err("unknown splitting").contains("tokenizer.ggml.pre"));
    file.set("tokenizer.huggingface.json", typed(TEXT, &text(&support::tokenizer_json().to_string())));
    let engine = load(&written(&dir, &file.bytes())).expect("loads");
    assert_eq!(engine.info().kind, EngineKind::Autoregressive);
    assert_eq!(engine.info().architecture, "bailing_moe_v2");
}

#[test]
fn published_splitting_builds() {
    let dir = tempfile::tempdir().expect("folder");
    let mut file = gguf_file::golden();
    file.set("tokenizer.ggml.pre", typed(TEXT, &text("bailingmoe2")));
    let engine = load(&written(&dir, &file.bytes())).expect("loads");
    let count = |content: &str| engine.count_prompt_tokens(&request(content)).expect("renders");
    // Splitting keeps digits apart and `hello` together: he + llo.
    assert_eq!(count("hello") + 2, count("hello 1"));
}

/// The error for this file must say all of `words`.
fn refused(words: &[&str], bytes: &[u8]) {
    let dir = tempfile::tempdir().expect("folder");
    let path = written(&dir, bytes);
    let error = load(&path).expect_err(&format!("{words:?} must not load"));
    for word in ["tiny.gguf"].iter().chain(words) {
        assert!(error.contains(word), "`{error}` does not say `{word}`");
    }
    let listed = verify(&path, |_| {});
    assert!(listed.iter().any(|fault| fault.to_string() == error), "verify finds the same: {error}\n{listed:?}");
}

fn changed(words: &[&str], change: impl FnOnce(&mut File)) {
    let mut file = gguf_file::golden();
    change(&mut file);
    refused(words, &file.bytes());
}

/// The file with `bytes` at `at`.
fn patched(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut file = gguf_file::golden().bytes();
    file[at..at + bytes.len()].copy_from_slice(bytes);
    file
}

#[test]
fn the_header_is_bounded_by_the_file() {
    let whole = gguf_file::golden().bytes();
    refused(&["begin with GGUF"], b"");
    refused(&["begin with GGUF"], b"GGML....");
    refused(&["version 1"], &patched(4, &1u32.to_le_bytes()));
    refused(&["version 4"], &patched(4, &4u32.to_le_bytes()));
    refused(&["big-endian"], &patched(4, &3u32.to_be_bytes()));
    refused(&["claims 18446744073709551615 tensors"], &patched(8, &u64::MAX.to_le_bytes()));
    refused(&["claims 1152921504606846976 keys"], &patched(16, &(1u64 << 60).to_le_bytes()));
    refused(&["name of key 0", "a text of 18446744073709551615 bytes"], &patched(24, &u64::MAX.to_le_bytes()));
    refused(&["name of key 0", "the file is cut"], &patched(24, &(1u64 << 25).to_le_bytes()));
    refused(&["name of key 0", "not UTF-8"], &patched(32, &[0xff]));
    for cut in [7, 20, 40, 2000, whole.len() / 2, whole.len() - 32] {
        let dir = tempfile::tempdir().expect("folder");
        assert!(load(&written(&dir, &whole[..cut])).is_err(), "cut at {cut}");
    }
}

#[test]
fn keys_are_checked() {
    let put = |words: &[&str], key: &str, value: Vec<u8>| changed(words, |file| file.set(key, value));
    put(&["general.alignment", "0 is not a power of two"], "general.alignment", typed(U32, &0u32.to_le_bytes()));
    put(&["general.alignment", "48"], "general.alignment", typed(U32, &48u32.to_le_bytes()));
    put(&["general.alignment", "whole number"], "general.alignment", typed(F32, &32f32.to_le_bytes()));
    put(&["key `x`", "value type 13"], "x", typed(13, &[]));
    put(&["key `x`", "neither true nor false"], "x", typed(7, &[2]));
    let many = [&TEXT.to_le_bytes()[..], &(1u64 << 61).to_le_bytes()].concat();
    put(&["key `x`", "claims 2305843009213693952 elements"], "x", typed(LIST, &many));
    let nested = [&LIST.to_le_bytes()[..], &1u64.to_le_bytes()].concat();
    put(&["key `x`", "list of value type 9"], "x", typed(LIST, &nested));
    changed(&["key `general.architecture` occurs twice"], |file| {
        let first = file.keys[0].clone();
        file.keys.push(first);
    });
    put(&["general.architecture", "llada2, bailingmoe2"], "general.architecture", typed(TEXT, &text("mamba")));
    let whole = |value: u32| typed(U32, &value.to_le_bytes());
    put(&["llada2.expert_gating_func", "sigmoid"], "llada2.expert_gating_func", whole(1));
    put(&["llada2.attention.value_length"], "llada2.attention.value_length", whole(8));
    put(&["llada2.nextn_predict_layers"], "llada2.nextn_predict_layers", whole(1));
    put(&["llada2.rope.scaling.type"], "llada2.rope.scaling.type", typed(TEXT, &text("yarn")));
    put(&["diffusion.shift_logits"], "diffusion.shift_logits", typed(7, &[1]));
    put(&["split.count", "merge"], "split.count", whole(3));
    put(&["llada2.embedding_length", "whole number in"], "llada2.embedding_length", whole(0));
    put(&["llada2.block_count"], "llada2.block_count", typed(TEXT, &text("3")));
    put(&["llada2.expert_group_count", "must divide"], "llada2.expert_group_count", whole(3));
    put(&["llada2.delete_token_id"], "llada2.delete_token_id", whole(320));
}

#[test]
fn the_tokenizer_is_checked() {
    let put = |words: &[&str], key: &str, value: Vec<u8>| changed(words, |file| file.set(key, value));
    let drop = |words: &[&str], key: &str| changed(words, |file| file.keys.retain(|(own, _)| own != key));
    put(&["tokenizer.ggml.model", "gpt2"], "tokenizer.ggml.model", typed(TEXT, &text("bert")));
    drop(&["tokenizer.ggml.pre"], "tokenizer.ggml.pre");
    drop(&["tokenizer.ggml.tokens", "missing"], "tokenizer.ggml.tokens");
    drop(&["tokenizer.ggml.token_type", "missing"], "tokenizer.ggml.token_type");
    drop(&["tokenizer.chat_template", "missing"], "tokenizer.chat_template");
    put(&["tokenizer.ggml.token_type", "1 types for 267"], "tokenizer.ggml.token_type", list(5, &[vec![1, 0, 0, 0]]));
    put(&["tokenizer.ggml.tokens", "list of texts"], "tokenizer.ggml.tokens", list(5, &[]));
    put(&["tokenizer.ggml.merges", "element 0"], "tokenizer.ggml.merges", list(TEXT, &[text("he")]));
    put(&["tokenizer.ggml", "unknown"], "tokenizer.ggml.merges", list(TEXT, &[text("unknown pair")]));
    put(&["tokenizer.ggml.eos_token_id", "9999"], "tokenizer.ggml.eos_token_id", typed(U32, &9999u32.to_le_bytes()));
    let same: Vec<Vec<u8>> = (0..267).map(|_| text("a")).collect();
    put(&["tokenizer.ggml.tokens", "token 1 has the text"], "tokenizer.ggml.tokens", list(TEXT, &same));
    put(&["tokenizer.huggingface.json"], "tokenizer.huggingface.json", typed(TEXT, &text("{}")));
}

#[test]
fn tensors_are_checked() {
    const UP: &str = "blk.1.ffn_up_exps.weight";
    changed(&[UP, "is missing"], |file| file.tensors.retain(|tensor| tensor.name != UP));
    changed(&["blk.9.attn_norm.weight", "not part"], |file| {
        let mut more = file.tensor("blk.1.attn_norm.weight").clone();
        more.name = "blk.9.attn_norm.weight".into();
        file.tensors.push(more);
    });
    changed(&[UP, "occurs twice"], |file| {
        let again = file.tensor(UP).clone();
        file.tensors.push(again);
    });
    changed(&[UP, "expected shape [16, 32, 64], got [16, 64, 32]"], |file| {
        file.tensor(UP).dimensions = vec![32, 64, 16];
    });
    changed(&[UP, "5 dimensions"], |file| file.tensor(UP).dimensions = vec![64, 32, 16, 1, 1]);
    changed(&[UP, "0 dimensions"], |file| file.tensor(UP).dimensions = vec![]);
    changed(&[UP, "dimension is 0"], |file| file.tensor(UP).dimensions = vec![64, 0, 16]);
    changed(&[UP, "overflows"], |file| file.tensor(UP).dimensions = vec![64, 1 << 40, 1 << 40]);
    changed(&[UP, "element type 11"], |file| file.tensor(UP).kind = 11);
    changed(&[UP, "rows of Q6_K blocks of 256"], |file| file.tensor(UP).kind = 14);
    changed(&["element 70 is not a finite number", UP], |file| {
        file.tensor(UP).data[280..284].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    // A part of a merged tensor counts from the tensor's begin.
    changed(&["element 2048 is not a finite number", UP], |file| {
        file.tensor(UP).data[8192..8196].copy_from_slice(&f32::INFINITY.to_le_bytes());
    });
}

#[test]
fn tensors_lie_without_hole_or_overlap() {
    let file = gguf_file::golden();
    let head = file.head().len();
    // The last eight bytes of the list are the last tensor's offset.
    let last = &file.tensors.last().expect("tensors").name;
    let due = u64::from_le_bytes(file.head()[head - 8..].try_into().expect("eight bytes"));
    for wrong in [due - 32, due + 32, due + 1, 0, u64::MAX, u64::MAX - 31] {
        refused(&[last, "is due"], &patched(head - 8, &wrong.to_le_bytes()));
    }
    let bytes = file.bytes();
    refused(&[last, "outside"], &bytes[..bytes.len() - 64]);
    refused(&["tensors end at byte"], &[bytes, vec![0; 32]].concat());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_damaged_file_never_panics(
        flips in proptest::collection::vec((0usize..9_000, any::<u8>()), 1..6), cut in proptest::option::of(0usize..9_000)
    ) {
        let mut bytes = gguf_file::golden().bytes();
        for (at, value) in flips {
            bytes[at] = value;
        }
        bytes.truncate(cut.unwrap_or(usize::MAX));
        let dir = tempfile::tempdir().expect("folder");
        let path = written(&dir, &bytes);
        let _ = inspect(&path);
        // Whatever verify passes must load, and the other way round.
        prop_assert_eq!(load(&path).is_ok(), verify(&path, |_| {}).is_empty());
    }
}

#[test]
fn a_converted_model_gives_the_logits_of_its_own_numbers() {
    // `training/test_gguf.py --fixtures`: converted to Q8_0 by training/to_gguf.py; the logits are those that the
    // training code's network gives with the numbers gguf-py reads from the file.
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let file = fixtures.join("small.gguf");
    assert!(verify(&file, |_| {}).is_empty());
    let types: Vec<&str> = inspect(&file).expect("reads").types.iter().map(|share| share.name).collect();
    assert_eq!(types, ["F32", "Q8_0"]);
    let expected = std::fs::read(fixtures.join("small.expected.safetensors")).expect("fixture");
    let expected = SafeTensors::deserialize(&expected).expect("safetensors");
    let read = |name: &str| expected.tensor(name).expect("present").data().as_chunks::<4>().0.to_vec();
    let ids: Vec<u32> = read("input_ids").into_iter().map(u32::from_le_bytes).collect();
    let due: Vec<f32> = read("logits").into_iter().map(f32::from_le_bytes).collect();
    assert_eq!((ids.len(), due.len()), (40, 24 * 272));
    for use_cache in [false, true] {
        let got = logits_for(&file, &ids, 32, use_cache).expect("loads");
        for (index, (got, due)) in got.iter().zip(&due).enumerate() {
            assert!((got - due).abs() <= 2e-4, "element {index}: {got} where {due} is due");
        }
    }
    let engine = load(&file).expect("loads");
    // <role>SYSTEM</role>detailed thinking off<|role_end|>, <role>HUMAN</role>, he, llo, <|role_end|>,
    // <role>ASSISTANT</role>; letters are a token each.
    assert_eq!(engine.count_prompt_tokens(&request("hello")).expect("renders"), 30 + 7 + 2 + 1 + 11);
}
