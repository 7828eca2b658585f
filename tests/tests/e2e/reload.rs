//! The config changes while the gateway runs: what is good is taken over without a stream noticing, what is not is said and
//! changes nothing.

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use serde_json::json;
use weir_tests::asking::{Reply, ask, client, metrics, metrics_until, question, read, with};
use weir_tests::binary::Weir;
use weir_tests::fault_upstream::FaultUpstream;
use weir_tests::wait::until;

use crate::backend;

const KEY: &str = "weir_plugh-0123456789-0123456789";
const HASH: &str = "sha256:947d84cc1fbcd87110576ad9d43096a2c1a99157669894f9d84fc82c59225b49";

async fn asked(weir: &Weir, model: &str) -> Result<Reply> {
    ask(weir, &question(model, "Tell me a story.")).await
}

/// Reads the config again and waits until the metrics say that it ended so.
async fn reload(weir: &Weir, outcome: &str) -> Result<()> {
    let labels = [("outcome", outcome)];
    let before = metrics(weir).await?.sum("weir_config_reloads_total", &labels);
    weir.hangup()?;
    metrics_until(weir, "the config was read again", |page| {
        page.sum("weir_config_reloads_total", &labels) == before + 1.0
    })
    .await
    .with_context(|| weir.log())?;
    Ok(())
}

#[tokio::test]
async fn a_stream_goes_on_over_a_reload_that_takes_its_backend_away() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let weir = Weir::start(&backend("old", &upstream.base_url("drip")))?;
    let body = with(question("old", "Tell me a story."), json!({"stream": true}));
    let response = client()?.post(weir.url("/v1/chat/completions")).body(body.to_string()).send().await?;
    let mut pieces = response.bytes_stream();
    pieces.next().await.context("a first piece")??;
    weir.configure(&backend("new", &upstream.base_url("fine")))?;
    reload(&weir, "applied").await?;
    assert_eq!(asked(&weir, "old").await?.status, 404);
    assert_eq!(asked(&weir, "new").await?.status, 200);
    for _ in 0..5 {
        let piece = pieces.next().await.context("the stream goes on")??;
        ensure!(!String::from_utf8_lossy(&piece).contains("error"), "{piece:?}");
    }
    assert_eq!(metrics(&weir).await?.sum("weir_in_flight", &[("backend", "old")]), 1.0, "still at work");
    drop(pieces);
    metrics_until(&weir, "nothing is left of it", |page| {
        page.sum("weir_in_flight", &[]) == 0.0
            && page.sum("weir_requests_total", &[("backend", "old"), ("outcome", "cancelled")]) == 1.0
    })
    .await?;
    assert_eq!(metrics(&weir).await?.sum("weir_backend_up", &[("backend", "old")]), 0.0, "it is gone");
    Ok(())
}

#[tokio::test]
async fn a_bad_config_changes_nothing_and_is_explained() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let good = backend("up", &upstream.base_url("fine"));
    let weir = Weir::start(&good)?;
    let bad = [
        (String::new(), "nothing is in it"),
        ("[server\n".to_owned(), "not TOML"),
        (format!("{good}[server]\nlistn = \"x\"\n"), "listn"),
        (format!("{good}[policy]\nfile = \"gone.toml\"\n"), "gone.toml"),
        (format!("{good}[engine.ar]\nmodel = \"no/such/folder\"\n"), "Hugging Face layout"),
    ];
    for (config, word) in bad {
        weir.configure(&config)?;
        reload(&weir, "invalid").await?;
        weir.said(word).await?;
        weir.said("the old one stays").await?;
        assert_eq!(asked(&weir, "up").await?.status, 200, "{config}");
        assert_eq!(metrics(&weir).await?.sum("weir_config_last_reload_successful", &[]), 0.0);
    }
    weir.configure(&format!("{good}[admin]\nlisten = \"127.0.0.1:0\"\nkey_hash = \"{HASH}\"\n"))?;
    reload(&weir, "needs_restart").await?;
    weir.said("`admin.listen` needs a restart").await?;
    weir.configure(&format!("{good}[server]\nmax_body_bytes = 64\n"))?;
    reload(&weir, "applied").await?;
    assert_eq!(metrics(&weir).await?.sum("weir_config_last_reload_successful", &[]), 1.0);
    assert_eq!(asked(&weir, "up").await?.status, 413);
    Ok(())
}

