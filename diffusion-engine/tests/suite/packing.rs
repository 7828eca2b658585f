//! Packing a checkpoint: what comes out loads, is checked, answers alike, and a cut-off packing goes on.

use std::path::{Path, PathBuf};

use weir_diffusion_engine::inspect::{inspect, verify};
use weir_diffusion_engine::pack::pack;
use weir_diffusion_engine::{
    DecoderKind, DiffusionOptions, Engine, EngineOptions, LogitsModel, ModelFiles, Recipe, SharePrefixes, logits_for,
};

use crate::answers::{ask, request};
use crate::{dense, gguf_file, support};

fn nano() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/nano/diffusion")
}

fn recipe(text: &str) -> Recipe {
    Recipe::parse(text).expect("a recipe")
}

fn packed(from: &Path, text: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("folder");
    pack(from, folder.path(), &recipe(text), |_| {}).expect("packs");
    folder
}

/// Ids that look like text to a vocabulary of this size.
fn ids(vocab: u32) -> Vec<u32> {
    (0..70u32).map(|i| (i * 37 + i * i) % vocab).collect()
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let square: f32 = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum();
    let size: f32 = a.iter().map(|a| a * a).sum();
    (square / size).sqrt()
}

#[test]
fn f32_comes_back_to_the_bit_and_few_bits_come_near() {
    let ids = ids(1200);
    let exact = logits_for(&nano(), &ids, 32, true).expect("logits");
    let got = |text: &str| logits_for(packed(&nano(), text).path(), &ids, 32, true).expect("logits");
    assert_eq!(got("f32"), exact);
    let [bf16, q8, q4m, q4] = ["bf16", "q8", "q4m", "q4"].map(|text| distance(&exact, &got(text)));
    // The ids are not text, so that some routers waver: what packing costs on text is in docs/quantisation.md.
    assert!(bf16 < 0.01 && q8 < 0.1 && q4m < 0.4 && q4 < 0.5, "{bf16} {q8} {q4m} {q4}");
    assert!(bf16 < q8 && q8 < q4m, "{bf16} {q8} {q4m} {q4}");
}

#[test]
fn a_block_gives_the_same_alone_and_in_company() {
    // Without the cache all blocks are one forward, with it each is one of its own: rows must not mind.
    let ids = ids(1200);
    for text in ["q4", "default"] {
        let folder = packed(&nano(), text);
        let model = LogitsModel::open(folder.path()).expect("loads");
        let (alone, together) = (model.logits(&ids, 32, true), model.logits(&ids, 32, false));
        assert_eq!(alone.expect("logits"), together.expect("logits"), "{text}");
    }
}

#[test]
fn the_packed_head_commits_what_whole_logits_would() {
    for text in ["default", "q4", "bf16"] {
        let folder = packed(&nano(), text);
        for decoder in [DecoderKind::Threshold, DecoderKind::Joint] {
            let defaults = DiffusionOptions { decoder: Some(decoder), ..DiffusionOptions::default() };
            let options = EngineOptions { defaults, share_prefixes: SharePrefixes::Off, ..EngineOptions::default() };
            let engine = Engine::load(ModelFiles::Dir(folder.path().into()), options).expect("loads");
            for words in ["Alphabetical order: arrow, iron, nut, coat", "Path from L to F: L>B D>F L>D", "Hello!"] {
                // Whoever asks for log-probabilities gets whole logits; the others the likeliest token only.
                let fused = request(words, 48);
                let mut whole = fused.clone();
                whole.sampling.logprobs = Some(1);
                let (fused, whole) = (ask(&engine, &fused), ask(&engine, &whole));
                assert!(
                    !fused.text.is_empty() && fused.logprobs.is_empty() && !whole.logprobs.is_empty(),
                    "{text} {words}"
                );
                assert_eq!((fused.text, fused.usage), (whole.text, whole.usage), "{text} {decoder:?} {words}");
            }
        }
    }
}

#[test]
fn a_model_packed_while_it_is_read_answers_as_the_packed_file_does() {
    for text in ["q8", "default"] {
        let recipe = Recipe::parse(text).expect("a recipe");
        let answer = |place: &Path, recipe: Recipe| {
            let defaults = DiffusionOptions { decoder: Some(DecoderKind::Threshold), ..DiffusionOptions::default() };
            let options = EngineOptions { defaults, recipe, ..EngineOptions::default() };
            let engine = Engine::load(ModelFiles::Dir(place.into()), options).expect("loads");
            let mut request = request("Sort these words: lemon, apple, mirror, chair, honey", 64);
            request.sampling.logprobs = Some(1);
            let answered = ask(&engine, &request);
            (answered.text, answered.usage, answered.logprobs)
        };
        let file = packed(&nano(), text);
        let read = answer(&nano(), recipe);
        assert!(!read.0.is_empty() && read == answer(file.path(), Recipe::EXACT), "{text}");
        assert_eq!(read, answer(file.path(), recipe), "{text}: what is packed stays");
        assert_ne!(read.2, answer(&nano(), Recipe::EXACT).2, "{text}: it was packed");
    }
}

