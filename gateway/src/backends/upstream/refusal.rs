//! What an upstream's refusal means. Must never pass its sentences on: they may quote the prompt or a key. Only its
//! code words go into our errors.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, header};
use reqwest::Response;
use serde_json::Value;
use weir_protocol::EngineError;

use super::clock::{Clock, Wait};
use super::once;
use crate::plain_json;

const BODY_LIMIT: usize = 64 * 1024;
const WORD_MAX: usize = 64;

/// How servers say that the conversation is too long.
const OVERFLOW: &[&str] = &[
    "context_length_exceeded",
    "context length",
    "context window",
    "context limit",
    "exceed_context_size",
    "available context size",
    "maximum model length",
    "maximum prompt length",
    "maximum number of tokens allowed",
    "exceeded model token limit",
    "prompt exceeds max length",
    "range of input length should be",
    "prompt is too long",
    "input is too long",
    "request_too_large",
];

/// How moderation says that it will not have what was said. An account may be flagged, too: such words are not here.
const MODERATED: &[&str] = &[
    "moderation",
    "flagged_input",
    "input was flagged",
    "content_filter",
    "content filter",
    "content_policy",
    "content policy",
    "content violates",
    "data_inspection_failed",
    "safety_check",
];

/// What stands before a window's size in such a text, and not before what was needed of it.
const LIMIT_WORDS: &[&str] = &["maximum", "context", "limit"];

/// Words for a kind of failure, and the status that says the same. In-stream errors often have nothing else.
const STATUS_WORDS: &[(&str, u16)] = &[
    ("invalid_request_error", 400),
    ("failed_to_download_image", 400),
    ("empty_image_file", 400),
    ("authentication_error", 401),
    ("invalid_api_key", 401),
    ("billing_error", 402),
    ("insufficient_quota", 402),
    ("permission_error", 403),
    ("not_found_error", 404),
    ("model_not_found", 404),
    ("request_too_large", 413),
    ("rate_limit_error", 429),
    ("rate_limit_exceeded", 429),
    ("api_error", 500),
    ("service_unavailable_error", 503),
    ("server_is_overloaded", 503),
    ("slow_down", 503),
    ("timeout_error", 504),
    ("overloaded_error", 529),
];

/// The error behind an answer with an error status.
pub(super) async fn read(response: Response, clock: &Clock, window: u64) -> EngineError {
    let status = response.status().as_u16();
    let retry_after = retry_after(response.headers());
    // The status alone tells enough: a body that is too long, late or broken is done without.
    let body = match clock.bound(Wait::Headers, once::at_most(response, BODY_LIMIT)).await {
        Ok(Ok(body)) => body,
        _ => Vec::new(),
    };
    meaning(status, retry_after, &String::from_utf8_lossy(&body), window)
}

/// The error behind an error object inside a stream or a document that began with a good status.
pub(in crate::backends) fn inside(error: &Value, window: u64) -> EngineError {
    let code = error["code"].as_u64().or_else(|| error["status"].as_u64());
    let status = code.and_then(|code| u16::try_from(code).ok()).filter(|code| (400..600).contains(code));
    let text = error.to_string();
    // Without a number the words still count; an overflow's as they would with a 400.
    let status = status.or_else(|| is_overflow(&text).then_some(400)).or_else(|| status_of_words(error));
    meaning(status.unwrap_or(0), None, &format!("{{\"error\":{text}}}"), window)
}

/// What the words of an upstream's own faults never begin with: a request that it will not take speaks against nobody.
const REFUSES: &[&str] = &["invalid_", "image_", "unsupported_"];

fn status_of_words(error: &Value) -> Option<u16> {
    let status = |word: &str| {
        let known = STATUS_WORDS.iter().find(|(known, _)| *known == word).map(|(_, status)| *status);
        known.or_else(|| REFUSES.iter().any(|begin| word.starts_with(begin)).then_some(400))
    };
    [&error["code"], &error["type"]].into_iter().filter_map(Value::as_str).find_map(status)
}

