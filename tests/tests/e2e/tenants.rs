//! Tenants: who is let in, what each may do, and that a key is seen nowhere but in the hands of its owner.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use weir_tests::asking::{Reply, client, get, metrics_until, question, read, with};
use weir_tests::binary::{Weir, run};
use weir_tests::fault_upstream::FaultUpstream;
use weir_tests::metrics_page::MetricsPage;
use weir_tests::wait::until;

use crate::backend;

const KEY: &str = "weir_plugh-0123456789-0123456789";
/// `printf '%s' "$KEY" | sha256sum`
const HASH: &str = "sha256:947d84cc1fbcd87110576ad9d43096a2c1a99157669894f9d84fc82c59225b49";
const OTHER: &str = "weir_xyzzy-9876543210-9876543210";
const OTHER_HASH: &str = "sha256:ad53ea1fa07f9f23343f8eccb56b4fa953e6c1c4ccc68e507fe6d072a1e0c3ae";

fn tenant(name: &str, hash: &str, rest: &str) -> String {
    format!("[[tenant]]\nname = \"{name}\"\nkeys = [{{ hash = \"{hash}\" }}]\n{rest}\n\n")
}

async fn send(weir: &Weir, path: &str, header: Option<(&str, &str)>, body: Option<Value>) -> Result<Reply> {
    let url = weir.url(path);
    let mut request = match &body {
        Some(body) => client()?.post(url).json(body),
        None => client()?.get(url),
    };
    if let Some((name, value)) = header {
        request = request.header(name, value);
    }
    read(request.send().await.context("no response")?).await
}

async fn ask(weir: &Weir, key: &str, model: &str, stream: bool) -> Result<Reply> {
    let body = with(question(model, "Tell me a story."), json!({"stream": stream, "max_tokens": 16}));
    let bearer = format!("Bearer {key}");
    send(weir, "/v1/chat/completions", Some(("authorization", &bearer)), Some(body)).await
}

#[tokio::test]
async fn only_known_keys_get_in() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let config = backend("up", &upstream.base_url("fine")) + &tenant("a", HASH, "");
    let weir = Weir::start(&config)?;
    let body = || Some(question("up", "hi"));
    for header in
        [None, Some(("authorization", "Bearer weir_wrong")), Some(("x-api-key", "")), Some(("x-api-key", HASH))]
    {
        let reply = send(&weir, "/v1/chat/completions", header, body()).await?;
        assert_eq!((reply.status, reply.json()["error"]["code"].as_str()), (401, Some("invalid_api_key")));
        let reply = send(&weir, "/v1/messages", header, body()).await?;
        assert_eq!((reply.status, reply.json()["error"]["type"].as_str()), (401, Some("authentication_error")));
        assert_eq!(send(&weir, "/v1/models", header, None).await?.status, 401);
    }
    let bearer = format!("Bearer {KEY}");
    for header in [("authorization", bearer.as_str()), ("x-api-key", KEY)] {
        assert_eq!(send(&weir, "/v1/chat/completions", Some(header), body()).await?.status, 200);
    }
    weir.said("status=401").await?;
    assert!(weir.log().contains("peer=127.0.0.1:"), "who tried is told: {}", weir.log());
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(get(&weir, path).await?.status, 200, "{path} needs no key");
    }
    assert_eq!(upstream.seen().len(), 2, "nobody else came through");
    assert!(upstream.seen().iter().all(|seen| seen.header("authorization").is_empty()), "the key stays here");
    Ok(())
}