#[test]
fn a_pool_of_experts_answers_and_is_no_other_model_when_it_binds_nobody() {
    let answer = |pool: Option<usize>| {
        let defaults = DiffusionOptions { decoder: Some(DecoderKind::Threshold), ..DiffusionOptions::default() };
        let options = EngineOptions { expert_pool: pool, defaults, ..EngineOptions::default() };
        let engine = Engine::load(ModelFiles::Dir(nano()), options).expect("loads");
        ask(&engine, &request("Sort these words: lemon, apple, mirror, chair, honey", 64)).text
    };
    assert_eq!(answer(Some(8)), answer(None), "all eight: only the groups are gone");
    assert!(!answer(Some(4)).is_empty());
}

#[test]
fn a_packed_model_is_told_verified_and_its_damage_found() {
    let folder = packed(&nano(), "default");
    let report = inspect(folder.path()).expect("a report");
    let names: Vec<&str> = report.types.iter().map(|share| share.name).collect();
    assert_eq!(names, ["F32", "WEIR_Q4M", "WEIR_Q8"]);
    assert_eq!(report.parameters, inspect(&nano()).expect("a report").parameters);
    assert!(verify(folder.path(), |_| {}).is_empty());

    let file = folder.path().join("model.weir");
    let mut bytes = std::fs::read(&file).expect("readable");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, &bytes).expect("writable");
    let faults: Vec<String> = verify(folder.path(), |_| {}).iter().map(ToString::to_string).collect();
    assert!(faults.len() == 1 && faults[0].contains("checksum"), "{faults:?}");

    bytes.truncate(middle);
    std::fs::write(&file, &bytes).expect("writable");
    let error = LogitsModel::open(folder.path()).expect_err("cut").to_string();
    assert!(error.contains("model.weir"), "{error}");
}

#[test]
fn a_cut_off_packing_goes_on_where_it_was() {
    let folder = packed(&nano(), "q4m");
    let (file, sums) = (folder.path().join("model.weir"), folder.path().join("model.weir.sha256"));
    let (due, lines) = (std::fs::read(&file).expect("file"), std::fs::read_to_string(&sums).expect("sums"));
    // As a power cut leaves it: half of the data, half of the lines, the last one torn.
    let rename = |from: &Path| {
        let mut name = from.as_os_str().to_owned();
        name.push(".partial");
        std::fs::rename(from, &name).expect("renamed");
        PathBuf::from(name)
    };
    let (partial, partial_sums) = (rename(&file), rename(&sums));
    std::fs::write(&partial, &due[..due.len() / 2]).expect("cut");
    std::fs::write(&partial_sums, &lines[..lines.len() / 2]).expect("cut");
    let (mut kept, mut written) = (0, 0);
    let again = |text: &str, kept: &mut usize, written: &mut usize| {
        pack(&nano(), folder.path(), &recipe(text), |progress| {
            *(if progress.kept { &mut *kept } else { &mut *written }) += 1
        })
        .expect("packs")
    };
    let report = again("q4m", &mut kept, &mut written);
    assert!(kept > 5 && written > 5 && kept + written == report.tensors, "{kept} kept, {written} written");
    assert_eq!(std::fs::read(&file).expect("file"), due);
    assert_eq!(std::fs::read_to_string(&sums).expect("sums"), lines);
    assert!(!partial.exists() && !partial_sums.exists());

    // Another recipe keeps nothing, and neither does data that is not what its sum says.
    std::fs::rename(&file, &partial).expect("renamed");
    std::fs::rename(&sums, &partial_sums).expect("renamed");
    let (mut kept, mut written) = (0, 0);
    again("q8", &mut kept, &mut written);
    assert_eq!(kept, 0);
    assert!(verify(folder.path(), |_| {}).is_empty());
}

#[test]
fn two_calls_do_not_write_the_same_file() {
    let folder = tempfile::tempdir().expect("folder");
    let mut refused = Vec::new();
    let report = pack(&nano(), folder.path(), &recipe("q8"), |_| {
        refused.extend(pack(&nano(), folder.path(), &recipe("q4"), |_| {}).err().map(|error| error.to_string()));
    });
    assert_eq!(refused.len(), report.expect("packs").tensors);
    assert!(refused.iter().all(|error| error.contains("another `weir model pack` is writing it")), "{refused:?}");
    assert!(verify(folder.path(), |_| {}).is_empty());
}

