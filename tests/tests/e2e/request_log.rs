//! The request log: one line for each request however it ends, nothing private in it unless asked for, and a file that may
//! be moved away.

use anyhow::{Context, Result};
use futures::StreamExt;
use serde_json::{Value, json};
use weir_tests::asking::{ask, ask_at, client, metrics_until, post, question, with};
use weir_tests::binary::Weir;
use weir_tests::dialects::Dialect;
use weir_tests::fault_upstream::FaultUpstream;
use weir_tests::request_log::{lines, lines_until};
use weir_tests::wait::until;

use crate::backend;

const LOG: &str = "[request_log]\nenabled = true\nfile = \"requests.jsonl\"\n";

fn of<'a>(lines: &'a [Value], id: &str) -> Result<&'a Value> {
    let mut own = lines.iter().filter(|line| line["id"] == id);
    let line = own.next().with_context(|| format!("no line for {id} in {lines:?}"))?;
    anyhow::ensure!(own.next().is_none(), "two lines for {id}");
    Ok(line)
}

async fn named(weir: &Weir, id: &str, body: &Value) -> Result<u16> {
    let request = client()?.post(weir.url("/v1/chat/completions")).header("x-request-id", id).json(body);
    let response = request.send().await?;
    let status = response.status().as_u16();
    // A cut answer is one of them.
    let _ = response.bytes().await;
    Ok(status)
}

#[tokio::test]
async fn each_request_has_one_line_however_it_ends() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let mut config = LOG.to_owned();
    for fault in ["fine", "500", "cut-late", "hang"] {
        config.push_str(&backend(fault, &upstream.base_url(fault)));
    }
    let weir = Weir::start(&config)?;
    let file = weir.folder().join("requests.jsonl");
    let story = |model: &str, stream: bool| {
        with(question(model, "Tell me a story."), json!({"stream": stream, "max_tokens": 16}))
    };
    named(&weir, "streamed", &story("fine", true)).await?;
    let hinted = client()?.post(weir.url("/v1/chat/completions")).header("x-request-id", "whole");
    let hinted = hinted.header("x-weir-run", "run-7").header("x-weir-attempt", "2").header("x-weir-job", "two words");
    hinted.json(&story("fine", false)).send().await?.bytes().await?;
    named(&weir, "denoised", &story("diffusion", true)).await?;
    named(&weir, "fell-back", &story("500", true)).await?;
    named(&weir, "cut", &story("cut-late", true)).await?;
    assert_eq!(named(&weir, "nobody", &story("my secret model", true)).await?, 404);
    assert_eq!(named(&weir, "no-messages", &json!({"model": "fine"})).await?, 400);
    assert_eq!(post(&weir, "{").await?.status, 400);
    let request = client()?.post(weir.url("/v1/chat/completions")).header("x-request-id", "left");
    let mut pieces = request.json(&story("hang", true)).send().await?.bytes_stream();
    pieces.next().await.context("a first piece")??;
    drop(pieces);

    let found = lines_until(&file, 9).await?;
    let page = metrics_until(&weir, "all are counted", |page| page.sum("weir_requests_total", &[]) == 9.0).await?;
    assert_eq!(page.sum("weir_request_log_lines_total", &[]), 9.0);
    assert!(page.sum("weir_overhead_seconds_count", &[]) == 9.0 && page.sum("weir_overhead_seconds_sum", &[]) < 60.0);

    let line = of(&found, "streamed")?;
    assert_eq!((&line["outcome"], &line["status"], &line["stream"]), (&json!("finished"), &json!(200), &json!(true)));
    assert_eq!(
        (&line["model"], &line["backend"], &line["dialect"]),
        (&json!("fine"), &json!("fine"), &json!("openai_chat"))
    );
    assert_eq!((&line["finish_reason"], &line["client"]), (&json!("stop"), &json!("other")));
    assert_eq!((&line["plan"]["route"], &line["plan"]["rule"]), (&json!("fine"), &json!("pin")));
    assert!(line["plan"]["features"]["prompt_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{line}");
    assert_eq!(line["attempts"][0]["outcome"], "finished");
    for time in ["ttft_ms", "total_ms", "overhead_ms"] {
        assert!(line[time].as_f64().is_some_and(|ms| ms > 0.0), "{time}: {line}");
    }
    assert!(line["usage"]["completion_tokens"].as_u64().is_some_and(|tokens| tokens > 0), "{line}");
    assert!(line.get("origin").is_none() && line.get("cost").is_none(), "nothing has a price: {line}");
    let whole = of(&found, "whole")?;
    assert_eq!(whole["origin"], json!({"run": "run-7", "attempt": 2}), "{whole}");
    assert_eq!(whole["plan"]["features"]["repeated"], true);
    let line = of(&found, "denoised")?;
    assert!(line["usage"]["diffusion"]["steps"].as_u64().is_some_and(|steps| steps > 0), "{line}");
    let line = of(&found, "fell-back")?;
    assert_eq!((&line["outcome"], &line["attempts"][0]["outcome"]), (&json!("finished"), &json!("upstream")));
    assert_eq!((&line["attempts"][0]["status"], &line["attempts"][0]["purpose"]), (&json!(500), &json!("first")));
    assert_eq!(line["attempts"][1]["purpose"], "fallback");
    assert_eq!(line["backend"], line["attempts"][1]["backend"]);
    assert_eq!(of(&found, "cut")?["outcome"], "stream_cut");
    let line = of(&found, "nobody")?;
    assert_eq!(
        (&line["outcome"], &line["model"], &line["plan"]),
        (&json!("unknown_model"), &Value::Null, &Value::Null)
    );
    assert_eq!(
        (&of(&found, "no-messages")?["outcome"], &of(&found, "no-messages")?["status"]),
        (&json!("invalid_request"), &json!(400))
    );
    let line = of(&found, "left")?;
    assert_eq!((&line["outcome"], &line["attempts"][0]["outcome"]), (&json!("cancelled"), &json!("cancelled")));
    let text = std::fs::read_to_string(&file)?;
    assert!(!text.contains("story") && !text.contains("secret"), "no prompt, no model that is none of ours: {text}");
    Ok(())
}

