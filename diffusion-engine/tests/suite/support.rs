//! What the tests share: where the golden files are, and a tiny model made of the golden checkpoint's weights with a
//! byte-level tokenizer and a chat template of its own. Compiled into the crate's unit tests too.
#![allow(dead_code)] // each test program uses its part

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// Id of the first control token below; the byte-level entries and three merges come before.
pub(crate) const FIRST_SPECIAL: u32 = 259;
pub(crate) const SPECIALS: [&str; 6] =
    ["<|startoftext|>", "<|endoftext|>", "<|mask|>", "<|role_end|>", "<role>", "</role>"];

/// The LLaDA2 role format, with tools as JSON lines.
pub(crate) const TEMPLATE: &str = r#"
{%- set ns = namespace(system='') -%}
{%- for m in messages -%}
{%- if m.role == 'system' -%}{%- set ns.system = ns.system + m.content + '\n' -%}{%- endif -%}
{%- endfor -%}
{{- '<role>SYSTEM</role>' + ns.system -}}
{%- if tools -%}
{{- '# Tools\n<tools>' -}}
{%- for tool in tools -%}{{- '\n' -}}{{- tool | tojson -}}{%- endfor -%}
{{- '\n</tools>\n' -}}
{%- endif -%}
{{- 'detailed thinking off<|role_end|>' -}}
{%- for m in messages -%}
{%- if m.role == 'user' -%}
{{- '<role>HUMAN</role>' + m.content + '<|role_end|>' -}}
{%- elif m.role == 'assistant' -%}
{{- '<role>ASSISTANT</role>' + m.content.strip() -}}
{%- for call in m.tool_calls or [] -%}
{{- '<tool_call>\n{"name": "' + call.function.name + '", "arguments": ' -}}
{%- if call.function.arguments is string -%}{{- call.function.arguments -}}
{%- else -%}{{- call.function.arguments | tojson(ensure_ascii=False) -}}{%- endif -%}
{{- '}\n</tool_call>' -}}
{%- endfor -%}
{{- '<|role_end|>' -}}
{%- elif m.role == 'tool' -%}
{{- '<role>OBSERVATION</role>\n<tool_response>\n' + m.content + '\n</tool_response><|role_end|>' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<role>ASSISTANT</role>' -}}{%- endif -%}
"#;

/// The folder with the golden files, beside the workspace or where `WEIR_SHARED` says.
pub(crate) fn golden() -> PathBuf {
    let shared = match std::env::var_os("WEIR_SHARED") {
        Some(shared) => PathBuf::from(shared),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
    };
    let folder = shared.join("golden/tiny-llada2");
    assert!(
        folder.join("model.safetensors").is_file(),
        "the golden files are not in {}; set WEIR_SHARED to the folder that holds golden/",
        folder.display()
    );
    folder
}

/// A byte-level BPE: all 256 bytes, the merges he, ll, llo, the control tokens, and two plain added tokens.
pub(crate) fn tokenizer_json() -> Value {
    let mut vocab: BTreeMap<String, u32> = BTreeMap::new();
    let mut beyond = 256;
    for byte in 0..=255u32 {
        let printable = matches!(byte, 33..=126 | 161..=172 | 174..=255);
        let code = if printable {
            byte
        } else {
            beyond += 1;
            beyond - 1
        };
        vocab.insert(char::from_u32(code).expect("a character").to_string(), byte);
    }
    for (offset, merged) in ["he", "ll", "llo"].into_iter().enumerate() {
        vocab.insert(merged.into(), 256 + offset as u32);
    }
    let added: Vec<Value> = SPECIALS
        .iter()
        .map(|text| (*text, true))
        .chain([("<tool_call>", false), ("</tool_call>", false)])
        .enumerate()
        .map(|(offset, (text, special))| {
            json!({
                "id": FIRST_SPECIAL + offset as u32, "content": text, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": special
            })
        })
        .collect();
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": byte_level, "post_processor": null, "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": [["h", "e"], ["l", "l"], ["ll", "o"]]
        }
    })
}

pub(crate) fn tokenizer_config_json() -> Value {
    json!({"eos_token": "<|endoftext|>", "chat_template": TEMPLATE})
}

pub(crate) fn config_json(model_type: &str) -> Value {
    let golden = std::fs::read(golden().join("config.json")).expect("golden config");
    let mut config: Value = serde_json::from_slice(&golden).expect("JSON");
    config["model_type"] = model_type.into();
    config
}

/// Writes the tiny model as `model_type` into `dir`.
pub(crate) fn write_model(dir: &Path, model_type: &str) {
    let write = |name: &str, value: &Value| std::fs::write(dir.join(name), value.to_string()).expect("writable");
    write("config.json", &config_json(model_type));
    write("tokenizer.json", &tokenizer_json());
    write("tokenizer_config.json", &tokenizer_config_json());
    std::fs::copy(golden().join("model.safetensors"), dir.join("model.safetensors")).expect("writable");
}

/// The tiny model as files in a temporary folder.
pub(crate) fn tiny_model(model_type: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("temporary folder");
    write_model(dir.path(), model_type);
    dir
}
