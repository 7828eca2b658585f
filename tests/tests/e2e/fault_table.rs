//! Each fault, each kind of upstream, each dialect in, and what the caller must see: before the first content another
//! backend's answer, after it an error that ends the stream, and a strange but complete answer as if it were plain.

use anyhow::{Context, Result};
use futures::stream::{self, StreamExt};
use serde_json::json;
use weir_tests::asking::{Reply, client, get, metrics_until, read};
use weir_tests::binary::Weir;
use weir_tests::dialects::{Dialect, End, Heard};
use weir_tests::fault_upstream::{ANSWER, ANSWER_UTF8, FaultUpstream, TOOL_ARGUMENTS};

/// What the caller must see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sees {
    /// The answer of the next backend; the failure is counted under this cause.
    Another(&'static str),
    /// A beginning, then an error.
    Broken,
    /// The whole answer.
    Text(&'static str),
    /// So many whole tool calls.
    Calls(usize),
}
use Sees::{Another, Broken, Calls, Text};

/// The wait that must end it; all others are long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waits {
    No,
    Headers,
    FirstContent,
    Idle,
    Total,
}
use Waits::No;

/// Fault, what is seen, and the wait that must end it.
type Row = (&'static str, Sees, Waits);

static TABLE: [Row; 54] = [
    // Nobody there, or not for long.
    ("refused", Another("upstream"), No),
    ("reset", Another("upstream"), No),
    ("silent", Another("timeout"), Waits::Headers),
    ("slow-headers", Another("timeout"), Waits::Headers),
    ("silent-after-headers", Another("timeout"), Waits::FirstContent),
    ("pings", Another("timeout"), Waits::FirstContent),
    ("empty", Another("stream_cut"), No),
    ("cut-0", Another("stream_cut"), No),
    ("cut-early", Another("stream_cut"), No),
    // Refusals.
    ("400", Another("upstream"), No),
    ("401", Another("unauthorized"), No),
    ("402", Another("unauthorized"), No),
    ("403", Another("unauthorized"), No),
    ("404", Another("upstream"), No),
    ("408", Another("upstream"), No),
    ("413", Another("context_too_long"), No),
    ("429", Another("rate_limited"), No),
    ("500", Another("upstream"), No),
    ("502", Another("upstream"), No),
    ("503", Another("upstream"), No),
    ("529", Another("upstream"), No),
    ("overflow", Another("context_too_long"), No),
    ("html", Another("upstream"), No),
    ("html-ok", Another("upstream"), No),
    ("plain-text", Another("stream_cut"), No),
    ("error-first", Another("upstream"), No),
    // Nothing of it can be read before its end.
    ("gzip-cut", Another("stream_cut"), No),
    // Broken on the way.
    ("cut-late", Broken, No),
    ("bad-chunk", Broken, No),
    ("short-body", Broken, No),
    ("no-finish", Broken, No),
    ("done-only", Broken, No),
    ("malformed", Broken, No),
    ("error-event", Broken, No),
    ("hang", Broken, Waits::Idle),
    ("endless", Broken, Waits::Total),
    ("drip", Broken, Waits::Total),
    // Strange, but complete.
    ("fine", Text(ANSWER), No),
    ("byte-by-byte", Text(ANSWER), No),
    ("split-utf8", Text(ANSWER_UTF8), No),
    ("crlf", Text(ANSWER), No),
    ("comments", Text(ANSWER), No),
    ("multi-line", Text(ANSWER), No),
    ("no-done", Text(ANSWER), No),
    ("double-finish", Text(ANSWER), No),
    ("plain-json", Text(ANSWER), No),
    ("wrong-type", Text(ANSWER), No),
    ("gzip", Text(ANSWER), No),
    ("limits", Text(ANSWER), No),
    ("tools", Calls(1), No),
    ("parallel-tools", Calls(2), No),
    ("missing-index", Calls(2), No),
    ("reused-index", Calls(2), No),
    ("echo", Text(QUESTION), No),
];

const QUESTION: &str = "Tell me a story.";
/// Questions under way together.
const AT_ONCE: usize = 32;

/// The backend's settings for waits: long, but for the one that must end it.
fn waits(waits: Waits) -> String {
    let ms = |own: Waits, short: u32| if waits == own { short } else { 60_000 };
    format!(
        "headers_timeout_ms = {}\nfirst_content_timeout_ms = {}\nidle_timeout_ms = {}\ntotal_timeout_ms = {}\n",
        ms(Waits::Headers, 300),
        ms(Waits::FirstContent, 300),
        ms(Waits::Idle, 300),
        // Long enough that a busy machine has said something before.
        ms(Waits::Total, 3_000),
    )
}

/// Where a backend of this kind finds this fault.
async fn base_url(upstream: &FaultUpstream, kind: &str, fault: &str) -> Result<String> {
    Ok(match (fault, kind) {
        ("refused", "ollama") => FaultUpstream::refused_url().await?.trim_end_matches("/v1").to_owned(),
        ("refused", _) => FaultUpstream::refused_url().await?,
        (_, "ollama") => upstream.root_url(fault),
        _ => upstream.base_url(fault),
    })
}

fn name(fault: &str) -> String {
    format!("up-{fault}")
}

/// A gateway with a backend of this kind for each fault; whoever names one gets `spare` after it, which echoes.
async fn gateway(upstream: &FaultUpstream, kind: &str) -> Result<Weir> {
    let folder = tempfile::tempdir()?;
    let policy = folder.path().join("policy.toml");
    let to_spare = "[{ backend = \"spare\" }]";
    let rule = format!("[[rule]]\nname = \"all\"\nroute = \"spare\"\nreason = \"test\"\nattempts = {to_spare}\n");
    std::fs::write(&policy, format!("[pins]\nfallback = {to_spare}\n\n{rule}"))?;
    let mut config = "[engine.diffusion]\nenabled = false\n[engine.ar]\nenabled = false\n".to_owned();
    // All are asked at once: on a busy machine the first content takes its time, and headers sent before name nobody.
    config.push_str("[server]\nhold_headers_ms = 60000\n");
    // Each fault is met again and again here.
    config.push_str("[attempts]\nbreaker_failures = 1000\n");
    config.push_str(&format!("[policy]\nfile = {:?}\n\n", policy.display().to_string()));
    let spare = upstream.base_url("echo");
    config.push_str(&format!("[[backend]]\nname = \"spare\"\nbase_url = \"{spare}\"\nmodel = \"spare-model\"\n"));
    for (fault, _, wait) in TABLE {
        let (name, url) = (name(fault), base_url(upstream, kind, fault).await?);
        config.push_str(&format!(
            "[[backend]]\nname = \"{name}\"\nkind = \"{kind}\"\nbase_url = \"{url}\"\nmodel = \"m-{fault}\"\n{}\n",
            waits(wait)
        ));
    }
    Weir::start(&config)
}

/// One question of the table.
#[derive(Clone, Copy)]
struct Asked {
    row: &'static Row,
    dialect: Dialect,
    stream: bool,
}

async fn tell(weir: &Weir, asked: Asked) -> Result<Reply> {
    let body = asked.dialect.question(&name(asked.row.0), QUESTION, asked.stream);
    let request = client()?.post(weir.url(asked.dialect.path())).header("content-type", "application/json");
    read(request.body(body.to_string()).send().await?).await
}

/// What is wrong with this reply, if anything is.
fn judge(kind: &str, asked: Asked, reply: &Reply) -> Option<String> {
    let Asked { row: (fault, sees, _), dialect, stream } = asked;
    let heard = if stream { dialect.streamed(reply) } else { dialect.whole(reply) };
    let whole = |expect: &str| heard.end == End::Whole && heard.text == expect && heard.tokens == Some((11, 7));
    let backend = reply.header("x-weir-backend");
    let by_spare = reply.status == 200 && backend == "spare" && whole(QUESTION);
    let right = match sees {
        Another(_) => by_spare,
        Broken if stream => reply.status == 200 && heard.end == End::Broken && !heard.text.is_empty(),
        // Nothing was sent yet, so another backend takes over.
        Broken => by_spare,
        Text(expect) => reply.status == 200 && backend != "spare" && whole(expect),
        Calls(count) => reply.status == 200 && backend != "spare" && are_calls(*count, &heard),
    };
    let place = format!("{kind}, {fault}, {dialect:?}, stream {stream}");
    // Cut, or the upstream's own words came through.
    let leaks = reply.cut || reply.text.contains("refused:");
    (!right || leaks)
        .then(|| format!("{place}: want {sees:?}, got {} by {backend}: {heard:?}\n{}", reply.status, reply.text))
}

fn are_calls(count: usize, heard: &Heard) -> bool {
    let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
    let right = |(id, name, arguments): &(String, String, String)| {
        !id.is_empty() && name == "set_light" && value(arguments).is_some() && value(arguments) == value(TOOL_ARGUMENTS)
    };
    heard.end == End::Calls && heard.calls.len() == count && heard.calls.iter().all(right)
}

async fn table(kind: &str) -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let weir = gateway(&upstream, kind).await?;
    let mut all = Vec::new();
    for dialect in Dialect::ALL {
        for stream in [true, false] {
            // Completions are text only.
            let fits = |row: &&Row| dialect != Dialect::Completions || !matches!(row.1, Calls(_));
            all.extend(TABLE.iter().filter(fits).map(|row| Asked { row, dialect, stream }));
        }
    }
    let told = |asked: &Asked| {
        let (asked, weir) = (*asked, &weir);
        async move { (asked, tell(weir, asked).await) }
    };
    let mut wrong = Vec::new();
    // Not all at once: what has a short wait could then not say its first word in time on a busy machine.
    let mut replies = stream::iter(&all).map(told).buffer_unordered(AT_ONCE);
    while let Some((asked, reply)) = replies.next().await {
        wrong.extend(judge(kind, asked, &reply?));
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), all.len(), wrong.join("\n"));
    let count = all.len() as f64;
    let page = metrics_until(&weir, "all are counted", |page| page.sum("weir_requests_total", &[]) == count).await?;
    assert_eq!(page.sum("weir_in_flight", &[]), 0.0);
    for (fault, sees, _) in &TABLE {
        let Another(cause) = sees else { continue };
        let from = name(fault);
        let counted = page.sum("weir_fallbacks_total", &[("from", &from), ("to", "spare"), ("cause", cause)]);
        // Who asked to be left alone for a while is: later requests go past it.
        let skipped = page.sum("weir_skipped_total", &[("backend", &from), ("cause", cause)]);
        assert!(skipped == 0.0 || *fault == "429", "{kind}, {fault}");
        let each = 2.0 * Dialect::ALL.len() as f64;
        assert_eq!(counted + skipped, each, "{kind}, {fault} as {cause}\n{}", get(&weir, "/metrics").await?.text);
    }
    Ok(())
}