#[test]
fn another_checkpoints_folder_is_left_alone() {
    let folder = tempfile::tempdir().expect("folder");
    let config = folder.path().join("config.json");
    std::fs::write(&config, "another's").expect("writable");
    std::fs::write(folder.path().join("model-00001-of-00002.safetensors"), "another's").expect("writable");
    let error = pack(&nano(), folder.path(), &recipe("q8"), |_| {}).expect_err("refused").to_string();
    assert!(error.contains("model-00001-of-00002.safetensors") && error.contains("a folder of its own"), "{error}");
    assert_eq!(std::fs::read_to_string(&config).expect("there"), "another's");
    assert_eq!(std::fs::read_dir(folder.path()).expect("there").count(), 2, "nothing was added");
}

#[test]
fn what_cannot_be_packed_is_told_before_anything_is_written() {
    let from = packed(&nano(), "q8");
    let there = || std::fs::read_dir(from.path()).expect("there").count();
    let before = there();
    let error = pack(from.path(), from.path(), &recipe("q4"), |_| {}).expect_err("refused").to_string();
    assert!(error.contains("take the checkpoint it was made from"), "{error}");
    assert_eq!(there(), before, "nothing was added");
    let to = from.path().join("to");
    assert!(pack(from.path(), &to, &recipe("q4"), |_| {}).is_err() && !to.exists());
}

#[cfg(unix)]
#[test]
fn papers_replace_what_is_there_whole_and_never_write_through_a_link() {
    let folder = tempfile::tempdir().expect("folder");
    let (others, to) = (folder.path().join("others.json"), folder.path().join("to"));
    std::fs::create_dir(&to).expect("writable");
    std::fs::write(&others, "another's").expect("writable");
    std::os::unix::fs::symlink(&others, to.join("config.json")).expect("linked");
    // Where the last paper cannot be written, as on a full disk, the first are what they were.
    let blocked = to.join("tokenizer_config.json.partial");
    std::fs::create_dir(&blocked).expect("writable");
    std::fs::write(to.join("tokenizer.json"), "another's").expect("writable");
    let error = pack(&nano(), &to, &recipe("q8"), |_| {}).expect_err("refused").to_string();
    assert!(error.contains("tokenizer_config.json"), "{error}");
    assert_eq!(std::fs::read_to_string(to.join("tokenizer.json")).expect("there"), "another's");
    std::fs::remove_dir(&blocked).expect("there");
    pack(&nano(), &to, &recipe("q8"), |_| {}).expect("packs");
    assert_eq!(std::fs::read_to_string(&others).expect("there"), "another's");
    assert!(verify(&to, |_| {}).is_empty());
    let rests = std::fs::read_dir(&to).expect("there").flatten();
    assert_eq!(rests.filter(|file| file.file_name().to_string_lossy().contains(".partial")).count(), 0);
}

#[test]
fn a_gguf_file_packs_too_and_recipes_name_their_mistakes() {
    let dir = tempfile::tempdir().expect("folder");
    let path = dir.path().join("tiny.gguf");
    std::fs::write(&path, gguf_file::golden().bytes()).expect("writable");
    assert!(verify(packed(&path, "q8").path(), |_| {}).is_empty());
    let ids = ids(200);
    let exact = logits_for(&path, &ids, 32, true).expect("logits");
    assert_eq!(logits_for(packed(&path, "f32").path(), &ids, 32, true).expect("logits"), exact);
    let tiny = support::tiny_model("bailing_moe_v2");
    assert!(verify(packed(tiny.path(), "default").path(), |_| {}).is_empty());

    let chat = dense::written(&dir, &dense::tiny("llama"));
    let error = pack(&chat, &dir.path().join("chat"), &recipe("q8"), |_| {}).expect_err("refused").to_string();
    assert!(error.contains("[engine.ar] this file as it is") && !dir.path().join("chat").exists(), "{error}");

    for (text, due) in [("q5", "q5"), ("q4,heads=q8", "heads"), ("q4,head", "class=format"), ("q4,head=f64", "f64")] {
        let error = Recipe::parse(text).expect_err("wrong");
        assert!(error.contains(due), "{error}");
    }
    let told = recipe("default").to_string();
    assert_eq!(Recipe::parse(&format!("f32,{told}")), Ok(recipe("default")), "{told}");
}
