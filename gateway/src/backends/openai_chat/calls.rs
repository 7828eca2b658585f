//! Tool calls as upstreams stream them: mostly by the book, but some leave the index out, use one index for all calls,
//! or send the name after the arguments begin. Must never drop or mix arguments, nor call such an entry plain.

use serde_json::Value;
use weir_protocol::{EngineError, Event};

use super::mends::Mend;
use crate::backends::upstream::answer::{Answer, CALLS_MAX, too_many_calls};

/// What no arguments are written as.
pub(super) const NONE: &str = "{}";

/// The calls of one answer.
#[derive(Debug, Default)]
pub(super) struct Calls {
    calls: Vec<Call>,
    /// The upstream's indices of calls with free text.
    custom: Vec<u64>,
}

#[derive(Debug, Default)]
struct Call {
    /// The upstream's index.
    index: Option<u64>,
    /// The upstream's; ours, where it gave none.
    id: String,
    /// Whether it is told by another id than the upstream's.
    is_ours: bool,
    name: String,
    /// Its place among the answer's calls, once it has its name.
    begun: Option<u32>,
    /// Arguments that came before the name.
    held: String,
    /// Whether arguments were told.
    spoken: bool,
}

impl Calls {
    /// Whether there was none yet.
    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// An entry of a call with free text: one of the answer's calls, though nothing else is known of it here.
    pub(super) fn pass_by(
        &mut self,
        entry: &Value,
        place: Option<u64>,
        answer: &mut Answer,
    ) -> Result<(), EngineError> {
        let given = entry["index"].as_u64().or(place).unwrap_or_default();
        if !self.custom.contains(&given) {
            self.custom.push(given);
            answer.pass_by_call()?;
        }
        Ok(())
    }

    /// The entry of `tool_calls` at `place`, which in deltas is numbered and in a document is a call by itself. What of it is
    /// to be told otherwise than it is written; `None`: it cannot be told by itself.
    pub(super) fn take(
        &mut self,
        entry: &Value,
        place: usize,
        is_whole: bool,
        answer: &mut Answer,
        events: &mut Vec<Event>,
    ) -> Result<Option<Mend>, EngineError> {
        let id = entry["id"].as_str().unwrap_or_default();
        let name = entry["function"]["name"].as_str().unwrap_or_default();
        let given = if is_whole { Some(place as u64) } else { entry["index"].as_u64() };
        let at = self.position(given, id, name)?;
        let call = &mut self.calls[at];
        let mut mend = Mend { place, ..Mend::default() };
        match &entry["function"]["arguments"] {
            Value::String(piece) => call.held.push_str(piece),
            // Some servers send the object itself.
            object @ Value::Object(_) => {
                let object = object.to_string();
                call.held.push_str(&object);
                mend.arguments = Some(object);
            }
            _ => {}
        }
        if call.begun.is_some() {
            mend.no_id = !id.is_empty() && (call.is_ours || id == call.id);
            mend.no_name = !name.is_empty() && name == call.name;
        } else if !name.is_empty() {
            let (index, ours) = answer.call(&call.id, name, events)?;
            if let Some(ours) = ours.as_ref().filter(|_| call.id.is_empty()) {
                call.id.clone_from(ours);
            }
            call.is_ours = ours.is_some();
            call.name = name.to_owned();
            call.begun = Some(index);
            mend.id = ours;
        }
        let Some(index) = call.begun else { return Ok(None) };
        mend.index = Some(index).filter(|index| !is_whole && Some(u64::from(*index)) != given);
        if !call.held.is_empty() {
            call.spoken = true;
            events.push(Event::ToolCallDelta { index, arguments: std::mem::take(&mut call.held) });
        }
        Ok(Some(mend))
    }

    /// The answer is complete: so must its calls be.
    pub(super) fn end(&self) -> Result<(), EngineError> {
        match self.calls.iter().all(|call| call.begun.is_some()) {
            true => Ok(()),
            false => Err(EngineError::StreamCut { message: "a tool call came without its name".into() }),
        }
    }

    /// No arguments are written `{}`: clients read them as JSON. The calls without any.
    pub(super) fn close(&mut self, events: &mut Vec<Event>) -> Vec<u32> {
        let silent = self.calls.iter_mut().filter(|call| !call.spoken);
        let silent: Vec<u32> = silent
            .filter_map(|call| {
                call.spoken = true;
                call.begun
            })
            .collect();
        events.extend(silent.iter().map(|&index| Event::ToolCallDelta { index, arguments: NONE.into() }));
        silent
    }