#[tokio::test]
async fn openai_chat() -> Result<()> {
    table("openai-chat").await
}

#[tokio::test]
async fn openai_responses() -> Result<()> {
    table("openai-responses").await
}

#[tokio::test]
async fn anthropic() -> Result<()> {
    table("anthropic").await
}

#[tokio::test]
async fn ollama() -> Result<()> {
    table("ollama").await
}

#[tokio::test]
async fn sglang_dllm() -> Result<()> {
    table("sglang-dllm").await
}

#[tokio::test]
async fn limits_of_the_upstream_reach_the_caller() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let weir = gateway(&upstream, "openai-chat").await?;
    let row = TABLE.iter().find(|row| row.0 == "limits").context("the row")?;
    for (dialect, stream) in Dialect::ALL.into_iter().flat_map(|dialect| [(dialect, true), (dialect, false)]) {
        let reply = tell(&weir, Asked { row, dialect, stream }).await?;
        let left = reply.header("x-ratelimit-remaining-tokens");
        assert_eq!(left, "17", "{dialect:?}, stream {stream}: {:?}", reply.headers);
    }
    Ok(())
}

/// Upstreams that know of no such wish, or do not heed it, do not break it.
#[tokio::test]
async fn who_takes_one_call_only_gets_one() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    for kind in ["openai-chat", "openai-responses", "anthropic", "ollama"] {
        let url = base_url(&upstream, kind, "parallel-tools").await?;
        let weir = Weir::start(&format!(
            "[[backend]]\nname = \"b\"\nkind = \"{kind}\"\nbase_url = \"{url}\"\nmodel = \"m\"\n"
        ))?;
        for (dialect, stream) in Dialect::ALL.into_iter().flat_map(|dialect| [(dialect, true), (dialect, false)]) {
            let own = match dialect {
                Dialect::Chat => json!({"parallel_tool_calls": false, "tools": [
                    {"type": "function", "function": {"name": "set_light", "parameters": {"type": "object"}}}]}),
                Dialect::Responses => json!({"parallel_tool_calls": false, "tools": [
                    {"type": "function", "name": "set_light", "parameters": {"type": "object"}}]}),
                Dialect::Messages => json!({"tools": [{"name": "set_light", "input_schema": {"type": "object"}}],
                    "tool_choice": {"type": "auto", "disable_parallel_tool_use": true}}),
                Dialect::Completions => continue,
            };
            let mut body = dialect.question("b", QUESTION, stream);
            for (key, value) in own.as_object().context("an object")? {
                body[key] = value.clone();
            }
            let reply = read(client()?.post(weir.url(dialect.path())).body(body.to_string()).send().await?).await?;
            let heard = if stream { dialect.streamed(&reply) } else { dialect.whole(&reply) };
            let place = format!("{kind}, {dialect:?}, stream {stream}");
            assert!(are_calls(1, &heard), "{place}: {heard:?}\n{}", reply.text);
            assert_eq!(heard.tokens, Some((11, 7)), "{place}");
        }
    }
    Ok(())
}