#[tokio::test]
async fn a_line_tells_what_its_request_cost_by_the_backends_prices() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let fine = backend("fine", &upstream.base_url("fine"));
    let weir = Weir::start(&format!("{LOG}{}\nprice = {{ input = 3.0, output = 15.0 }}\n", fine.trim_end()))?;
    named(&weir, "paid", &question("fine", "Tell me a story.")).await?;
    named(&weir, "free", &question("diffusion", "Tell me a story.")).await?;
    let lines = lines_until(&weir.folder().join("requests.jsonl"), 2).await?;
    let line = of(&lines, "paid")?;
    let tokens = |key: &str| line["usage"][key].as_f64().context("counted");
    let (input, output) = (tokens("prompt_tokens")?, tokens("completion_tokens")?);
    let cost = line["cost"].as_f64().context("a cost")?;
    assert!(cost > 0.0 && (cost - (3.0 * input + 15.0 * output) / 1e6).abs() < 1e-9, "{line}");
    assert_eq!(of(&lines, "free")?["cost"], 0.0);
    Ok(())
}

#[tokio::test]
async fn content_is_written_only_if_wanted_and_without_secrets() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let config = format!(
        "{LOG}content = true\nredact = ['locker \\d+']\n\n{}{}",
        backend("echo", &upstream.base_url("echo")),
        backend("tools", &upstream.base_url("tools"))
    );
    let weir = Weir::start(&config)?;
    // A number too long to stand among the digits of a time by chance.
    let said = "my locker 7731004291773100, sk-plugh-0123456789abcdef, anna@example.org, and tea";
    for dialect in Dialect::ALL {
        for stream in [true, false] {
            let reply = ask_at(&weir, dialect.path(), &dialect.question("echo", said, stream)).await?;
            assert_eq!(reply.status, 200, "{}", reply.text);
        }
    }
    ask(&weir, &question("tools", "turn off the lights")).await?;
    let file = weir.folder().join("requests.jsonl");
    let found = lines_until(&file, 9).await?;
    for line in found.iter().filter(|line| line["backend"] == "echo") {
        let clean = "my [redacted], [redacted], [redacted], and tea";
        assert_eq!(
            (&line["content"]["messages"][0]["text"], &line["content"]["answer"]["text"]),
            (&json!(clean), &json!(clean))
        );
    }
    let called = found.iter().find(|line| line["backend"] == "tools").context("the call")?;
    assert!(called["content"]["answer"]["calls"][0]["arguments"].as_str().is_some_and(|text| text.contains("kitchen")));
    let text = std::fs::read_to_string(&file)?;
    for secret in ["7731004291773100", "plugh", "anna"] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
    Ok(())
}

