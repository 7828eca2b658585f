//! Measured times decide: a backend that becomes slow loses the traffic, a probe brings it back, and what was measured can
//! be explained after the gateway has stopped. Profiles and scenarios do what they say through the program itself.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, routing};
use serde_json::{Value, json};
use weir_tests::asking::{client, question};
use weir_tests::binary::{self, Weir};
use weir_tests::request_log;

/// An upstream that takes so many milliseconds as the test says.
struct Paced {
    url: String,
    ms: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Paced {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Paced {
    async fn start(ms: u64) -> Result<Self> {
        let ms = Arc::new(AtomicU64::new(ms));
        let pace = Arc::clone(&ms);
        let answer = move |Json(body): Json<Value>| {
            let pace = Arc::clone(&pace);
            async move {
                tokio::time::sleep(Duration::from_millis(pace.load(Ordering::Relaxed))).await;
                Ok::<_, Infallible>(said(&body))
            }
        };
        let app = Router::new().route("/v1/chat/completions", routing::post(answer));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/v1", listener.local_addr()?);
        let task = tokio::spawn(async move {
            // Ends with the test.
            let _ = axum::serve(listener, app).await;
        });
        Ok(Paced { url, ms, task })
    }

    fn pace(&self, ms: u64) {
        self.ms.store(ms, Ordering::Relaxed);
    }
}

fn said(body: &Value) -> Response {
    let usage = json!({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15});
    if body["stream"] != true {
        let message = json!({"role": "assistant", "content": "one two three four five"});
        let choice = json!({"index": 0, "message": message, "finish_reason": "stop"});
        let whole = json!({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage});
        return Json(whole).into_response();
    }
    let chunk = |choices: Value, usage: Value| {
        let chunk = json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices, "usage": usage});
        format!("data: {chunk}\n\n")
    };
    let delta = json!([{"index": 0, "delta": {"role": "assistant", "content": "one two three four five"}, "finish_reason": null}]);
    let end = json!([{"index": 0, "delta": {}, "finish_reason": "stop"}]);
    let all = chunk(delta, Value::Null) + &chunk(end, Value::Null) + &chunk(json!([]), usage) + "data: [DONE]\n\n";
    ([(CONTENT_TYPE, "text/event-stream")], all).into_response()
}

/// Route and backend.
async fn ask(weir: &Weir, model: &str, number: usize) -> Result<(String, String)> {
    // Each is a conversation of its own: nothing stays where it was.
    let body = question(model, &format!("number {number}: tell me about the history of bread"));
    let response = client()?.post(weir.url("/v1/chat/completions")).json(&body).send().await?;
    let header =
        |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let out = (header("x-weir-route"), header("x-weir-backend"));
    anyhow::ensure!(response.status() == 200, "{}", response.text().await?);
    response.bytes().await?;
    Ok(out)
}

/// Asks until the plan aims at `route`; how often it took.
async fn until_route(weir: &Weir, route: &str, from: usize) -> Result<usize> {
    for number in 0..120 {
        if ask(weir, "auto", from + number).await?.0 == route {
            return Ok(number);
        }
    }
    anyhow::bail!("nothing aims at {route}: {}", client()?.get(weir.url("/metrics")).send().await?.text().await?)
}