/// Each kind is asked where and how its protocol wants it.
#[tokio::test]
async fn every_kind_is_asked_in_its_own_way() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let mut config = String::new();
    let kinds = ["openai-chat", "openai-responses", "anthropic", "ollama", "sglang-dllm"];
    for kind in kinds {
        let url = base_url(&upstream, kind, "fine").await?;
        config.push_str(&format!(
            "[[backend]]\nname = \"{kind}\"\nkind = \"{kind}\"\nbase_url = \"{url}\"\nmodel = \"m\"\napi_key_env = \"KEY\"\n"
        ));
    }
    let weir = Weir::start_with(&config, &[("KEY", "k-17")])?;
    for kind in kinds {
        let body = Dialect::Chat.question(kind, QUESTION, true);
        let reply = read(client()?.post(weir.url("/v1/chat/completions")).body(body.to_string()).send().await?).await?;
        assert_eq!(Dialect::Chat.streamed(&reply).end, End::Whole, "{kind}: {}", reply.text);
    }
    for (place, kind) in kinds.iter().enumerate() {
        let seen = upstream.ended(place).await?;
        let key = if *kind == "anthropic" { seen.header("x-api-key") } else { seen.header("authorization") };
        assert_eq!(key.trim_start_matches("Bearer "), "k-17", "{kind}");
        assert_eq!(seen.header("anthropic-version").is_empty(), *kind != "anthropic", "{kind}");
        assert_eq!((&seen.body["model"], &seen.body["stream"]), (&"m".into(), &true.into()), "{kind}: {}", seen.body);
    }
    Ok(())
}
