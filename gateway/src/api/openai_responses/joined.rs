//! A whole answer from the events of an upstream's stream: the last one holds it. Must never be used for an answer that is
//! not complete.

use serde_json::Value;

use crate::api::reading;

/// The answer; `None`: the events make none.
pub(super) fn joined(pieces: &[String]) -> Option<Value> {
    let mut last = reading::parse(pieces.last()?.as_bytes()).ok()?;
    let ends = matches!(last.get("type")?.as_str()?, "response.completed" | "response.incomplete");
    let mut response = last.remove("response").filter(|response| ends && response.is_object())?;
    // Some servers tell the items only once.
    if response["output"].as_array().is_none_or(Vec::is_empty) {
        let events = pieces.iter().filter_map(|piece| reading::parse(piece.as_bytes()).ok());
        let done = events.filter(|event| event.get("type").is_some_and(|kind| kind == "response.output_item.done"));
        response["output"] = done.filter_map(|mut event| event.remove("item")).collect();
    }
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_last_event_holds_the_answer() {
        let item = json!({"type": "response.output_item.done", "item": {"id": "i"}}).to_string();
        let end =
            |output: Value| json!({"type": "response.completed", "response": {"id": "r", "x": 1, "output": output}});
        let told = [item.clone(), end(json!([{"id": "j"}])).to_string()];
        assert_eq!(joined(&told), Some(json!({"id": "r", "x": 1, "output": [{"id": "j"}]})));
        let told = [item.clone(), end(json!([])).to_string()];
        assert_eq!(joined(&told), Some(json!({"id": "r", "x": 1, "output": [{"id": "i"}]})));
        assert_eq!(joined(&[item]), None);
        assert_eq!(joined(&[]), None);
    }
}