#[tokio::test]
async fn who_becomes_slow_loses_the_traffic_and_a_probe_brings_it_back() -> Result<()> {
    // Far apart, since a busy machine adds to both.
    let (dllm, gpu) = (Paced::start(2).await?, Paced::start(150).await?);
    let upstream = |name: &str, url: &str, role: &str| {
        format!("[[backend]]\nname = {name:?}\nbase_url = {url:?}\nmodel = \"{name}-model\"\nrole = {role:?}\n")
    };
    let config = "[engine.diffusion]\nenabled = false\n[engine.ar]\nenabled = false\n[policy]\nprofile = \"fastest\"\n\
                  [latency]\nfile = \"times.json\"\nsave_s = 1\nprobe_every = 2\nprobe_after_s = 0\n"
        .to_owned()
        + &upstream("dllm", &dllm.url, "diffusion")
        + &upstream("gpu", &gpu.url, "ar");
    let weir = Weir::start(&config)?;
    for number in 0..8 {
        ask(&weir, "dllm", number).await?;
        ask(&weir, "gpu", number).await?;
    }
    assert_eq!(until_route(&weir, "diffusion", 100).await?, 0, "it is measured to be the quicker one");
    dllm.pace(900);
    let lost = until_route(&weir, "ar", 200).await?;
    assert!(lost > 0, "one request must have told");
    dllm.pace(2);
    // Nothing but probes asks it now: only they can tell that it is quick again.
    until_route(&weir, "diffusion", 400).await?;

    weir_tests::wait::until("what was measured is kept", || async {
        weir.folder().join("times.json").exists().then_some(())
    })
    .await?;
    let body = question("auto", "tell me about the history of bread").to_string();
    let explain = |config: &[&str]| -> Result<String> {
        let out = binary::run_fed(weir.folder(), &[&["route", "explain", "-"], config].concat(), body.as_bytes())?;
        anyhow::ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        Ok(String::from_utf8(out.stdout)?)
    };
    let told = explain(&["--config", "weir.toml"])?;
    let lines = |word: &str, told: &str| told.lines().filter(|line| line.starts_with(word)).count();
    assert_eq!((lines("predicted ", &told), lines("guessed ", &told)), (2, 0), "{told}");
    assert!(told.contains("times.json"), "{told}");
    std::fs::write(weir.folder().join("new.toml"), config.replace("file = \"times.json\"\n", ""))?;
    let told = explain(&["--config", "new.toml"])?;
    assert_eq!((lines("predicted ", &told), lines("guessed ", &told)), (0, 2), "{told}");
    assert!(told.contains("published figures, nothing measured"), "{told}");
    Ok(())
}

#[test]
fn shipped_profiles_hold_their_tests_and_the_measured_scenario_runs() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let profiles = ["balanced", "fastest", "cheapest", "quality", "diffusion-first", "ar-first"];
    for command in ["check", "test"] {
        let out = binary::run(folder.path(), &[["policy", command].as_slice(), &profiles].concat())?;
        assert!(out.status.success(), "{command}: {}", String::from_utf8_lossy(&out.stdout));
    }
    let scenario = binary::repository().join("config/simulate/nano.toml").display().to_string();
    let out = binary::run(
        folder.path(),
        &["route", "simulate", &scenario, "--requests", "2000", "--json", "--policy", "balanced"],
    )?;
    let report: Value = serde_json::from_slice(&out.stdout).context("a report")?;
    assert_eq!((&report["requests"], &report["unanswered"]), (&json!(2000), &json!(0)), "{report}");
    let answered = |name: &str| {
        report["backends"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|row| row["name"] == name && row["answered"].as_u64() > Some(0))
    };
    assert!(answered("diffusion") && answered("ar"), "{report}");
    Ok(())
}