#[tokio::test]
async fn a_file_that_is_moved_away_is_followed_by_a_new_one() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let weir = Weir::start(&format!("{LOG}{}", backend("fine", &upstream.base_url("fine"))))?;
    let (file, old) = (weir.folder().join("requests.jsonl"), weir.folder().join("requests.1"));
    ask(&weir, &question("fine", "one")).await?;
    lines_until(&file, 1).await?;
    std::fs::rename(&file, &old)?;
    until("a new file is there", || async { file.exists().then_some(()) }).await?;
    ask(&weir, &question("fine", "two")).await?;
    assert_eq!((lines_until(&file, 1).await?.len(), lines(&old)?.len()), (1, 1));
    Ok(())
}

#[tokio::test]
async fn a_stop_loses_no_line() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("requests.jsonl");
    let log = format!("[request_log]\nenabled = true\nfile = {:?}\n", file.display().to_string());
    let config = format!(
        "[server]\nshutdown_grace_ms = 1\n{log}{}{}",
        backend("fine", &upstream.base_url("fine")),
        backend("hang", &upstream.base_url("hang")).replace("= 2000", "= 600000")
    );
    let weir = Weir::start(&config)?;
    for _ in 0..20 {
        ask(&weir, &question("fine", "hello")).await?;
    }
    let hanging = with(question("hang", "hello"), json!({"stream": true}));
    let mut pieces = client()?.post(weir.url("/v1/chat/completions")).json(&hanging).send().await?.bytes_stream();
    pieces.next().await.context("a first piece")??;
    assert_eq!(tokio::task::spawn_blocking(move || weir.terminate()).await??, Some(0));
    drop(pieces);
    let found = lines(&file)?;
    assert_eq!(found.len(), 21);
    assert_eq!(found.iter().filter(|line| line["outcome"] == "stream_cut").count(), 1, "the one that was ended");
    Ok(())
}

#[tokio::test]
async fn a_line_says_why() -> Result<()> {
    const KEY: &str = "weir_plugh-0123456789-0123456789";
    let upstream = FaultUpstream::start().await?;
    let plan = "[pins]\nfallback = [{ backend = \"silent\" }, { backend = \"500\" }, { backend = \"fine\" }]\n[[rule]]\n\
                name = \"r\"\nroute = \"r\"\nreason = \"r\"\nattempts = [{ backend = \"fine\" }]\n";
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("p.toml"), plan)?;
    let config = format!("{LOG}[policy]\nfile = \"p.toml\"\n[attempts]\nretries = 0\n")
        + &backend("gone", &FaultUpstream::refused_url().await?)
        + &backend("silent", &upstream.base_url("silent"))
            .replace("content_timeout_ms = 2000", "content_timeout_ms = 300")
        + &backend("500", &upstream.base_url("500"))
        + &backend("fine", &upstream.base_url("fine"))
        + "[[tenant]]\nname = \"a\"\nrequests_per_minute = 1\n\
           keys = [{ hash = \"sha256:947d84cc1fbcd87110576ad9d43096a2c1a99157669894f9d84fc82c59225b49\" }]\n";
    let weir = Weir::start_in(folder, &config, &[])?;
    for status in [200, 429] {
        let request = client()?.post(weir.url("/v1/chat/completions")).bearer_auth(KEY);
        assert_eq!(request.json(&question("gone", "hi")).send().await?.status().as_u16(), status);
    }
    // One that promises more than it sends, and leaves.
    let mut socket = tokio::net::TcpStream::connect(weir.address()).await?;
    let head = format!("POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: {KEY}\r\ncontent-length: 9000\r\n\r\n{{");
    tokio::io::AsyncWriteExt::write_all(&mut socket, head.as_bytes()).await?;
    drop(socket);
    let found = lines_until(&weir.folder().join("requests.jsonl"), 3).await?;
    let of = |status: u16| found.iter().find(|line| line["status"] == status).context("a line");
    let why: Vec<&str> =
        of(200)?["attempts"].as_array().into_iter().flatten().filter_map(|one| one["why"].as_str()).collect();
    let [gone, silent, failed] = why[..] else { anyhow::bail!("{found:?}") };
    assert_eq!((gone, silent), ("it cannot be reached", "headers after 300 ms"));
    assert!(!failed.is_empty() && !failed.contains("hi"), "{failed}");
    assert_eq!(of(429)?["why"], "this key's limit `requests_per_minute` is reached");
    let broken = of(499)?;
    assert_eq!(broken["outcome"], "cancelled");
    let ms = |field: &str| broken[field].as_f64().context("a time");
    // Times count from when the body was not waited for any more: its caller's time is no time of ours.
    assert!(ms("body_ms")? > 0.0 && ms("overhead_ms")? <= ms("total_ms")? + 0.01, "{broken}");
    Ok(())
}
