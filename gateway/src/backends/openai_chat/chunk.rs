//! From an upstream's chunks to events, as a state machine without sockets. An answer is complete only with its finish
//! reason; none is ever made up.

use std::borrow::Cow;

use serde_json::Value;
use weir_protocol::{EngineError, Event, FinishReason, Usage};

use super::calls::Calls;
use super::ending;
use super::logprobs::token_logprobs;
use super::mends::{Mend, Mends, is_own};
use super::text_piece::Alike;
use crate::backends::upstream::answer::{Answer, cut};
use crate::backends::upstream::{Decoder, Shows, refusal, seal};
use crate::plain_json;

/// Where the choices of a piece, and of a whole answer, keep what is said.
const DELTA: &str = "delta";
const WHOLE: &str = "message";

/// Reads one answer.
#[derive(Debug)]
pub(in crate::backends) struct ChunkDecoder {
    window: u64,
    /// The model that is asked.
    asked: String,
    /// Whether the caller speaks this dialect, too.
    passes: bool,
    calls: Calls,
    answer: Answer,
    shows: Shows,
    /// Why the answer ended, where that is told otherwise.
    reason: Option<FinishReason>,
    /// Of the chunks that carry text and nothing else.
    alike: Option<Alike>,
    /// Of the piece taken last, which has it in `part`.
    mends: Mends,
    part: &'static str,
}

impl ChunkDecoder {
    pub(in crate::backends) fn new(asked: &str, window: u64, passes: bool) -> Self {
        let (calls, answer) = (Calls::default(), Answer::new(asked));
        ChunkDecoder {
            window,
            asked: asked.to_owned(),
            passes,
            calls,
            answer,
            shows: Shows::Plain,
            reason: None,
            alike: None,
            mends: Mends::default(),
            part: DELTA,
        }
    }

    /// A chunk, or a whole answer: `part` is where its choices keep what is said.
    fn read(&mut self, chunk: &Value, part: &'static str, events: &mut Vec<Event>) -> Result<(), EngineError> {
        self.part = part;
        self.refuse_error(chunk)?;
        self.start(chunk, events);
        self.count(&chunk["usage"]);
        for choice in own_choices(chunk) {
            if choice["error"].is_object() {
                return Err(refusal::inside(&choice["error"], self.window));
            }
            events.extend(token_logprobs(&choice["logprobs"]["content"]));
            self.message(&choice[part], part == WHOLE, events)?;
            // Of completions, whose choices say it themselves.
            self.answer.text(text_of(&choice["text"]), events);
            // vLLM's name and SGLang's: a number is a token's.
            let met = ["stop_reason", "matched_stop"].into_iter().find_map(|key| choice[key].as_str());
            if let Some(text) = met {
                self.answer.stopped_at(text);
            }
            self.finish_reason(&choice["finish_reason"])?;
        }
        Ok(())
    }

    fn refuse_error(&self, chunk: &Value) -> Result<(), EngineError> {
        match chunk.get("error").filter(|error| !error.is_null()) {
            Some(error) => Err(refusal::inside(error, self.window)),
            None if chunk.is_object() => Ok(()),
            None => Err(cut("a piece of the stream is no object")),
        }
    }

    /// The first chunk that names a model or says something begins the answer.
    fn start(&mut self, chunk: &Value, events: &mut Vec<Event>) {
        let model = chunk["model"].as_str().filter(|model| !model.is_empty());
        if model.is_some() || own_choices(chunk).next().is_some() {
            self.answer.start(model, events);
        }
    }

    fn message(&mut self, message: &Value, is_whole: bool, events: &mut Vec<Event>) -> Result<(), EngineError> {
        // The same thing under two names, depending on the server; never both.
        let reasoning = if message["reasoning_content"].is_null() { "reasoning" } else { "reasoning_content" };
        self.answer.reasoning(&text_of(&message[reasoning]), events);
        self.answer.reasoning(&thinking_of(&message["content"]), events);
        self.answer.text(text_of(&message["content"]), events);
        self.answer.refusal(&text_of(&message["refusal"]), events);
        // Parts are not what clients of this dialect read.
        if message["content"].is_array() || message[reasoning].is_array() {
            self.shows = Shows::Mended;
        }
        let is_shown = |key: &&str| message[*key].as_array().map_or(message[*key].is_object(), |list| !list.is_empty());
        if ["audio", "images"].iter().any(is_shown) {
            self.foreign(events);
        }
        for (place, entry) in message["tool_calls"].as_array().into_iter().flatten().enumerate() {
            // Calls with free text, which only this dialect's callers can have asked for.
            if entry["custom"].is_object() {
                self.foreign(events);
                self.calls.pass_by(entry, is_whole.then_some(place as u64), &mut self.answer)?;
                continue;
            }
            self.seal(&entry["extra_content"]["google"]["thought_signature"], events);
            match self.calls.take(entry, place, is_whole, &mut self.answer, events)? {
                Some(mend) => self.mends.add(mend),
                None => self.shows = Shows::Mended,
            }
        }
        Ok(())
    }