fn meaning(status: u16, retry_after: Option<Duration>, body: &str, window: u64) -> EngineError {
    match status {
        // Another prompt is taken: it says nothing of our key.
        403 if says(body, MODERATED) => {
            let message = "its moderation refuses what was said".into();
            EngineError::Upstream { status, message, retry_after: None }
        }
        401..=403 => EngineError::Unauthorized { status },
        // Nothing is left on the account: no wait mends that.
        429 if body.contains("insufficient_quota") => EngineError::Unauthorized { status },
        429 => EngineError::RateLimited { retry_after: retry_after.or_else(|| wait_inside(body)) },
        413 => too_long(body, window),
        400 | 422 if is_overflow(body) => too_long(body, window),
        300..=399 => EngineError::Upstream {
            status,
            message: "redirects are not followed; check its base URL".into(),
            retry_after: None,
        },
        _ => {
            // Of the others, only a server that cannot answer now means it.
            let retry_after = retry_after.filter(|_| status >= 500);
            EngineError::Upstream { status, message: code_words(body), retry_after }
        }
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| Some(headers.get(name)?.to_str().ok()?.trim());
    let number = |name: &str| text(name)?.parse::<f64>().ok();
    let seconds = number("retry-after-ms").map(|ms| ms / 1000.0).or_else(|| number(header::RETRY_AFTER.as_str()));
    match seconds {
        Some(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        None => {
            let date = |name: &str| httpdate::parse_http_date(text(name)?).ok();
            let then = date(header::RETRY_AFTER.as_str())?;
            // By the upstream's own clock, where it shows it.
            let now = date(header::DATE.as_str()).unwrap_or_else(SystemTime::now);
            Some(then.duration_since(now).unwrap_or_default())
        }
    }
}

fn is_overflow(body: &str) -> bool {
    says(body, OVERFLOW)
}

fn says(body: &str, known: &[&str]) -> bool {
    let body = body.to_ascii_lowercase();
    known.iter().any(|words| body.contains(words))
}

/// Such texts have the window and the need among their numbers, and often the parts of the need. They count only where both
/// are found: servers put them in any order.
fn too_long(body: &str, window: u64) -> EngineError {
    let parsed = parsed(body);
    let message = parsed["error"]["message"].as_str().or_else(|| parsed["message"].as_str());
    let message = message.or_else(|| parsed["error"].as_str()).unwrap_or_default().to_ascii_lowercase();
    let told = numbers(&message);
    let is = |test: fn(&Number<'_>) -> bool| told.iter().find(|number| test(number));
    let limit = is(|number| number.before.trim_end().ends_with('>'))
        .or_else(|| is(|number| number.after.trim_start().starts_with("maximum")))
        .or_else(|| is(|number| LIMIT_WORDS.iter().any(|word| number.before.contains(word))));
    let both = limit.and_then(|&Number { value: limit, .. }| {
        let others = || told.iter().map(|number| number.value).filter(|value| *value != limit);
        // Prompt and answer together, which some tell as two numbers only.
        let whole = others().max().filter(|most| *most > limit);
        let got = whole.or_else(|| Some(others().take(2).fold(0, u64::saturating_add)).filter(|sum| *sum > limit));
        Some((limit, got?))
    });
    let (limit, got) = both.unwrap_or((window, 0));
    EngineError::ContextTooLong { limit, got }
}

/// A number of a text, and what stands around it, up to its neighbours.
struct Number<'a> {
    before: &'a str,
    value: u64,
    after: &'a str,
}

/// The numbers that stand alone: not those in names, such as `gpt-4` or `1.5b`, nor half of `131,072`.
fn numbers(text: &str) -> Vec<Number<'_>> {
    let is_name = |c: char| c.is_alphanumeric() || "_-./,".contains(c);
    let mut found: Vec<Number<'_>> = Vec::new();
    let mut from = 0;
    // The end of a sentence is no part of a number.
    for word in text.split(|c: char| !is_name(c)).map(|word| word.trim_end_matches(['.', ','])) {
        let Ok(value) = word.parse() else { continue };
        let at = word.as_ptr() as usize - text.as_ptr() as usize;
        let before = text.get(from..at).unwrap_or_default();
        if let Some(last) = found.last_mut() {
            last.after = before;
        }
        from = at + word.len();
        found.push(Number { before, value, after: text.get(from..).unwrap_or_default() });
    }
    found
}

/// The body as JSON, `Null` if it is none. Gemini puts its errors in a list.
fn parsed(body: &str) -> Value {
    let parsed = plain_json::parse(body).unwrap_or_default();
    if parsed.is_array() { parsed[0].clone() } else { parsed }
}

/// How long Gemini says to wait, which has no header for it.
fn wait_inside(body: &str) -> Option<Duration> {
    let parsed = parsed(body);
    let mut waits = parsed["error"]["details"].as_array()?.iter().filter_map(|detail| detail["retryDelay"].as_str());
    let seconds = waits.next()?.strip_suffix('s')?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

fn code_words(body: &str) -> String {
    let parsed = parsed(body);
    // A few servers keep the words at the top.
    let error = if parsed["error"].is_object() { &parsed["error"] } else { &parsed };
    let word = |key: &str| Some(format!("{key} `{}`", error[key].as_str().filter(|word| is_word(word))?));
    let words: Vec<String> = ["type", "code", "param"].into_iter().filter_map(word).collect();
    if words.is_empty() { "it gave no known reason".into() } else { words.join(", ") }
}

/// Whether it can be a code: no sentence, no secret of usual length.
pub(in crate::backends) fn is_word(word: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.[]".contains(&byte);
    !word.is_empty() && word.len() <= WORD_MAX && word.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(status: u16, body: &str, expect: &EngineError) {
        assert_eq!(meaning(status, None, body, 99), *expect);
    }

    fn upstream(status: u16, message: &str) -> EngineError {
        EngineError::Upstream { status, message: message.into(), retry_after: None }
    }

    #[test]
    fn statuses_have_their_kinds() {
        for status in [401, 402, 403] {
            check(status, "{}", &EngineError::Unauthorized { status });
        }
        check(429, "{}", &EngineError::RateLimited { retry_after: None });
        let empty = r#"{"error":{"type":"insufficient_quota","message":"x"}}"#;
        check(429, empty, &EngineError::Unauthorized { status: 429 });
        check(500, r#"{"object":"error","type":"internal_error"}"#, &upstream(500, "type `internal_error`"));
        check(404, "<html>nope</html>", &upstream(404, "it gave no known reason"));
        check(500, "", &upstream(500, "it gave no known reason"));
        check(302, "", &upstream(302, "redirects are not followed; check its base URL"));
    }

    #[test]
    fn moderation_speaks_against_no_backend() {
        let openrouter = r#"{"error":{"code":403,"message":"m requires moderation on p. Your input was flagged for \"x\"","metadata":{"reasons":["x"],"flagged_input":"my secret"}}}"#;
        let xai = r#"{"code":"permission-denied","error":"Content violates usage guidelines. Failed check: SAFETY_CHECK_TYPE_X"}"#;
        for body in [openrouter, xai] {
            let told = meaning(403, None, body, 9);
            assert_eq!(
                (&told, told.speaks_against_backend()),
                (&upstream(403, "its moderation refuses what was said"), false)
            );
        }
        for (status, body) in [
            (401, openrouter),
            (402, xai),
            (403, "{}"),
            (403, r#"{"error":{"message":"Your account has been flagged","code":"permission_error"}}"#),
            (403, r#"{"error":{"message":"Your key has no access to this model"}}"#),
        ] {
            let told = meaning(status, None, body, 9);
            assert_eq!((&told, told.speaks_against_backend()), (&EngineError::Unauthorized { status }, true), "{body}");
        }
    }

    #[test]
    fn a_server_that_cannot_answer_now_says_when_it_can() {
        let wait = Some(Duration::from_secs(40));
        for (status, retry_after) in [(503, wait), (529, wait), (404, None)] {
            let message = "it gave no known reason".to_owned();
            assert_eq!(meaning(status, wait, "", 9), EngineError::Upstream { status, message, retry_after });
        }
    }

    #[test]
    fn only_code_words_come_through() {
        let body = r#"{"error":{"message":"bad text: my secret","type":"invalid_request_error","param":"messages.[0].content","code":"my secret"}}"#;
        check(400, body, &upstream(400, "type `invalid_request_error`, param `messages.[0].content`"));
    }

    #[test]
    fn overflow_is_known_by_its_words() {
        let overflow = |limit, got| EngineError::ContextTooLong { limit, got };
        let says = |message: &str| format!(r#"{{"error":{{"message":"{message}"}}}}"#);
        let usual = says("This model's maximum context length is 4096 tokens. However, you requested 5000 tokens");
        check(400, &usual, &overflow(4096, 5000));
        check(400, &says("prompt is too long: 210000 tokens > 200000 maximum"), &overflow(200_000, 210_000));
        check(400, r#"{"error":{"code":"context_length_exceeded"}}"#, &overflow(99, 0));
        let both = "input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000, decrease";
        check(400, &says(both), &overflow(200_000, 209_573));
        let gemini = says("The input token count (1200293) exceeds the maximum number of tokens allowed (1048576).");
        check(400, &format!("[{gemini}]"), &overflow(1_048_576, 1_200_293));
        let xai = "This model's maximum prompt length is 131072 but the request contains 136973 tokens.";
        check(400, &says(xai), &overflow(131_072, 136_973));
        check(400, &says("Your request exceeded model token limit: 262144"), &overflow(99, 0));
        let mistral =
            "Prompt contains 40687 tokens and 0 draft tokens, too large for model with 32768 maximum context length";
        check(400, &says(mistral), &overflow(32_768, 40_687));
        let vllm = "This model's maximum context length is 32768 tokens. However, you requested 8192 output tokens and your prompt contains at least 24577 input tokens, for a total of at least 32769 tokens.";
        check(400, &says(vllm), &overflow(32_768, 32_769));
        let vllm = "You passed 98305 input tokens and requested 32768 output tokens. However, the model's context length is only 131072 tokens, resulting in a maximum input length of 98304 tokens. (parameter=input_tokens, value=98305)";
        check(400, &says(vllm), &overflow(131_072, 131_073));
        let vllm = "'max_tokens' or 'max_completion_tokens' is too large: 32000. This model's maximum context length is 32768 tokens and your request has 10694 input tokens (32000 > 32768 - 10694).";
        check(400, &says(vllm), &overflow(32_768, 42_694));
        let llama = "request (5000 tokens) exceeds the available context size (4096 tokens), try increasing it";
        check(400, &says(llama), &overflow(4096, 5000));
        check(400, &says("Range of input length should be [1, 129024]"), &overflow(99, 0));
        let groq = "Request too large for model `llama-3.1-8b-instant`: Limit 6000, Requested 9512";
        check(413, &says(groq), &overflow(6000, 9512));
        check(400, &says("gpt-4 has a context window of 8192 tokens"), &overflow(99, 0));
        check(400, &says("maximum context length of 131,072 tokens, not 140,000"), &overflow(99, 0));
        check(413, "<html>", &overflow(99, 0));
        check(500, &usual, &upstream(500, "it gave no known reason"));
    }

    #[test]
    fn gemini_says_in_the_body_how_long_to_wait() {
        let body = r#"[{"error":{"code":429,"details":[{"@type":"x"},{"retryDelay":"33.5s"}]}}]"#;
        check(429, body, &EngineError::RateLimited { retry_after: Some(Duration::from_millis(33_500)) });
    }

    #[test]
    fn an_error_inside_an_answer_is_read_the_same_way() {
        let rate = serde_json::json!({"code": 429, "message": "slow down"});
        assert_eq!(inside(&rate, 9), EngineError::RateLimited { retry_after: None });
        let overflow = serde_json::json!({"code": "context_length_exceeded"});
        assert_eq!(inside(&overflow, 9), EngineError::ContextTooLong { limit: 9, got: 0 });
        let other = serde_json::json!({"type": "server_error", "message": "my secret"});
        assert_eq!(inside(&other, 9), upstream(0, "type `server_error`"));
        assert_eq!(inside(&serde_json::json!("my secret"), 9), upstream(0, "it gave no known reason"));
        for refused in ["invalid_prompt", "image_content_policy_violation", "invalid_request_error"] {
            let told = inside(&serde_json::json!({"code": refused, "message": "my secret"}), 9);
            assert_eq!((&told, told.speaks_against_backend()), (&upstream(400, &format!("code `{refused}`")), false));
        }
        let said = |kind: &str| inside(&serde_json::json!({"type": kind, "message": "my secret"}), 9);
        assert_eq!(said("overloaded_error"), upstream(529, "type `overloaded_error`"));
        let busy = serde_json::json!({"code": "server_is_overloaded", "message": "my secret"});
        assert_eq!(inside(&busy, 9), upstream(503, "code `server_is_overloaded`"));
        assert_eq!(said("rate_limit_error"), EngineError::RateLimited { retry_after: None });
        assert_eq!(said("billing_error"), EngineError::Unauthorized { status: 402 });
        assert_eq!(
            inside(&serde_json::json!("the input length exceeds the context length"), 9),
            EngineError::ContextTooLong { limit: 9, got: 0 }
        );
    }

    #[test]
    fn a_wait_is_read_in_seconds_and_milliseconds() {
        let wait = |name: &'static str, value: &'static str| {
            retry_after(&HeaderMap::from_iter([(name.parse().expect("name"), value.parse().expect("value"))]))
        };
        assert_eq!(wait("retry-after", "7"), Some(Duration::from_secs(7)));
        assert_eq!(wait("retry-after-ms", "250"), Some(Duration::from_millis(250)));
        assert_eq!(wait("retry-after", "Fri, 31 Dec 1999 23:59:59 GMT"), Some(Duration::ZERO));
        assert_eq!(wait("retry-after", "tomorrow"), None);
        let dates = [("retry-after", "Fri, 31 Dec 1999 23:59:59 GMT"), ("date", "Fri, 31 Dec 1999 23:59:52 GMT")];
        let headers = dates.map(|(name, value)| (name.parse().expect("name"), value.parse().expect("value")));
        assert_eq!(retry_after(&HeaderMap::from_iter(headers)), Some(Duration::from_secs(7)));
        assert_eq!(wait("retry-after", "-1"), None);
    }
}
