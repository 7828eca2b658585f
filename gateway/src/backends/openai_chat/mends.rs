//! What a piece says otherwise than it was written, where the caller speaks its dialect: what is missing in an entry of
//! `tool_calls`, and what is said again. Must never touch a field that is as it should be, nor another choice.

use serde_json::{Map, Value};

use crate::api::reading;

/// Of one piece, or of a document.
#[derive(Debug, Default)]
pub(super) struct Mends(Vec<Mend>);

/// What an entry of `tool_calls` says otherwise; what is `None` or `false` stays.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Mend {
    pub(super) index: Option<u32>,
    pub(super) id: Option<String>,
    pub(super) arguments: Option<String>,
    /// Clients put texts together that come again.
    pub(super) no_id: bool,
    pub(super) no_name: bool,
    /// Of the entry, among all of the piece.
    pub(super) place: usize,
}

impl Mends {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn add(&mut self, mend: Mend) {
        if mend != (Mend { place: mend.place, ..Mend::default() }) {
            self.0.push(mend);
        }
    }

    /// The piece, whose choices keep what is said in `part`; `None`: it is as it should be.
    pub(super) fn of(&self, written: &str, part: &str) -> Option<String> {
        if self.0.is_empty() {
            return None;
        }
        let mut piece = reading::parse(written.as_bytes()).ok()?;
        for choice in piece.get_mut("choices")?.as_array_mut()?.iter_mut().filter(|choice| is_own(choice)) {
            let Some(entries) = choice[part]["tool_calls"].as_array_mut() else { continue };
            for mend in &self.0 {
                if let Some(entry) = entries.get_mut(mend.place).and_then(Value::as_object_mut) {
                    mend.put(entry);
                }
            }
        }
        Some(Value::Object(piece).to_string())
    }
}

/// Whether it is the choice with index 0: one is asked for.
pub(super) fn is_own(choice: &Value) -> bool {
    choice["index"].as_u64().unwrap_or(0) == 0
}

impl Mend {
    /// Of a whole answer's call: clients read them as JSON.
    pub(super) fn without_arguments(index: u32) -> Self {
        Mend { place: index as usize, arguments: Some(super::calls::NONE.into()), ..Mend::default() }
    }

    fn put(&self, entry: &mut Map<String, Value>) {
        if let Some(index) = self.index {
            entry.insert("index".into(), index.into());
        }
        if let Some(id) = &self.id {
            entry.insert("id".into(), id.as_str().into());
        }
        if self.no_id {
            entry.shift_remove("id");
        }
        let Some(Value::Object(function)) = entry.get_mut("function") else { return };
        if let Some(arguments) = &self.arguments {
            function.insert("arguments".into(), arguments.as_str().into());
        }
        if self.no_name {
            function.shift_remove("name");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::chunk::ChunkDecoder;
    use super::*;
    use crate::backends::upstream::{Decoder, Shows};
    use serde_json::json;

    fn piece(entries: Value) -> Value {
        json!({"x_up": 1, "choices": [{"index": 0, "delta": {"x_up": 2, "tool_calls": entries}}]})
    }

    /// The entries of pieces, as callers of the same dialect get them.
    fn told(pieces: &[Value]) -> Vec<Value> {
        let mut decoder = ChunkDecoder::new("m", 9, true);
        let mut told = |entries: &Value| {
            let written = piece(entries.clone()).to_string();
            decoder.take(&written, &mut Vec::new()).expect("readable");
            assert_eq!(decoder.shows(), Shows::Plain);
            let told: Value = serde_json::from_str(&decoder.reworded(&written).unwrap_or(written)).expect("JSON");
            let entries = told["choices"][0]["delta"]["tool_calls"].clone();
            assert_eq!(told, piece(entries.clone()), "all else stays");
            entries
        };
        pieces.iter().map(&mut told).collect()
    }

    #[test]
    fn what_is_said_in_every_piece_is_told_once() {
        let entry = |index: u32, id: &str, name: &str, arguments: &str| json!({"index": index, "id": id, "type": "function", "x_up": 3, "function": {"name": name, "arguments": arguments, "x_up": 4}});
        let more = |index: u32, arguments: &str| json!({"index": index, "type": "function", "x_up": 3, "function": {"arguments": arguments, "x_up": 4}});
        let said = [
            json!([entry(0, "a", "f", "{"), entry(1, "b", "f", "[")]),
            json!([entry(1, "b", "f", "]"), entry(0, "a", "f", "}")]),
        ];
        assert_eq!(told(&said), [said[0].clone(), json!([more(1, "]"), more(0, "}")])]);
        // A name that comes in parts is left as it is.
        let parts = [json!([entry(0, "a", "get_", "")]), json!([{"index": 0, "function": {"name": "it"}}])];
        assert_eq!(told(&parts), parts);
    }

    #[test]
    fn what_is_missing_is_filled_in() {
        let call = |id: &str| json!({"id": id, "x_up": 3, "function": {"name": "f", "arguments": {"a": 1}}});
        let said = [json!([call("a")]), json!([call("a")]), json!([{"id": "a", "function": {"arguments": "}"}}])];
        let told = told(&said);
        let meant = |index: u32, id: &Value| json!([{"index": index, "id": id, "x_up": 3, "function": {"name": "f", "arguments": "{\"a\":1}"}}]);
        assert_eq!(told[0], meant(0, &json!("a")));
        // It has the first one's id and name: nothing shows that it is another.
        assert_eq!(told[1], json!([{"index": 0, "x_up": 3, "function": {"arguments": "{\"a\":1}"}}]));
        assert_eq!(told[2], json!([{"index": 0, "function": {"arguments": "}"}}]));
        let none = ["", "b"].map(|id| json!([{"id": id, "function": {"name": "f", "arguments": "{}"}}]));
        let told = super::tests::told(&none);
        assert!(told[0][0]["id"].as_str().is_some_and(|id| !id.is_empty()), "{told:?}");
        assert_eq!(told[1], json!([{"index": 1, "id": "b", "function": {"name": "f", "arguments": "{}"}}]));
    }

    #[test]
    fn a_document_keeps_its_fields_and_its_other_choices() {
        let call = |id: &str, arguments: Value| json!({"id": id, "type": "function", "x_up": 3, "function": {"name": "f", "arguments": arguments}});
        let document = |first: Value, calls: Value| {
            json!({"x_up": 1, "choices": [
            {"index": 0, "x_up": 2, "message": {"content": null, "x_up": 4, "tool_calls": calls}, "finish_reason": "tool_calls"},
            {"index": 1, "message": {"content": null, "tool_calls": [first]}, "finish_reason": "tool_calls"}]})
        };
        let mut unnamed = call("", json!("{}"));
        unnamed.as_object_mut().expect("an object").remove("id");
        let said = json!([unnamed, call("b", json!({"a": 1})), call("b", json!(""))]);
        let written = document(unnamed.clone(), said).to_string();
        let mut decoder = ChunkDecoder::new("m", 9, true);
        decoder.whole(written.as_bytes(), &mut Vec::new()).expect("readable");
        assert_eq!(decoder.shows(), Shows::Plain);
        let told: Value = serde_json::from_str(&decoder.reworded(&written).expect("mended")).expect("JSON");
        let ids = [0, 2].map(|at| told["choices"][0]["message"]["tool_calls"][at]["id"].as_str().unwrap_or_default());
        assert!(!ids[0].is_empty() && !ids[1].is_empty() && ids[1] != "b");
        let [first, last] = ids.map(|id| call(id, json!("{}")));
        assert_eq!(told, document(unnamed, json!([first, call("b", json!("{\"a\":1}")), last])));
    }
}
