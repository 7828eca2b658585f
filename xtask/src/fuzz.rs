//! `cargo xtask fuzz`: builds a target of `fuzz/` with a nightly compiler and lets libFuzzer run for a while over the
//! kept corpus. Needs no cargo-fuzz, but tar and xz for what is kept. What it finds lies in `fuzz/artifacts/TARGET/` and
//! ends the command with an error. Must never run in CI.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::{metadata, stage};

/// What cargo-fuzz would pass: edge counters for libFuzzer; [`Target::flags`] says where a sanitizer is worth it.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
     -Cllvm-args=-sanitizer-coverage-trace-compares -Clink-dead-code -Ccodegen-units=1";

/// What to fuzz.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(value_enum)]
    target: Target,
    /// For how long.
    #[arg(long, default_value_t = 60)]
    minutes: u64,
    /// Afterwards, put the inputs that matter into `fuzz/kept/`, for the repository.
    #[arg(long)]
    keep: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Target {
    /// GGUF files.
    Gguf,
    /// Safetensors files.
    Safetensors,
    /// config.json, tokenizer.json and tokenizer_config.json.
    Tokenizer,
    /// Conversations through the chat template.
    Template,
    /// Bodies of chat requests, `diffusion` object and forms included, to the end of their answers.
    Request,
    /// Sizes, formats and visits of packed products, on every instruction set, under AddressSanitizer.
    Shapes,
    /// Answers of every kind of upstream, whole and in pieces, to every dialect's frames.
    Answers,
    /// Bodies of every dialect, to what each kind of upstream gets.
    Bodies,
    /// Policies, lines of the request log, configs, `traceparent`, scenarios.
    Texts,
}

impl Target {
    fn name(self) -> &'static str {
        match self {
            Target::Gguf => "gguf",
            Target::Safetensors => "safetensors",
            Target::Tokenizer => "tokenizer",
            Target::Template => "template",
            Target::Request => "request",
            Target::Shapes => "shapes",
            Target::Answers => "answers",
            Target::Bodies => "bodies",
            Target::Texts => "texts",
        }
    }

    /// What the compiler is told besides: kernels are the only target with unsafe code of its own.
    fn flags(self) -> String {
        if self == Target::Shapes { format!("{FLAGS} -Zsanitizer=address") } else { FLAGS.to_owned() }
    }

    /// Files to begin with, and the byte to put before each.
    fn seeds(self) -> &'static [(&'static str, Option<u8>)] {
        match self {
            Target::Gguf => &[
                ("small.gguf", None),
                ("blocks.gguf", None),
                ("dense/llama.gguf", None),
                ("dense/qwen2.gguf", None),
                ("dense/qwen3.gguf", None),
                ("dense/gemma.gguf", None),
                ("dense/pieces.gguf", None),
            ],
            Target::Safetensors => &[("small.expected.safetensors", None), ("blocks.expected.safetensors", None)],
            Target::Tokenizer => {
                &[("config.json", Some(0)), ("tokenizer.json", Some(1)), ("tokenizer_config.json", Some(2))]
            }
            Target::Template | Target::Shapes => &[],
            Target::Request => &[
                ("requests/diffusion.json", Some(b' ')),
                ("requests/grammar.json", Some(b' ')),
                ("requests/regex.json", Some(b' ')),
                ("requests/sampling.json", Some(b' ')),
                ("requests/schema.json", Some(b' ')),
                ("requests/tools.json", Some(b' ')),
            ],
            Target::Answers => &[
                ("answers/openai-chat.txt", Some(0)),
                ("answers/openai-chat.json", Some(25)),
                ("answers/openai-responses.txt", Some(1)),
                ("answers/anthropic.txt", Some(2)),
                ("answers/anthropic.json", Some(12)),
                ("answers/ollama.txt", Some(3)),
                ("answers/openai-chat.txt", Some(34)),
            ],
            Target::Bodies => &[
                ("requests/tools.json", Some(0)),
                ("requests/schema.json", Some(0)),
                ("bodies/completions.json", Some(1)),
                ("bodies/responses.json", Some(2)),
                ("bodies/messages.json", Some(3)),
            ],
            Target::Texts => &[
                ("../../config/policies/balanced.toml", Some(0)),
                ("../../config/policies/diffusion-first.toml", Some(0)),
                ("texts/line.json", Some(1)),
                ("../../config/weir.toml", Some(2)),
                ("texts/traceparent.txt", Some(3)),
            ],
        }
    }
}