/// What a gateway recorded of itself is simulated again and replayed, under its own and another policy.
#[tokio::test]
async fn a_log_of_the_embedded_engines_is_simulated_and_replayed() -> Result<()> {
    let weir = Weir::start("[request_log]\nenabled = true\nfile = \"requests.jsonl\"\n")?;
    let texts = ["sort pear, fig, plum", "tell me about bread", "Path from L to F: L>B D>F L>D", "hello, how are you?"];
    let asked = (0..40).map(|number| {
        let mut body = question("auto", &format!("{} ({number})", texts[number % texts.len()]));
        body["max_tokens"] = json!(12);
        let sent = client().map(|client| client.post(weir.url("/v1/chat/completions")).json(&body));
        async move { anyhow::Ok(sent?.send().await?.error_for_status()?.bytes().await?) }
    });
    futures::future::try_join_all(asked).await?;
    let log = weir.folder().join("requests.jsonl");
    request_log::lines_until(&log, 40).await?;
    let mut file = std::fs::OpenOptions::new().append(true).open(&log)?;
    std::io::Write::write_all(&mut file, b"{\"v\":9}\n{\"v\":1,\"time\":\"20")?;

    let run = |told: &[&str]| -> Result<(String, String)> {
        let out = binary::run(weir.folder(), &[told, &["--config", "weir.toml"]].concat())?;
        let (said, errors) = (String::from_utf8(out.stdout)?, String::from_utf8(out.stderr)?);
        anyhow::ensure!(out.status.success(), "{told:?}: {errors}");
        Ok((said, errors))
    };
    let simulate = ["route", "simulate", "--log", "requests.jsonl"];
    let json = |more: &[&str]| -> Result<Value> {
        Ok(serde_json::from_str(&run(&[&simulate, more, &["--json"]].concat())?.0)?)
    };
    let report = json(&["--save", "servers.toml"])?;
    assert_eq!((&report["requests"], &report["unanswered"]), (&json!(40), &json!(0)), "{report}");
    let left_out = &report["recorded"]["left_out"];
    assert_eq!(left_out.as_object().map(|why| why.len()), Some(2), "{left_out}");
    assert!(
        report["recorded"]["total_ms"]["p50"].as_f64() > Some(0.0)
            && report["all"]["total_ms"]["p50"].as_f64() > Some(0.0)
    );
    let answered = |report: &Value, name: &str| {
        let rows = report["backends"].as_array().into_iter().flatten();
        rows.filter(|row| row["name"] == name).filter_map(|row| row["answered"].as_u64()).sum::<u64>()
    };
    assert_eq!(answered(&report, "diffusion") + answered(&report, "ar"), 40, "{report}");
    // Slower servers, another policy, more requests, a load at which nobody waits: all were asked within milliseconds.
    let saved = std::fs::read_to_string(weir.folder().join("servers.toml"))?;
    let slow = |line: &str| match line.strip_prefix("overhead_ms = ") {
        Some(_) => "overhead_ms = 500.0\n".to_owned(),
        None => format!("{line}\n"),
    };
    let slow: String = saved.lines().map(slow).collect();
    std::fs::write(weir.folder().join("slow.toml"), slow)?;
    let more = ["--policy", "ar-first", "--requests", "400", "--load", "0.00001", "--arrivals", "poisson"];
    let slower = json(&[&["slow.toml"], more.as_slice()].concat())?;
    assert_eq!((slower["requests"].as_u64(), answered(&slower, "ar")), (Some(400), 400), "{slower}");
    assert!(slower["all"]["ttft_ms"]["p50"].as_f64() > Some(100.0), "{slower}");

    let (text, _) = run(&simulate)?;
    for said in ["40 requests in", "left out: 1 lines, not read: version 9", "measured: ar:", "recorded", "simulated"] {
        assert!(text.contains(said), "{said}: {text}");
    }
    let (text, errors) = run(&["route", "replay", "requests.jsonl", "--policy", "ar-first", "--html", "page.html"])?;
    assert!(text.contains("40 decided again"), "{text}");
    assert!(errors.contains("1 lines are not read: no JSON"), "{errors}");
    assert!(std::fs::read_to_string(weir.folder().join("page.html"))?.contains("<svg"));
    for (told, named) in [
        (["--load", "0"].as_slice(), "--load"),
        (&["weir.toml"], "weir.toml"),
        (&["--log", "absent.jsonl"], "absent.jsonl"),
    ] {
        let told = if told[0] == "--log" { [&simulate[..2], told].concat() } else { [&simulate, told].concat() };
        let out = binary::run(weir.folder(), &told)?;
        let errors = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!out.status.success() && errors.contains(named), "{told:?}: {errors}");
    }
    Ok(())
}
