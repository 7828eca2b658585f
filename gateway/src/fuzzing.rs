//! The doors of `fuzz/`: any bytes go in, and what must hold of every answer, request and file is asserted. The tests go through
//! them with what the fuzzers begin with, changed a little. Must never be part of another build.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use futures::{FutureExt, stream};
use http::{HeaderMap, HeaderValue};
use weir_protocol::{ChatRequest, EngineError, Event};
use weir_router_policies::simulate::{ComesAs, Recorded, Replaying, Scenario, Servers};
use weir_router_policies::{Features, Policy, policy, replay::Logged};

use crate::api::answering::Speaks;
use crate::api::answering::collect::{Collected, Item, Words, collect};
use crate::api::answering::stream::StreamWriter;
use crate::api::anthropic_messages::AnthropicMessages;
use crate::api::openai_chat::OpenAiChat;
use crate::api::openai_completions::OpenAiCompletions;
use crate::api::openai_responses::OpenAiResponses;
use crate::backends::fuzzing::{read, sent};
use crate::config::{self, BackendSettings, Inputs};
use crate::traces::TraceContext;

/// One of each kind.
static BACKENDS: LazyLock<Vec<BackendSettings>> = LazyLock::new(|| {
    let kinds = ["openai-chat", "openai-responses", "anthropic", "ollama", "sglang-dllm"];
    let one = |kind| {
        format!(
            "[[backend]]\nname = \"b-{kind}\"\nkind = \"{kind}\"\nbase_url = \"http://127.0.0.1:1\"\nmodel = \"m\"\n"
        )
    };
    let file = std::env::temp_dir().join(format!("weir-fuzz-{}.toml", std::process::id()));
    let text: String = kinds.map(one).concat();
    std::fs::write(&file, text).expect("writable");
    let loaded = config::load(&Inputs { file: Some(file), ..Inputs::default() });
    loaded.expect("a good config").backends
});

/// An upstream's answer. The first byte says of which kind and in what pieces it comes.
pub fn answer(data: &[u8]) {
    let Some((first, bytes)) = data.split_first() else { return };
    let (kind, size) = (usize::from(*first) % BACKENDS.len(), 1 + usize::from(*first) / BACKENDS.len());
    let settings = &BACKENDS[kind];
    let whole = read(settings, (true, false), bytes, usize::MAX);
    promise(&whole);
    let split = read(settings, (true, false), bytes, size);
    promise(&split);
    // A caller of another dialect is not told all of it: some seals and reasons are the upstream's own.
    let told = read(settings, (false, false), bytes, size);
    promise(&told);
    assert_eq!(whole.1.is_some(), split.1.is_some(), "pieces change the end: {whole:?} {split:?}");
    if whole.1.is_none() {
        assert_eq!(meaning(&whole.0), meaning(&split.0), "pieces change the answer");
    }
    for size in [usize::MAX, size] {
        let at_once = read(settings, (true, true), bytes, size);
        promise(&at_once);
        assert_eq!(whole.1, at_once.1, "who gets it whole gets another end");
        assert_eq!(gathered(&whole), gathered(&at_once), "who gets it whole gets another answer");
    }
    for answer in [whole, told] {
        written::<OpenAiChat>(answer.clone());
        written::<OpenAiCompletions>(answer.clone());
        written::<OpenAiResponses>(answer.clone());
        written::<AnthropicMessages>(answer);
    }
}

/// One beginning first, one end last or an error, never both; calls are numbered as they come, each with an id of its own.
fn promise((events, error): &(Vec<Event>, Option<EngineError>)) {
    let ends = events.iter().filter(|event| matches!(event, Event::Finished { .. })).count();
    assert_eq!(ends, usize::from(error.is_none()), "{events:?} {error:?}");
    assert!(!matches!(error, Some(EngineError::Internal { .. })), "an error of ours: {error:?}");
    if error.is_none() {
        assert!(matches!(events.last(), Some(Event::Finished { .. })), "{events:?}");
    }
    let mut calls: Vec<&str> = Vec::new();
    for event in events {
        match event {
            Event::ToolCallStarted { index, id, .. } => {
                assert_eq!(*index as usize, calls.len(), "{events:?}");
                assert!(!id.is_empty() && !calls.contains(&id.as_str()), "{events:?}");
                calls.push(id);
            }
            Event::ToolCallDelta { index, .. } => assert!((*index as usize) < calls.len(), "{events:?}"),
            _ => {}
        }
    }
    let once = |which: fn(&Event) -> bool| events.iter().filter(|event| which(event)).count() <= 1;
    assert!(once(|event| matches!(event, Event::Usage(_))) && once(|event| matches!(event, Event::StoppedAt(_))));
    let starts = |event: &Event| matches!(event, Event::Started { .. });
    assert!(events.iter().filter(|event| starts(event)).count() <= 1, "{events:?}");
    if let Some(said) = events.iter().position(Event::is_content) {
        assert!(events.iter().position(starts).is_some_and(|at| at < said), "{events:?}");
    }
}

