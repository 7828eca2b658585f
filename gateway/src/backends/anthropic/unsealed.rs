//! Thinking that another kind of backend did, in a conversation that goes on here: its signature is ours and worth nothing
//! there, where it would have the whole conversation refused. Must never touch thinking that a backend of this kind signed.

use serde_json::{Map, Value};

use crate::api::anthropic_messages::encode::UNSEALED;
use crate::backends::upstream::seal;

/// The messages of a body without such thinking; `None`: there is none.
pub(super) fn without(raw: &Map<String, Value>) -> Option<Value> {
    let messages = raw.get("messages")?.as_array()?;
    if !messages.iter().flat_map(blocks).any(is_unsealed) {
        return None;
    }
    let sealed = messages.iter().filter_map(|message| {
        if !blocks(message).any(is_unsealed) {
            return Some(message.clone());
        }
        let left: Vec<Value> = blocks(message).filter(|block| !is_unsealed(block)).cloned().collect();
        let mut message = message.clone();
        // An empty turn is refused there.
        (!left.is_empty()).then(|| {
            message["content"] = left.into();
            message
        })
    });
    Some(sealed.collect())
}

fn blocks(message: &Value) -> impl Iterator<Item = &Value> {
    message["content"].as_array().into_iter().flatten()
}

fn is_unsealed(block: &Value) -> bool {
    let is_foreign = |seal: &str| seal == UNSEALED || seal::is_marked(seal);
    block["type"] == "thinking" && block["signature"].as_str().is_some_and(is_foreign)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn left(messages: Value) -> Option<Value> {
        without(json!({"messages": messages}).as_object().expect("an object"))
    }

    #[test]
    fn only_what_nobody_signed_is_left_out() {
        let thought = |signature: &str| json!({"type": "thinking", "thinking": "hm", "signature": signature});
        let said = json!({"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}});
        let turn = |content: Value| json!({"role": "assistant", "content": content, "x": 1});
        let user = json!({"role": "user", "content": "hi"});
        assert_eq!(left(json!([user, turn(json!([thought("theirs"), said])), turn(json!([thought("")]))])), None);
        let messages = json!([
            user,
            turn(json!([thought(UNSEALED), said])),
            turn(json!([thought(&seal::marked("m", "s"))])),
            user
        ]);
        assert_eq!(left(messages), Some(json!([user, turn(json!([said])), user])));
    }
}
