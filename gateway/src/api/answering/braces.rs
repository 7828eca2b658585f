//! When the arguments of a tool call are complete: a backend may begin a call before the one before it is, and some
//! dialects show one call after another.

/// Follows the arguments of a call while they come.
#[derive(Debug, Default)]
pub(crate) struct Braces {
    depth: usize,
    in_text: bool,
    escaped: bool,
    complete: bool,
}

impl Braces {
    /// More of the JSON text.
    pub(crate) fn push(&mut self, text: &str) {
        for byte in text.bytes() {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_text => self.escaped = true,
                b'"' => self.in_text = !self.in_text,
                _ if self.in_text => {}
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    self.complete |= self.depth == 0;
                }
                _ => {}
            }
        }
    }

    /// Whether an object was opened and not closed yet.
    pub(crate) fn is_open(&self) -> bool {
        self.depth > 0 && !self.complete
    }

    /// Whether an object was opened and closed again.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_complete_at_its_last_brace_and_not_before() {
        let text = r#" {"a":{"b":"}\"}"},"c":[1,{}]} "#;
        let mut braces = Braces::default();
        let last = text.rfind('}').expect("a brace");
        for (at, c) in text.char_indices() {
            braces.push(&c.to_string());
            assert_eq!((braces.is_complete(), braces.is_open()), (at >= last, at > 0 && at < last), "{at}");
        }
    }
}
