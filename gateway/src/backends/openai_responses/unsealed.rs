//! Reasoning that is told back without what a server without a memory would need to read it. Nothing is stored there, since
//! what callers get has an id of ours; OpenAI then refuses the whole conversation for such an item, which agents send back
//! each round. Must never touch reasoning that is sealed, or that a server tells in plain text.

use serde_json::{Map, Value};

use crate::api::openai_responses::encode::is_own_reasoning;
use crate::backends::upstream::seal;

/// The input of a body without such items; `None`: there are none.
pub(super) fn without(raw: &Map<String, Value>) -> Option<Value> {
    let items = raw.get("input")?.as_array()?;
    items.iter().any(is_unsealed).then(|| items.iter().filter(|item| !is_unsealed(item)).cloned().collect())
}

fn is_unsealed(item: &Value) -> bool {
    let is_empty = |key: &str| item[key].as_array().is_none_or(Vec::is_empty);
    let is_own = || item["id"].as_str().is_some_and(is_own_reasoning);
    let seal = item["encrypted_content"].as_str().unwrap_or_default();
    let is_bare = || seal.is_empty() && (is_empty("content") || is_own());
    item["type"] == "reasoning" && (seal::is_marked(seal) || is_bare())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::answering::Identity;
    use crate::api::openai_responses::encode::{ItemKind, item_id};
    use serde_json::json;

    #[test]
    fn only_what_nobody_there_can_read_is_left_out() {
        let item = |id: &str, more: Value| {
            let mut item = json!({"type": "reasoning", "id": id, "summary": [{"type": "summary_text", "text": "hm"}]});
            item.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            item
        };
        let told = json!({"content": [{"type": "reasoning_text", "text": "hm"}]});
        let own = item_id(&Identity::fresh("resp_").id, ItemKind::Reasoning, 12);
        let said = json!({"type": "message", "role": "assistant", "content": "a"});
        let input = |items: &[&Value]| json!({"input": items}).as_object().expect("an object").clone();
        let (sealed, plain) = (item("rs_1", json!({"encrypted_content": "s"})), item("rs_0a", told.clone()));
        assert_eq!(without(&input(&[&sealed, &plain, &said])), None);
        let (bare, ours) = (item("rs_1", json!({"encrypted_content": null, "content": []})), item(&own, told));
        let marked = item("rs_1", json!({"encrypted_content": seal::marked("m", "s")}));
        assert_eq!(without(&input(&[&bare, &sealed, &ours, &marked, &said])), Some(json!([sealed, said])));
        assert_eq!(without(json!({"input": "hi"}).as_object().expect("an object")), None);
    }
}