#[tokio::test]
async fn each_has_its_models_and_backends() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let config = backend("up", &upstream.base_url("fine"))
        + &backend("dear", &upstream.base_url("fine"))
        + &tenant("a", HASH, "models = [\"up\", \"auto\"]")
        + &tenant("b", OTHER_HASH, "backends = [\"up\"]");
    let weir = Weir::start(&config)?;
    assert_eq!(ask(&weir, KEY, "up", false).await?.status, 200);
    let reply = ask(&weir, KEY, "dear", false).await?;
    assert_eq!((reply.status, reply.json()["error"]["type"].as_str()), (403, Some("permission_error")));
    let reply = ask(&weir, OTHER, "dear", true).await?;
    assert_eq!((reply.status, reply.json()["error"]["code"].as_str()), (403, Some("forbidden")), "{}", reply.text);
    let reply = ask(&weir, OTHER, "auto", true).await?;
    assert_eq!((reply.status, reply.header("x-weir-backend")), (200, "up"));
    for (key, ids) in [(KEY, vec!["auto", "up"]), (OTHER, vec!["auto", "ar", "up", "up-model"])] {
        let bearer = format!("Bearer {key}");
        let list = send(&weir, "/v1/models", Some(("authorization", &bearer)), None).await?.json();
        let list = list["data"].as_array().context("a list")?;
        assert_eq!(list.iter().filter_map(|one| one["id"].as_str()).collect::<Vec<_>>(), ids);
    }
    let taken = |page: &MetricsPage| page.sum("weir_tenant_tokens_total", &[("tenant", "b")]);
    let before = metrics_until(&weir, "all are counted", |page| page.sum("weir_requests_total", &[]) == 4.0).await?;
    let reply = ask(&weir, OTHER, "dear-modelx", true).await?;
    assert!(
        reply.status == 404 && !reply.text.contains("`dear-model`"),
        "nobody is told of others' models: {}",
        reply.text
    );
    let page = metrics_until(&weir, "it is counted", |page| page.sum("weir_requests_total", &[]) == 5.0).await?;
    assert_eq!(page.sum("weir_denied_total", &[("tenant", "b"), ("by", "backend")]), 1.0);
    assert_eq!(taken(&page), taken(&before), "what nobody answers costs nothing");
    Ok(())
}

#[tokio::test]
async fn a_limit_is_said_with_when_to_come_back() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let config = backend("up", &upstream.base_url("fine"))
        + &tenant("a", HASH, "requests_per_minute = 2\ntokens_per_minute = 100000")
        + &tenant("b", OTHER_HASH, "tokens_per_day = 1");
    let weir = Weir::start(&config)?;
    for (stream, left) in [(true, "1"), (false, "0")] {
        let reply = ask(&weir, KEY, "up", stream).await?;
        assert_eq!((reply.status, reply.header("x-ratelimit-remaining-requests")), (200, left), "{}", reply.text);
        assert_eq!(reply.header("x-ratelimit-limit-tokens"), "100000");
    }
    let reply = ask(&weir, KEY, "up", true).await?;
    assert_eq!((reply.status, reply.json()["error"]["type"].as_str()), (429, Some("rate_limit_error")));
    let wait: u64 = reply.header("retry-after").parse().context("seconds")?;
    assert!((1..=30).contains(&wait), "{wait}");
    assert_eq!(reply.header("x-ratelimit-limit-requests"), "2");
    // Another tenant's limits are its own: it gets in until its day is used up.
    assert_eq!(ask(&weir, OTHER, "up", false).await?.status, 200);
    metrics_until(&weir, "what it took is charged", |page| {
        page.sum("weir_tenant_tokens_total", &[("tenant", "b")]) > 0.0
    })
    .await?;
    assert_eq!(ask(&weir, OTHER, "up", false).await?.status, 429);
    let page = metrics_until(&weir, "all are counted", |page| page.sum("weir_requests_total", &[]) == 5.0).await?;
    assert_eq!(page.sum("weir_denied_total", &[("tenant", "a"), ("by", "requests_per_minute")]), 1.0);
    assert_eq!(page.sum("weir_denied_total", &[("tenant", "b"), ("by", "tokens_per_day")]), 1.0);
    Ok(())
}

#[tokio::test]
async fn a_key_is_in_no_log_no_metric_and_no_answer() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let config =
        backend("up", &upstream.base_url("500")) + &tenant("a", HASH, "requests_per_minute = 1\nconcurrent = 1");
    let weir = Weir::start_with(&config, &[("RUST_LOG", "trace")])?;
    let mut shown = String::new();
    for key in [KEY, KEY, "weir_plugh-wrong"] {
        let reply = ask(&weir, key, "up", false).await?;
        shown.push_str(&format!("{:?} {}", reply.headers, reply.text));
    }
    metrics_until(&weir, "all are counted", |page| page.sum("weir_requests_total", &[]) == 3.0).await?;
    shown.push_str(&get(&weir, "/metrics").await?.text);
    let log = weir.said("ended").await.context("the log is read at all")?;
    for secret in ["plugh", &HASH[7..20]] {
        assert!(!log.contains(secret) && !shown.contains(secret), "{secret}: {log}{shown}");
    }
    Ok(())
}