#[tokio::test]
async fn a_changed_file_is_seen_without_a_word() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let rule = |reason: &str| {
        format!(
            "[[rule]]\nname = \"all\"\nroute = \"ar\"\nreason = \"{reason}\"\nattempts = [{{ backend = \"ar\" }}]\n"
        )
    };
    std::fs::write(folder.path().join("rules.toml"), rule("the old rule"))?;
    let config = "[server]\nwatch_ms = 10\n[engine.diffusion]\nenabled = false\n[policy]\nfile = \"rules.toml\"\n";
    let weir = Weir::start_in(folder, config, &[])?;
    let body = with(question("auto", "Sort these words: tea, fox"), json!({"max_tokens": 4}));
    assert_eq!(ask(&weir, &body).await?.header("x-weir-reason"), "the old rule");
    weir.put("rules.toml", "[[rule]]\nname = ")?;
    let invalid = |page: &weir_tests::metrics_page::MetricsPage| {
        page.sum("weir_config_reloads_total", &[("outcome", "invalid")]) == 1.0
    };
    metrics_until(&weir, "the broken file is seen", invalid).await?;
    assert_eq!(ask(&weir, &body).await?.header("x-weir-reason"), "the old rule");
    weir.put("rules.toml", &rule("the new rule"))?;
    metrics_until(&weir, "the new file is seen", |page| {
        page.sum("weir_config_reloads_total", &[("outcome", "applied")]) == 1.0
    })
    .await?;
    assert_eq!(ask(&weir, &body).await?.header("x-weir-reason"), "the new rule");
    assert!(invalid(&metrics(&weir).await?), "what was wrong was said once");
    Ok(())
}

#[tokio::test]
async fn tenants_come_and_go() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let up = backend("up", &upstream.base_url("fine"));
    let tenant = |rest: &str| format!("{up}[[tenant]]\nname = \"a\"\nkeys = [{{ hash = \"{HASH}\" }}]\n{rest}\n");
    let weir = Weir::start(&up)?;
    let with_key = async || -> Result<Reply> {
        let body = question("up", "hi").to_string();
        read(client()?.post(weir.url("/v1/chat/completions")).bearer_auth(KEY).body(body).send().await?).await
    };
    assert_eq!(asked(&weir, "up").await?.status, 200, "nobody is asked for a key");
    weir.configure(&tenant("requests_per_minute = 2"))?;
    reload(&weir, "applied").await?;
    assert_eq!(asked(&weir, "up").await?.status, 401);
    assert_eq!(with_key().await?.header("x-ratelimit-remaining-requests"), "1");
    weir.configure(&tenant("requests_per_minute = 2\nbackends = [\"up\"]"))?;
    reload(&weir, "applied").await?;
    assert_eq!(with_key().await?.header("x-ratelimit-remaining-requests"), "0", "its account goes on");
    assert_eq!(with_key().await?.status, 429);
    weir.configure(&up)?;
    reload(&weir, "applied").await?;
    assert_eq!(asked(&weir, "up").await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn an_engine_is_loaded_anew_only_where_its_settings_changed() -> Result<()> {
    let weir = Weir::start("")?;
    let loads = |name: &str| weir.log().matches(&format!("engine=\"{name}\"")).count();
    let before = (loads("diffusion"), loads("ar"));
    weir.configure("[engine.ar]\nmax_tokens = 3\n")?;
    reload(&weir, "applied").await?;
    let anew = || async { (loads("ar") == before.1 + 1).then_some(()) };
    until("`ar` is loaded anew", anew).await.with_context(|| weir.log())?;
    assert_eq!(loads("diffusion"), before.0, "{}", weir.log());
    let reply = asked(&weir, "ar").await?;
    assert_eq!((reply.status, reply.json()["usage"]["completion_tokens"].as_u64()), (200, Some(3)), "{}", reply.text);
    assert_eq!(asked(&weir, "diffusion").await?.status, 200);
    reload(&weir, "unchanged").await?;
    weir.configure("[engine.ar]\nenabled = false\n")?;
    reload(&weir, "applied").await?;
    assert_eq!(asked(&weir, "diffusion").await?.status, 200);
    assert_eq!(metrics(&weir).await?.sum("weir_backend_up", &[("backend", "ar")]), 0.0);
    Ok(())
}