/// The command.
pub(crate) fn command(args: &Args) -> Result<()> {
    let root = metadata::root()?;
    let (fuzz, name) = (root.join("fuzz"), args.target.name());
    let (corpus, artifacts) = (fuzz.join("corpus").join(name), fuzz.join("artifacts").join(name));
    let kept = fuzz.join("kept").join(format!("{name}.tar.xz"));
    for folder in [&corpus, &artifacts] {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    if kept.is_file() {
        // What is there already stays: it may be newer.
        let mut unpack = Command::new("tar");
        stage::run(unpack.args(["--skip-old-files", "-xJf"]).arg(&kept).arg("-C").arg(&corpus))?;
    }
    for (seed, first) in args.target.seeds() {
        plant(&root, &corpus, seed, *first)?;
    }
    let mut fuzzer = fuzzer(&fuzz, args.target);
    fuzzer
        .arg(&corpus)
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg(format!("-max_total_time={}", args.minutes * 60))
        .args(words(&fuzz, name))
        .args(["-max_len=90000", "-timeout=20", "-rss_limit_mb=4096", "-print_final_stats=1"]);
    stage::run(&mut fuzzer)?;
    if args.keep { keep(&fuzz, args.target, &corpus, &kept) } else { Ok(()) }
}

/// The target's program, built if need be.
fn fuzzer(fuzz: &Path, target: Target) -> Command {
    let host = "x86_64-unknown-linux-gnu";
    let mut command = Command::new("cargo");
    command
        .args(["+nightly", "run", "--release", "--target", host, "--bin", target.name(), "--"])
        .env("RUSTFLAGS", target.flags())
        .env("CARGO_TARGET_DIR", fuzz.join("target"))
        .env_remove("RUSTUP_TOOLCHAIN")
        .current_dir(fuzz);
    command
}

/// Packs the smallest set of inputs that reaches all that the corpus reaches.
fn keep(fuzz: &Path, target: Target, corpus: &Path, kept: &Path) -> Result<()> {
    let name = target.name();
    let smallest = fuzz.join("corpus").join(format!("{name}.smallest"));
    if smallest.exists() {
        std::fs::remove_dir_all(&smallest).with_context(|| smallest.display().to_string())?;
    }
    for folder in [smallest.as_path(), kept.parent().unwrap_or(fuzz)] {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    stage::run(fuzzer(fuzz, target).arg("-merge=1").arg(&smallest).arg(corpus))?;
    let mut pack = Command::new("tar");
    // The same inputs make the same archive, whoever packs them.
    pack.args(["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", "-cJf"]);
    stage::run(pack.arg(kept).arg("-C").arg(&smallest).arg("."))
}

/// The words libFuzzer may put together, where the target has some.
fn words(fuzz: &Path, name: &str) -> Option<String> {
    let file = fuzz.join("small").join(format!("{name}.dict"));
    file.is_file().then(|| format!("-dict={}", file.display()))
}

/// Puts a seed into the corpus under its own name.
fn plant(root: &Path, corpus: &Path, seed: &str, first: Option<u8>) -> Result<()> {
    let folder = if first.is_some() { "fuzz/small" } else { "diffusion-engine/tests/fixtures" };
    let file = root.join(folder).join(seed);
    let mut bytes: Vec<u8> = first.into_iter().collect();
    bytes.extend(std::fs::read(&file).with_context(|| file.display().to_string())?);
    let name = format!("{}-{}", first.unwrap_or_default(), seed.replace("../", "").replace('/', "-"));
    std::fs::write(corpus.join(name), bytes).with_context(|| corpus.display().to_string())
}
