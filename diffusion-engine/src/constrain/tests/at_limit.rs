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