    /// Gemini's, which stands with the first call of a turn. A caller of this dialect has it there.
    fn seal(&self, signature: &Value, events: &mut Vec<Event>) {
        let signature = signature.as_str().filter(|_| !self.passes && self.calls.is_empty());
        events.extend(signature.map(|signature| Event::ReasoningSignature(seal::marked(&self.asked, signature))));
    }

    fn foreign(&mut self, events: &mut Vec<Event>) {
        if self.passes && self.shows != Shows::Mended {
            self.answer.foreign(events);
        }
    }

    fn finish_reason(&mut self, word: &Value) -> Result<(), EngineError> {
        let Some(word) = word.as_str().filter(|word| !word.is_empty()) else { return Ok(()) };
        let reason = self.answer.reason(ending::meaning(word)?);
        // A word of another dialect, or one that the calls before it belie.
        if reason.as_str() != word {
            self.reason = Some(reason);
        }
        Ok(())
    }

    fn count(&mut self, usage: &Value) {
        let (Some(prompt_tokens), Some(completion_tokens)) =
            (usage["prompt_tokens"].as_u64(), usage["completion_tokens"].as_u64())
        else {
            return;
        };
        let detail = |group: &str, key: &str| usage[group][key].as_u64().unwrap_or(0);
        // xAI and Gemini count thinking beside the answer: only their total has it.
        let total = usage["total_tokens"].as_u64().unwrap_or(0);
        let beside = total.saturating_sub(prompt_tokens.saturating_add(completion_tokens));
        // Some servers count in every chunk: the last word holds.
        self.answer.count(Usage {
            prompt_tokens,
            completion_tokens: completion_tokens.saturating_add(beside),
            cached_tokens: detail("prompt_tokens_details", "cached_tokens"),
            reasoning_tokens: detail("completion_tokens_details", "reasoning_tokens").max(beside),
            ..Usage::default()
        });
    }
}

impl Decoder for ChunkDecoder {
    fn take(&mut self, data: &str, events: &mut Vec<Event>) -> Result<(), EngineError> {
        self.mends.clear();
        if self.has_ended() || data.is_empty() {
            return Ok(());
        }
        if data.trim() == "[DONE]" {
            self.shows = if self.shows == Shows::Plain { Shows::Silent } else { self.shows };
            return self.end(events);
        }
        if let Some(text) = self.alike.as_ref().and_then(|alike| alike.text(data)) {
            self.answer.text(text, events);
            return Ok(());
        }
        let chunk = plain_json::parse(data).map_err(|_| cut("a piece of the stream is not JSON"))?;
        self.read(&chunk, DELTA, events)?;
        self.alike = chunk.as_object().and_then(|chunk| Alike::of(data, chunk));
        Ok(())
    }

    fn together(&self, pieces: &[String]) -> Option<(String, usize)> {
        self.alike.as_ref()?.together(pieces)
    }

    fn whole(&mut self, document: &[u8], events: &mut Vec<Event>) -> Result<(), EngineError> {
        let answer = plain_json::parse_bytes(document).map_err(|_| cut("the answer is not JSON"))?;
        self.read(&answer, WHOLE, events)?;
        self.end(events)
    }

    fn shows(&self) -> Shows {
        self.shows
    }

    fn reworded(&self, piece: &str) -> Option<String> {
        let mended = self.mends.of(piece, self.part);
        let ends = self.reason.and_then(|reason| ending::with_reason(mended.as_deref().unwrap_or(piece), reason));
        ends.or(mended)
    }

    fn answer(&self) -> &Answer {
        &self.answer
    }

    fn end(&mut self, events: &mut Vec<Event>) -> Result<(), EngineError> {
        if self.has_reason() {
            self.calls.end()?;
            // One that the limit cut has not come to its arguments.
            let silent = if self.answer.was_cut_short() { Vec::new() } else { self.calls.close(events) };
            if self.part == WHOLE {
                silent.into_iter().for_each(|place| self.mends.add(Mend::without_arguments(place)));
            } else if !silent.is_empty() {
                self.shows = Shows::Mended;
            }
        }
        self.answer.end(events)
    }
}

