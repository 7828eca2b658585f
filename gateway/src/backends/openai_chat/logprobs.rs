//! Log-probabilities in OpenAI's shape, which its other dialect has too. Must never make up a figure.

use serde_json::Value;
use weir_protocol::{Event, TokenChance, TokenLogprob};

/// The tokens of a list, if there are any.
pub(in crate::backends) fn token_logprobs(entries: &Value) -> Option<Event> {
    let byte = |byte: &Value| byte.as_u64().and_then(|byte| u8::try_from(byte).ok());
    let chance = |value: &Value| {
        Some(TokenChance {
            token: value["token"].as_str()?.to_owned(),
            logprob: value["logprob"].as_f64()? as f32,
            bytes: value["bytes"].as_array().and_then(|bytes| bytes.iter().map(byte).collect()),
        })
    };
    let entry = |value: &Value| {
        let top = value["top_logprobs"].as_array().into_iter().flatten().filter_map(chance).collect();
        Some(TokenLogprob { chosen: chance(value)?, top })
    };
    let entries: Vec<TokenLogprob> = entries.as_array()?.iter().filter_map(entry).collect();
    (!entries.is_empty()).then_some(Event::Logprobs(entries))
}