#[tokio::test]
async fn a_made_key_opens_the_door() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let made = run(folder.path(), &["key", "new", "--expires", "2999-12-31"])?;
    let key = String::from_utf8_lossy(&made.stdout).trim().to_owned();
    let told = String::from_utf8_lossy(&made.stderr);
    let entry = told.lines().find(|line| line.trim_start().starts_with("{ hash")).context("an entry")?;
    assert!(!entry.contains(&key[5..]));
    let upstream = FaultUpstream::start().await?;
    let config = format!("{}[[tenant]]\nname = \"a\"\nkeys = [{entry}]\n", backend("up", &upstream.base_url("fine")));
    let weir = Weir::start(&config)?;
    assert_eq!(ask(&weir, &key, "up", true).await?.status, 200);
    assert_eq!(ask(&weir, &key[..60], "up", true).await?.status, 401);
    Ok(())
}

#[tokio::test]
async fn questions_have_a_limit_of_their_own() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let config = backend("up", &upstream.base_url("fine")) + &tenant("a", HASH, "requests_per_minute = 1");
    let weir = Weir::start(&config)?;
    let bearer = format!("Bearer {KEY}");
    let header = Some(("authorization", bearer.as_str()));
    let body = || Some(with(question("up", "hi"), json!({"max_tokens": 9})));
    for path in ["/v1/messages/count_tokens", "/v1/route/explain"] {
        // A limit of one, each has had one with the first of them.
        let first = path == "/v1/messages/count_tokens";
        let reply = send(&weir, path, header, body()).await?;
        assert_eq!((reply.status, reply.header("x-ratelimit-limit-requests")), (if first { 200 } else { 429 }, "1"));
        assert_eq!(reply.header("x-ratelimit-remaining-requests"), "0");
    }
    let refused = send(&weir, "/v1/messages/count_tokens", header, body()).await?;
    assert_eq!((refused.status, refused.json()["error"]["type"].as_str()), (429, Some("rate_limit_error")));
    let wait: u64 = refused.header("retry-after").parse().context("seconds")?;
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(ask(&weir, KEY, "up", false).await?.status, 200, "a request is none of them");
    let page = metrics_until(&weir, "all are counted", |page| page.sum("weir_requests_total", &[]) == 1.0).await?;
    assert_eq!(page.sum("weir_denied_total", &[("tenant", "a"), ("by", "questions")]), 2.0);
    let questions = |what, outcome| page.sum("weir_questions_total", &[("what", what), ("outcome", outcome)]);
    assert_eq!((questions("count_tokens", "estimated"), questions("count_tokens", "limit_reached")), (1.0, 1.0));
    assert_eq!(questions("explain", "limit_reached"), 1.0);
    Ok(())
}

/// `weir key rotate` beside a gateway that runs.
fn rotate(weir: &Weir, overlap: &str) -> Result<String> {
    let file = weir.folder().join("weir.toml").display().to_string();
    let made = run(weir.folder(), &["key", "rotate", "a", "--overlap", overlap, "--config", &file])?;
    let told = String::from_utf8_lossy(&made.stderr);
    anyhow::ensure!(made.status.success(), "{told}");
    let key = String::from_utf8_lossy(&made.stdout).trim().to_owned();
    assert!(!told.contains(&key[5..]), "{told}");
    Ok(key)
}

#[tokio::test]
async fn keys_are_rotated_under_a_gateway_that_runs() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let config = format!("[server]\nwatch_ms = 20\n{}", backend("up", &upstream.base_url("fine")));
    let weir = Weir::start(&(config + "# kept\n" + &tenant("a", HASH, "") + &tenant("b", OTHER_HASH, "")))?;
    let second = rotate(&weir, "7")?;
    let is =
        async |key: &str, status: u16| ask(&weir, key, "up", false).await.is_ok_and(|reply| reply.status == status);
    until("the new key is good", || async { is(&second, 200).await.then_some(()) }).await?;
    assert!(is(KEY, 200).await, "the old one, too");
    let third = rotate(&weir, "0")?;
    until("the newest key is good", || async { is(&third, 200).await.then_some(()) }).await?;
    assert!(is(KEY, 401).await && is(&second, 401).await && is(OTHER, 200).await);
    let text = std::fs::read_to_string(weir.folder().join("weir.toml"))?;
    assert!(text.contains("# kept") && [&second, &third].iter().all(|key| !text.contains(key.as_str())), "{text}");
    let listed = run(weir.folder(), &["key", "list", "--config", "weir.toml"])?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(
        listed.lines().count() == 2 && listed.contains("good for ever") && !listed.contains(OTHER_HASH),
        "{listed}"
    );
    let refused = run(weir.folder(), &["key", "rotate", "nobody", "--config", "weir.toml"])?;
    assert!(!refused.status.success() && refused.stdout.is_empty());
    let left: Vec<_> = std::fs::read_dir(weir.folder())?.flatten().map(|entry| entry.file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with(".weir-key")), "{left:?}");
    Ok(())
}