/// Without what differs from run to run.
fn meaning(events: &[Event]) -> Vec<Event> {
    let told = events.iter().filter(|event| !matches!(event, Event::Verbatim(_))).cloned();
    let unnamed = told.map(|event| match event {
        Event::ToolCallStarted { index, name, .. } => Event::ToolCallStarted { index, id: String::new(), name },
        other => other,
    });
    unnamed.collect()
}

/// All of it: as it was read, and as the upstream told it to a caller of OpenAI's dialect.
fn gathered((events, error): &(Vec<Event>, Option<EngineError>)) -> Option<(Collected, Option<String>)> {
    let events = events.iter().cloned().map(Ok).chain(error.clone().map(Err));
    let mut all = collect(Box::pin(stream::iter(events.collect::<Vec<_>>()))).now_or_never()?.ok()?;
    let mut told = match all.words.take() {
        Some(Words::Pieces(pieces)) => OpenAiChat::joined(&pieces),
        _ => None,
    };
    for item in &mut all.items {
        if let Item::Call(call) = item {
            // Where the upstream gave none, it is another one each time.
            let id = std::mem::take(&mut call.id);
            told = told.map(|told| if id.starts_with("call_") { told.replace(&id, "call_") } else { told });
        }
    }
    Some((all, told))
}

/// In a dialect: streamed it ends once, and whole it does not panic.
fn written<D: Speaks>((events, error): (Vec<Event>, Option<EngineError>)) {
    let request = ChatRequest::default();
    let mut writer = StreamWriter::new(D::grammar(&request), false);
    for event in events.clone() {
        writer.event(event);
    }
    match &error {
        Some(error) => drop(writer.error(error)),
        None => assert!(writer.has_ended(), "an answer without an end"),
    }
    let events = events.into_iter().map(Ok).chain(error.map(Err));
    let collected = collect(Box::pin(stream::iter(events))).now_or_never().expect("all is there");
    if let Ok(collected) = collected {
        if let Some(Words::Pieces(pieces)) = &collected.words {
            let _ = D::joined(pieces);
        }
        let _ = D::whole(&request, collected);
    }
}

type Decode = fn(&[u8]) -> Result<ChatRequest, EngineError>;

/// A caller's body. The first byte says in which dialect.
pub fn body(data: &[u8]) {
    let Some((first, body)) = data.split_first() else { return };
    let decode: [Decode; 4] =
        [OpenAiChat::decode, OpenAiCompletions::decode, OpenAiResponses::decode, AnthropicMessages::decode];
    let Ok(request) = decode[usize::from(*first) % decode.len()](body) else { return };
    let _ = Features::of(&request);
    for settings in BACKENDS.iter() {
        if let Ok(sent) = sent(settings, &request) {
            let read: Result<serde_json::Map<String, serde_json::Value>, _> = serde_json::from_slice(&sent);
            assert!(read.is_ok(), "what is sent is no object");
        }
    }
}

/// A file or header of an operator or a caller. The first byte says which; `place` may be written to.
pub fn text(place: &Path, data: &[u8]) {
    let Some((first, bytes)) = data.split_first() else { return };
    let text = String::from_utf8_lossy(bytes);
    match first % 5 {
        0 => {
            if let Ok(policy) = Policy::parse(&text, "fuzz") {
                let backends = policy.test_backends();
                let _ = policy.check_reach(&backends);
                let _ = policy.check_attempts(&backends);
                let _ = policy.plan(&ChatRequest::default(), &backends);
                let again = policy::format(&text).expect("what is a policy has a layout");
                assert!(Policy::parse(&again, "fuzz").is_ok(), "a layout breaks a policy");
            }
        }
        1 => recorded(bytes),
        2 => {
            let file = place.join("weir.toml");
            std::fs::write(&file, bytes).expect("writable");
            drop(config::load(&Inputs { file: Some(file), ..Inputs::default() }));
        }
        3 => {
            let Ok(value) = HeaderValue::from_bytes(bytes) else { return };
            let headers = HeaderMap::from_iter([(http::HeaderName::from_static("traceparent"), value)]);
            for sample in [None, Some(0.0), Some(1.0)] {
                if let Some(context) = TraceContext::begin(&headers, sample) {
                    assert_ne!(context.trace_id, 0);
                    let _ = context.headers(context.attempt_span());
                }
            }
        }
        _ => drop(Scenario::parse(&text)),
    }
}

/// Where everything goes to a role.
const ALL_TO_AR: &str =
    "[[rule]]\nname = \"all\"\nroute = \"ar\"\nreason = \"all of it\"\nattempts = [{ backend = \"role:ar\" }]\n";

