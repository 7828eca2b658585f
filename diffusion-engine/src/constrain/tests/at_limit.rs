//! Where the token limit cuts an answer whose form could have ended at any time.

use super::*;

/// A model that says one token for ever.
struct Forever(u32);

impl Choose for Forever {
    fn choose(&mut self, _at: usize, _allowed: &SimpleVob) -> Result<(u32, f32), EngineError> {
        Ok((self.0, 1.0))
    }
}

#[test]
fn text_that_is_cut_has_not_ended() {
    let bench = Bench::new();
    let letter = (0..256).find(|token| bench.tokenizer.decode(&[*token]) == "x").expect("a letter");
    for limit in [1, 4, 20, 60] {
        let (mut constraint, mut answer) = (bench.constraint(&with_tools(ToolChoice::Auto)), Vec::new());
        while answer.len() < limit && !constraint.has_ended() {
            let more = constraint.extend(limit - answer.len(), Some(&mut Forever(letter))).expect("follows");
            answer.extend(more);
        }
        assert_eq!((bench.tokenizer.decode(&answer), constraint.has_ended()), ("x".repeat(limit), false));
    }
}

#[test]
fn an_end_out_of_reach_is_not_looked_for_at_each_token() {
    let bench = Bench::new();
    let far = json!({"type": "array", "items": {"type": "integer"}, "minItems": 3000});
    let (mut constraint, mut answer, mut whims) = (bench.schema(&far), Vec::new(), Whims(1, false));
    while answer.len() < 1100 {
        whims.0 += 1000;
        answer.extend(constraint.extend(1100 - answer.len(), Some(&mut whims)).expect("follows"));
    }
    let steps = super::super::closing::STEPS.get();
    assert!(!constraint.has_ended() && steps < 150_000, "{steps} steps");
}

/// A model that says these tokens; the first of them stands where the canvas begins.
struct Says<'a>(&'a [u32]);

impl Choose for Says<'_> {
    fn choose(&mut self, at: usize, _allowed: &SimpleVob) -> Result<(u32, f32), EngineError> {
        Ok((self.0[at], 1.0))
    }
}

/// The answer of at most `limit` tokens by a model that says `text`; whether it ended; whether it was cut.
fn said(bench: &Bench, request: &ChatRequest, text: &str, limit: usize) -> (String, bool, bool) {
    let (mut constraint, mut answer) = (bench.constraint(request), Vec::new());
    let mut tokens = bench.vocabulary.tokens(text.as_bytes());
    tokens.extend(&bench.tokenizer.ends);
    while answer.len() < limit && !constraint.has_ended() {
        let mut says = Says(&tokens[answer.len()..]);
        answer.extend(constraint.extend(limit - answer.len(), Some(&mut says)).expect("follows"));
    }
    answer.retain(|token| !bench.tokenizer.ends.contains(token));
    (bench.tokenizer.decode(&answer), constraint.has_ended(), constraint.was_cut())
}

#[test]
fn a_call_is_the_models_own_or_cut() {
    let bench = Bench::new();
    let call = "<tool_call>\n{\"name\": \"say\", \"arguments\": {\"text\": \"hello all\"}}\n</tool_call>";
    let (auto, required) = (with_tools(ToolChoice::Auto), with_tools(ToolChoice::Function("say".into())));
    let words = format!("Well. {call}");
    let (text, ended, cut) = said(&bench, &auto, &words, 30);
    assert!(text.starts_with("Well. ") && !text.contains("name") && ended && cut, "left out: {text}");
    let length = bench.vocabulary.tokens(call.as_bytes()).len();
    for (request, is_demanded) in [(&auto, false), (&required, true)] {
        let mut closed = 0;
        for limit in 1..length {
            let (text, ended, cut) = said(&bench, request, call, limit);
            // As soon as it cannot fit any more it is left out, or closed where it is demanded; or cut where the limit is.
            closed += usize::from(cut && is_demanded);
            let is_right = match (cut, is_demanded) {
                (true, false) => text.is_empty() && ended,
                (true, true) => text.ends_with("</tool_call>"),
                (false, _) => call.starts_with(&text) && !ended,
            };
            assert!(is_right && text != call, "at {limit}: {text}");
        }
        assert_eq!(closed > 0, is_demanded, "{closed}");
        assert_eq!(said(&bench, request, call, length), (call.to_owned(), false, false), "it just fits");
        assert_eq!(said(&bench, request, call, length + 1), (call.to_owned(), true, false), "and its end, too");
    }
    let document = |limit| {
        let request = ChatRequest { response_format: ResponseFormat::JsonObject, ..Default::default() };
        said(&bench, &request, "{\"text\": \"a long story that goes on and on and on\"}", limit)
    };
    let (text, ended, cut) = document(30);
    assert!(text.ends_with("\"}") && ended && cut, "its story is not told: {text}");
    let (text, ended, cut) = document(200);
    assert!(text.ends_with("and on and on\"}") && ended && !cut, "told to its end: {text}");
}
