//! `weir model pull`, `info` and `verify`, against a hub on loopback and on the nano models.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Output;

use anyhow::{Context, Result};
use axum::body::Bytes;
use serde_json::json;
use weir_tests::asking::{ask, question, with};
use weir_tests::binary::{Weir, repository, run_with};
use weir_tests::fake_hub::{Asked, COMMIT, FakeHub};

fn nano() -> std::path::PathBuf {
    repository().join("models/nano/diffusion")
}

async fn hub() -> Result<FakeHub> {
    let mut files = BTreeMap::new();
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors", "README.md"] {
        files.insert(name.to_owned(), Bytes::from(std::fs::read(nano().join(name))?));
    }
    files.insert("train.py".to_owned(), Bytes::from_static(b"not needed"));
    FakeHub::start(files).await
}

struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Said {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// Runs `weir model …` in `folder` with this hub; the process sees no token but `token`.
async fn weir(folder: &Path, hub: &FakeHub, token: Option<&str>, arguments: &[&str]) -> Result<Said> {
    let arguments: Vec<String> = ["model"].iter().chain(arguments).map(|argument| (*argument).to_owned()).collect();
    let mut variables = vec![
        ("HF_ENDPOINT".to_owned(), hub.endpoint().to_owned()),
        ("HF_HOME".to_owned(), folder.join("no-hf-home").display().to_string()),
        ("HF_TOKEN_PATH".to_owned(), String::new()),
        ("HF_TOKEN".to_owned(), String::new()),
    ];
    variables.extend(token.map(|token| ("HF_TOKEN".to_owned(), token.to_owned())));
    let folder = folder.to_owned();
    let output = tokio::task::spawn_blocking(move || {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let variables: Vec<(&str, &str)> = variables.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        run_with(&folder, &arguments, &variables)
    });
    Ok(output.await.context("the command's thread")??.into())
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pulled_model_is_whole_and_the_token_stays_with_the_hub() -> Result<()> {
    let (hub, folder) = (hub().await?, tempfile::tempdir()?);
    hub.demand("hf_secret");
    let said = weir(folder.path(), &hub, Some("hf_secret"), &["pull", "weir/nano"]).await?;
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(said.out.contains(COMMIT) && said.err.contains("checksum right"), "{}{}", said.out, said.err);
    assert!(!said.err.contains("hf_secret") && !said.out.contains("hf_secret"));
    let place = folder.path().join("nano");
    let expected = ["README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];
    assert_eq!(names(&place)?, expected);
    for name in expected {
        assert_eq!(std::fs::read(place.join(name))?, std::fs::read(nano().join(name))?, "{name}");
    }
    let asked = hub.asked();
    let (store, own): (Vec<_>, Vec<_>) = asked.into_iter().partition(|asked| asked.store);
    assert!(own.iter().all(|asked| asked.authorization.as_deref() == Some("Bearer hf_secret")), "{own:?}");
    assert!(store.len() == 1 && store.iter().all(|asked| asked.authorization.is_none()), "{store:?}");

    // Again: nothing is fetched but the listing. A file that changed meanwhile is fetched anew.
    let said = weir(folder.path(), &hub, Some("hf_secret"), &["pull", "weir/nano"]).await?;
    assert_eq!((said.code, hub.asked().len()), (Some(0), 1), "{}", said.err);
    assert!(said.err.contains("already there"), "{}", said.err);
    std::fs::write(place.join("config.json"), "{}")?;
    let said = weir(folder.path(), &hub, Some("hf_secret"), &["pull", "weir/nano", "--dir", "nano"]).await?;
    assert_eq!((said.code, hub.asked().len()), (Some(0), 2), "{}", said.err);

    let said = weir(folder.path(), &hub, None, &["verify", "nano"]).await?;
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    assert!(said.out.contains("every tensor is present") && said.err.contains("100 %"), "{}{}", said.out, said.err);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_download_goes_on_where_it_was() -> Result<()> {
    let (hub, folder) = (hub().await?, tempfile::tempdir()?);
    // Goes on at once after the first two cuts; gives up when a try brings nothing.
    hub.cut(&[200_000, 300_000, 0]);
    let said = weir(folder.path(), &hub, None, &["pull", "weir/nano"]).await?;
    assert_eq!(said.code, Some(1), "{}", said.out);
    assert!(said.err.contains("model.safetensors") && said.err.contains("the same command goes on"), "{}", said.err);
    let kept = said.err.split("cut; ").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok());
    let kept = kept.filter(|kept| (1..=500_000).contains(kept)).with_context(|| said.err.clone())?;
    let place = folder.path().join("nano");
    assert!(!place.join("model.safetensors").exists());
    // How much of a broken answer arrives is the network's choice; what arrived is never asked for again.
    let starts = |asked: Vec<Asked>| -> Vec<u64> {
        let start = |range: String| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok();
        asked.into_iter().filter(|asked| asked.store).map(|asked| asked.range.and_then(start).unwrap_or(0)).collect()
    };
    let first = starts(hub.asked());
    assert!(first.len() >= 2 && first.is_sorted() && first.last() == Some(&kept), "{first:?}, {kept}");
    hub.cut(&[]);
    let said = weir(folder.path(), &hub, None, &["pull", "weir/nano"]).await?;
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert_eq!(starts(hub.asked()), [kept]);
    assert_eq!(std::fs::read(place.join("model.safetensors"))?, std::fs::read(nano().join("model.safetensors"))?);
    assert!(names(&place)?.iter().all(|name| !name.ends_with(".part")));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_checksum_leaves_nothing() -> Result<()> {
    let (hub, folder) = (hub().await?, tempfile::tempdir()?);
    hub.lie_about_digests(true);
    let said = weir(folder.path(), &hub, None, &["pull", "weir/nano"]).await?;
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("model.safetensors") && said.err.contains("checksum"), "{}", said.err);
    assert!(names(&folder.path().join("nano"))?.iter().all(|name| !name.starts_with("model.safetensors")));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_say_what_to_do() -> Result<()> {
    let (hub, folder) = (hub().await?, tempfile::tempdir()?);
    let pull = |token, arguments: &'static [&'static str]| weir(folder.path(), &hub, token, arguments);
    let said = pull(None, &["pull", "weir/nano", "--revision", "nowhere"]).await?;
    assert!(said.code == Some(1) && said.err.contains("404") && said.err.contains("nowhere"), "{}", said.err);
    for bad in [["pull", "../nano"], ["pull", "a/b/c"], ["pull", "weir/.."]] {
        let said = weir(folder.path(), &hub, None, &bad).await?;
        assert!(said.code == Some(1) && said.err.contains("OWNER/NAME"), "{}", said.err);
    }
    hub.demand("hf_secret");
    let said = pull(None, &["pull", "weir/nano"]).await?;
    assert!(said.code == Some(1) && said.err.contains("401") && said.err.contains("set HF_TOKEN"), "{}", said.err);
    let said = pull(Some("hf_other"), &["pull", "weir/nano"]).await?;
    assert!(said.code == Some(1) && said.err.contains("no right") && !said.err.contains("hf_other"), "{}", said.err);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_leaves_the_folder_stops_everything() -> Result<()> {
    for name in ["../evil.safetensors", "/tmp/evil.safetensors", "a/../../evil.safetensors"] {
        let (hub, folder) = (hub().await?, tempfile::tempdir()?);
        hub.list_also(name);
        let said = weir(folder.path(), &hub, None, &["pull", "weir/nano"]).await?;
        assert!(said.code == Some(1) && said.err.contains("outside the folder"), "{name}: {}", said.err);
        assert_eq!((hub.asked().len(), names(folder.path())?.len()), (1, 0), "{name}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_described_and_its_faults_are_listed() -> Result<()> {
    let (hub, folder) = (hub().await?, tempfile::tempdir()?);
    let path = nano().display().to_string();
    let said = weir(folder.path(), &hub, None, &["info", &path]).await?;
    assert_eq!(said.code, Some(0), "{}", said.err);
    for word in [
        "llada2_moe",
        "BF16",
        "Q4_K",
        "K/V a token",
        "2 of 4 groups",
        "joint, unless you say another",
        "vocabulary of 1280",
    ] {
        assert!(said.out.contains(word), "{word}: {}", said.out);
    }
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        std::fs::copy(nano().join(name), folder.path().join(name))?;
    }
    let config = std::fs::read_to_string(folder.path().join("config.json"))?;
    let config = config.replace("\"moe_intermediate_size\": 64", "\"moe_intermediate_size\": 32");
    std::fs::write(folder.path().join("config.json"), config)?;
    let said = weir(folder.path(), &hub, None, &["verify", "."]).await?;
    assert_eq!(said.code, Some(1));
    for word in ["tokenizer_config.json", "experts.0.gate_proj.weight", "shared_experts.up_proj.weight", "[32, 128]"] {
        assert!(said.out.contains(word), "{word}: {}", said.out);
    }
    assert!(said.err.contains("faults"), "{}", said.err);
    Ok(())
}

#[tokio::test]
async fn a_gguf_file_is_served() -> Result<()> {
    let file = repository().join("diffusion-engine/tests/fixtures/small.gguf");
    let config = format!("[engine.diffusion]\nmodel = {:?}\nmax_tokens = 40\n", file.display().to_string());
    let weir = Weir::start(&config)?;
    let reply = ask(&weir, &with(question("diffusion", "hello"), json!({"max_tokens": 40}))).await?;
    assert_eq!((reply.status, reply.header("x-weir-backend")), (200, "diffusion"), "{}", reply.text);
    assert_eq!(reply.json()["model"], "small");
    Ok(())
}