/// A request log, many times over, so that there is enough of it.
fn recorded(bytes: &[u8]) {
    let lines: Vec<Logged> = bytes.split(|byte| *byte == b'\n').filter_map(|line| Logged::read(line).ok()).collect();
    assert!(lines.iter().all(|line| line.moment().hour < 24));
    let lines: Vec<Logged> = lines.iter().cycle().take(if lines.is_empty() { 0 } else { 64 }).cloned().collect();
    if let Ok(recorded) = Recorded::of(&lines, BTreeMap::new(), &[]) {
        let text = recorded.servers.written().expect("what was measured can be written");
        let mut servers = Servers::parse(&text).expect("and read");
        servers.replaced_by(recorded.servers.clone()).expect("and simulated");
        let policy = Policy::parse(ALL_TO_AR, "fuzz").expect("a policy");
        let how = Replaying { load: 2.0, comes_as: ComesAs::Recorded, requests: Some(100), seed: 1 };
        assert_eq!(recorded.run(&servers, &policy, &how).requests, 100);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Enough to reach every branch now and then; the fuzzers do the rest.
    const CHANGES: u64 = 150;

    fn seeds(folder: &str) -> Vec<(String, Vec<u8>)> {
        let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/small").join(folder);
        let files = std::fs::read_dir(place).unwrap().map(|file| file.unwrap().path());
        files
            .map(|file| (file.file_stem().unwrap().to_str().unwrap().to_owned(), std::fs::read(&file).unwrap()))
            .collect()
    }

    /// The text with one byte, or a few in a row, taken out, doubled or replaced.
    fn changed(text: &[u8], at: u64) -> Vec<u8> {
        let draw = |salt: u64| at.wrapping_add(salt).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29) as usize;
        let from = draw(1) % text.len();
        let to = (from + 1 + draw(2) % 12).min(text.len());
        let middle = match draw(3) % 3 {
            0 => Vec::new(),
            1 => [&text[from..to], &text[from..to]].concat(),
            _ => vec![b"{}[]\",:0\n\\ n\xff"[draw(4) % 13]],
        };
        [&text[..from], &middle, &text[to..]].concat()
    }

    fn with_changes(first: u8, text: &[u8], door: impl Fn(&[u8])) {
        door(&[&[first], text].concat());
        (0..CHANGES).for_each(|at| door(&[&[first], changed(text, at).as_slice()].concat()));
    }

    #[test]
    fn answers_keep_their_promise() {
        for (name, text) in seeds("answers") {
            let kinds = ["openai-chat", "openai-responses", "anthropic", "ollama"];
            let kind = kinds.iter().position(|kind| *kind == name).unwrap() as u8;
            for size in [0, 2, 40] {
                with_changes(kind + 5 * size, &text, answer);
                // What follows an end, in the same piece or a later one, changes nothing.
                answer(&[&[kind + 5 * size], text.as_slice(), b"\n\ndata: \xff\n\n"].concat());
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn texts_that_come_together_are_one(
            texts in prop::collection::vec(prop_oneof![3 => "[a-z ]{0,5}", 1 => "\\PC{0,4}", 1 => "[\"\\\\\n]{1,2}"], 0..20),
            odd in 0..20_usize,
            change in prop::sample::select(vec![
                "\"delta\"", "\"m\"", "null", "\"content\":\"", "\"}}]}", "\n\n", "data: ", "\"index\":0", "xx",
            ]),
            size in 0..40_u8,
        ) {
            let mut stream = String::new();
            for (at, text) in texts.iter().enumerate() {
                let content = serde_json::Value::from(text.as_str());
                let piece = format!(
                    "data: {{\"model\":\"m\",\"choices\":[{{\"index\":0,\"finish_reason\":null,\"delta\":{{\"content\":{content}}}}}]}}\n\n"
                );
                let piece = if at == odd { piece.replacen(change, "\"x\\", 1) } else { piece };
                stream.push_str(&piece);
            }
            stream.push_str("data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n");
            answer(&[&[5 * size], stream.as_bytes()].concat());
        }
    }

    #[test]
    fn bodies_become_bodies() {
        for (name, text) in seeds("bodies") {
            let dialects = ["chat", "completions", "responses", "messages"];
            let dialect = dialects.iter().position(|dialect| *dialect == name).unwrap() as u8;
            with_changes(dialect, &text, body);
        }
        for (_, text) in seeds("requests") {
            with_changes(0, &text, body);
        }
    }

    #[test]
    fn texts_are_read_or_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (policy, config) = (crate::embedded::POLICY.as_bytes(), crate::embedded::CONFIG.as_bytes());
        for (name, read) in seeds("texts") {
            with_changes(if name == "line" { 1 } else { 3 }, &read, |data| text(folder.path(), data));
        }
        for (first, read) in [(0, policy), (2, config)] {
            text(folder.path(), &[&[first], read].concat());
            (0..20).for_each(|at| text(folder.path(), &[&[first], changed(read, at).as_slice()].concat()));
        }
    }
}