    /// Which call a piece belongs to; a new one is added.
    fn position(&mut self, index: Option<u64>, id: &str, name: &str) -> Result<usize, EngineError> {
        let known = match index {
            Some(_) => self.calls.iter().rposition(|call| call.index == index),
            None => self.calls.len().checked_sub(1),
        };
        if let Some(at) = known {
            let call = &mut self.calls[at];
            // Another id with a name of its own begins another call, whatever its index says.
            let another = !id.is_empty() && !call.id.is_empty() && id != call.id && !name.is_empty();
            let unnamed = index.is_none() && id.is_empty() && !name.is_empty() && call.begun.is_some();
            if !(another || unnamed) {
                if call.id.is_empty() && call.begun.is_none() {
                    call.id = id.to_owned();
                }
                return Ok(at);
            }
        }
        // Those without a name have no place in the answer yet.
        if self.calls.len() >= CALLS_MAX as usize {
            return Err(too_many_calls());
        }
        self.calls.push(Call { index, id: id.to_owned(), ..Call::default() });
        Ok(self.calls.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// `index:name(` when a call begins, `index+piece` for arguments.
    #[track_caller]
    fn check(entries: &[Value], expect: &str) {
        let (mut calls, mut answer, mut events) = (Calls::default(), Answer::new("m"), Vec::new());
        for entry in entries {
            calls.take(entry, 0, false, &mut answer, &mut events).expect("room");
        }
        let shown: Vec<String> = events
            .iter()
            .filter(|event| !matches!(event, Event::Started { .. }))
            .map(|event| match event {
                Event::ToolCallStarted { index, id, name } => {
                    assert!(!id.is_empty());
                    format!("{index}:{name}(")
                }
                Event::ToolCallDelta { index, arguments } => format!("{index}+{arguments}"),
                other => format!("{other:?}"),
            })
            .collect();
        assert_eq!(shown.join(" "), expect);
        assert_eq!(calls.end(), Ok(()));
    }

    fn entry(index: impl Into<Value>, id: &str, name: &str, arguments: &str) -> Value {
        json!({"index": index.into(), "id": id, "function": {"name": name, "arguments": arguments}})
    }

    #[test]
    fn parallel_calls_interleave() {
        check(
            &[
                entry(0, "a", "f", ""),
                entry(1, "b", "g", ""),
                json!({"index": 0, "function": {"arguments": "{"}}),
                json!({"index": 1, "function": {"arguments": "[]"}}),
                json!({"index": 0, "function": {"arguments": "}"}}),
            ],
            "0:f( 1:g( 0+{ 1+[] 0+}",
        );
    }

    #[test]
    fn indices_may_begin_anywhere_be_missing_or_repeat() {
        check(&[entry(3, "a", "f", "{}"), entry(7, "b", "g", "{}")], "0:f( 0+{} 1:g( 1+{}");
        let none = Value::Null;
        check(&[entry(none.clone(), "a", "f", "{}"), entry(none.clone(), "b", "g", "{}")], "0:f( 0+{} 1:g( 1+{}");
        check(&[entry(none.clone(), "", "f", "{}"), entry(none, "", "g", "{}")], "0:f( 0+{} 1:g( 1+{}");
        check(&[entry(0, "a", "f", "{}"), entry(0, "b", "g", "{}")], "0:f( 0+{} 1:g( 1+{}");
        check(&[entry(0, "a", "f", "{"), entry(0, "a", "f", "}")], "0:f( 0+{ 0+}");
    }

    #[test]
    fn calls_are_told_apart_by_their_ids() {
        let (mut calls, mut answer, mut events) = (Calls::default(), Answer::new("m"), Vec::new());
        let mut has_own_id = |entry: &Value, place: Option<usize>| {
            let mend = calls.take(entry, place.unwrap_or(0), place.is_some(), &mut answer, &mut events);
            mend.expect("room").expect("told").id.is_none()
        };
        let (first, second) = (entry(0, "a", "f", "{}"), entry(1, "a", "f", "[]"));
        assert!(has_own_id(&first, None) && !has_own_id(&second, None));
        let unnumbered = |id| entry(Value::Null, id, "f", "{}");
        assert!(has_own_id(&unnumbered("b"), Some(2)) && !has_own_id(&unnumbered("b"), Some(3)));
        let ids: std::collections::HashSet<&str> = events
            .iter()
            .filter_map(|event| match event {
                Event::ToolCallStarted { id, .. } => Some(id.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(ids.len(), 4);
    }

    #[test]
    fn a_late_name_keeps_the_arguments() {
        check(&[entry(0, "a", "", "{"), entry(0, "", "f", "}")], "0:f( 0+{}");
        check(&[json!({"index": 0, "function": {"name": "f", "arguments": {"a": 1}}})], "0:f( 0+{\"a\":1}");
    }

    #[test]
    fn a_call_that_never_got_its_name_is_no_answer() {
        let (mut calls, mut events) = (Calls::default(), Vec::new());
        let mut answer = Answer::new("m");
        assert_eq!(calls.take(&entry(0, "a", "", "{}"), 0, false, &mut answer, &mut events), Ok(None));
        assert!(events.is_empty() && calls.end().is_err());
    }

    #[test]
    fn nobody_looks_among_more_calls_than_a_model_makes() {
        let count = u64::from(CALLS_MAX);
        for name in ["f", ""] {
            let (mut calls, mut answer) = (Calls::default(), Answer::new("m"));
            let mut take = |at: u64| calls.take(&entry(at, "", name, "{}"), 0, false, &mut answer, &mut Vec::new());
            assert!((0..count).all(|at| take(at).is_ok()) && take(0).is_ok(), "more of the same is no other");
            assert_eq!(take(count), Err(too_many_calls()), "{name}");
        }
        let (mut calls, mut answer) = (Calls::default(), Answer::new("m"));
        let mut pass_by = |at: u64| calls.pass_by(&json!({ "index": at }), None, &mut answer);
        assert!((0..count).all(|at| pass_by(at).is_ok()));
        assert_eq!(pass_by(count), Err(too_many_calls()));
    }
}