fn own_choices(chunk: &Value) -> impl Iterator<Item = &Value> {
    chunk["choices"].as_array().into_iter().flatten().filter(|choice| is_own(choice))
}

/// Text as a string or, from a few servers, as parts.
fn text_of(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => Cow::Borrowed(""),
    }
}

/// Thinking told as parts of the content (Mistral's).
fn thinking_of(content: &Value) -> String {
    content.as_array().into_iter().flatten().map(|part| text_of(&part["thinking"])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backends::upstream::tests::script::{check, check_promise, check_whole};
    use proptest::prelude::*;

    fn decoder() -> ChunkDecoder {
        ChunkDecoder::new("asked", 9, true)
    }

    const A: &str = r#"{"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"a"}}]}"#;
    const STOP: &str = r#"{"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
    const USAGE: &str = r#"{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":4}}}"#;

    #[test]
    fn log_probabilities_are_passed_on() {
        let told = r#"{"model":"m","choices":[{"index":0,"delta":{"content":"a"},"logprobs":{"content":[
            {"token":"a","logprob":-0.25,"bytes":[97],"top_logprobs":[{"token":"b","logprob":-2,"bytes":null}, 7]}, {}]}}]}"#;
        check(decoder(), &[told, STOP, "[DONE]"], "<m>`a=-0.25/1`a!stop");
    }

    #[test]
    fn a_good_stream_ends_once() {
        check(decoder(), &[A, STOP, USAGE, "[DONE]", A], "<m>a#5+2/4!stop");
        check(decoder(), &[A, STOP], "<m>a!stop");
        check(decoder(), &[r#"{"choices":[{"delta":{"reasoning_content":"r"}}]}"#, STOP], "<asked>(r)!stop");
        check(decoder(), &[r#"{"model":"","choices":[]}"#, A, STOP], "<m>a!stop");
    }

    #[test]
    fn an_end_is_never_made_up() {
        check(decoder(), &[A], "<m>a ERR stream_cut");
        check(decoder(), &[A, "[DONE]"], "<m>a ERR stream_cut");
        check(decoder(), &[A, "{\"cho"], "<m>a ERR stream_cut");
        check(decoder(), &[A, "7"], "<m>a ERR stream_cut");
        check(decoder(), &[A, r#"{"choices":[{"delta":{},"finish_reason":"abort"}]}"#], "<m>a ERR stream_cut");
        check(decoder(), &[A, r#"{"error":{"message":"x"}}"#, STOP], "<m>a ERR upstream");
        check(decoder(), &[r#"{"error":{"code":429}}"#], " ERR rate_limited");
    }

    #[test]
    fn calls_end_as_calls() {
        let call = r#"{"choices":[{"delta":{"content":null,"tool_calls":[{"index":0,"id":"x","function":{"name":"f","arguments":"{}"}}]}}]}"#;
        check(decoder(), &[call, STOP, "[DONE]"], "<asked>[0 f{0 {}}!tool_calls");
        // A reader of JSON with a key of its own would take this for JSON inside a string.
        let odd = r#"{"$serde_json::private::RawValue":"[1]"}"#;
        let object = call.replace("\"{}\"", odd);
        check(decoder(), &[&object, STOP, "[DONE]"], &format!("<asked>[0 f{{0 {odd}}}!tool_calls"));
        let met = STOP.replace("\"finish_reason\"", "\"stop_reason\":\"END\",\"finish_reason\"");
        check(decoder(), &[A, &met, "[DONE]"], "<m>a@END!stop");
        // No arguments are none, unless the limit came before them.
        let bare = call.replace(",\"arguments\":\"{}\"", "");
        check(decoder(), &[&bare, STOP, "[DONE]"], "<asked>[0 f{0 {}}!tool_calls");
        check(decoder(), &[&bare, &STOP.replace("stop", "length")], "<asked>[0 f!length");
        // Nor does one without a call end as one.
        let told = STOP.replace("stop", "tool_calls");
        check(decoder(), &[A, &told, "[DONE]"], "<m>a!stop");
        check(decoder(), &[&told, call, "[DONE]"], "<m>[0 f{0 {}}!tool_calls");
    }

    #[test]
    fn a_calls_signature_is_told_to_those_who_do_not_see_it() {
        let call = |at: u32| {
            format!(
                r#"{{"choices":[{{"delta":{{"tool_calls":[{{"index":{at},"id":"x{at}","extra_content":{{"google":{{"thought_signature":"s"}}}},"function":{{"name":"f","arguments":"{{}}"}}}}]}}}}]}}"#
            )
        };
        let pieces = [&call(0), &call(1), STOP];
        let other = ChunkDecoder::new("asked", 9, false);
        check(other, &pieces, "<asked>~weir:asked:s[0 f{0 {}}[1 f{1 {}}!tool_calls");
        check(decoder(), &pieces, "<asked>[0 f{0 {}}[1 f{1 {}}!tool_calls");
    }

    #[test]
    fn what_only_this_dialect_has_a_word_for_is_content_to_those_who_speak_it() {
        let image = r#"{"model":"m","choices":[{"delta":{"content":"","images":[{"image_url":{"url":"u"}}]}}]}"#;
        let custom = r#"{"model":"m","choices":[{"delta":{"tool_calls":[{"index":0,"id":"c","type":"custom","custom":{"name":"f","input":"x"}}]}}]}"#;
        let end = STOP.replace("stop", "tool_calls");
        check(decoder(), &[image, custom, &end, "[DONE]"], "<m>**!tool_calls");
        check(ChunkDecoder::new("asked", 9, false), &[image, STOP, "[DONE]"], "<m>!stop");
        let call =
            r#"{"choices":[{"delta":{"tool_calls":[{"index":1,"id":"d","function":{"name":"g","arguments":"{}"}}]}}]}"#;
        let mut both = decoder();
        let taken = [custom, custom, call, &end].iter().try_for_each(|piece| both.take(piece, &mut Vec::new()));
        assert_eq!((taken, both.shows()), (Ok(()), Shows::Plain));
        let audio = r#"{"model":"m","choices":[{"message":{"content":null,"audio":{"id":"a","data":"AA"}},"finish_reason":"stop"}]}"#;
        check_whole(decoder(), audio, "<m>*!stop");
    }

    #[test]
    fn servers_have_words_of_their_own() {
        let end = |word: &str| STOP.replace("\"stop\"", &format!("\"{word}\""));
        check(decoder(), &[A, &end("model_length")], "<m>a!length");
        check(decoder(), &[A, &end("content_filter: RECITATION")], "<m>a!content_filter");
        check(decoder(), &[A, &end("STOP")], "<m>a!stop");
        let thinks = r#"{"model":"m","choices":[{"delta":{"content":[{"type":"thinking","thinking":[{"type":"text","text":"hm"}]},{"type":"text","text":"a"}]}}]}"#;
        check(decoder(), &[thinks, STOP], "<m>(hm)a!stop");
        let broke =
            r#"{"choices":[{"delta":{"content":""},"finish_reason":"error","error":{"code":429,"message":"x"}}]}"#;
        check(decoder(), &[A, broke], "<m>a ERR rate_limited");
        // Thinking that is counted in the total only.
        let counts = r#"{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":17}}"#;
        check(decoder(), &[A, STOP, counts, "[DONE]"], "<m>a#5+12/0!stop");
    }

    #[test]
    fn other_choices_are_not_mixed_in() {
        check(decoder(), &[A, r#"{"choices":[{"index":1,"delta":{"content":"b"}}]}"#, STOP], "<m>a!stop");
    }

    #[test]
    fn a_whole_document_is_taken_too() {
        let body = r#"{"model":"m","choices":[{"message":{"content":[{"type":"text","text":"a"}]},"finish_reason":"length"}],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#;
        check_whole(decoder(), body, "<m>a#1+2/0!length");
        let call =
            |id: &str| format!(r#"{{"id":"{id}","type":"function","function":{{"name":"f","arguments":"{{}}"}}}}"#);
        let calls = |ids: [&str; 2]| {
            let [one, other] = ids.map(call);
            format!(
                r#"{{"model":"m","choices":[{{"message":{{"tool_calls":[{one},{other}]}},"finish_reason":"tool_calls"}}]}}"#
            )
        };
        for ids in [["a", "b"], ["a", "a"]] {
            check_whole(decoder(), &calls(ids), "<m>[0 f{0 {}}[1 f{1 {}}!tool_calls");
        }
        check_whole(decoder(), r#"{"error":{"code":503}}"#, " ERR upstream");
        check_whole(decoder(), "{}", " ERR stream_cut");
    }

    proptest! {
        #[test]
        fn any_order_of_chunks_keeps_the_promise(chunks in prop::collection::vec(
            prop::sample::select(vec![A, STOP, USAGE, "[DONE]", "", "{}", "null", r#"{"choices":[{"delta":{"tool_calls":[{}]}}]}"#]), 0..8,
        )) {
            check_promise(decoder(), &chunks);
        }
    }
}
