//! Requests of the shape and size OpenClaw sends (a "hi" is 53 KB): a long system prompt with its two markers, twelve
//! tools, the person's text in its wrapping, and an internal-context message last. Shape and sizes were measured; every
//! word is made here from a seed, none is copied.

use serde_json::{Value, json};

/// Characters of the stable and of the changing part of the system prompt.
const STABLE_CHARS: usize = 36_600;
const DYNAMIC_CHARS: usize = 5_300;
const TOOLS: [&str; 12] = [
    "read_note",
    "write_note",
    "list_files",
    "run_job",
    "watch_job",
    "search_pages",
    "open_page",
    "send_message",
    "plan_timer",
    "recall",
    "ask_agent",
    "take_picture",
];
const WORDS: [&str; 32] = [
    "agent", "answer", "careful", "channel", "check", "context", "deliver", "every", "file", "follow", "never", "note",
    "order", "owner", "person", "plain", "prefer", "quiet", "reply", "result", "rule", "session", "short", "state",
    "step", "task", "tool", "turn", "until", "wait", "when", "write",
];

/// A made-up but repeatable source of words.
struct Words(u64);

impl Words {
    fn number(&mut self, below: usize) -> usize {
        // Xorshift: only variety matters.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % (below as u64)).unwrap_or(0)
    }

    fn sentence(&mut self) -> String {
        let mut words: Vec<&str> = (0..6 + self.number(9)).map(|_| "").collect();
        for word in &mut words {
            *word = WORDS[self.number(WORDS.len())];
        }
        format!("{}.", words.join(" "))
    }

    fn prose(&mut self, chars: usize) -> String {
        let mut text = String::new();
        while text.len() < chars {
            if self.number(6) == 0 {
                text.push_str(&format!("\n\n## {} {}\n", WORDS[self.number(32)], WORDS[self.number(32)]));
            }
            text.push_str(&self.sentence());
            text.push(' ');
        }
        text.truncate(chars);
        text
    }
}

/// The person's text as OpenClaw wraps it on the first turn of a session.
pub fn wrapped(text: &str) -> String {
    let runtime =
        "Runtime: agent=main | session=agent:main:main | sessionId=5d0f | host=test | model=weir/auto | thinking=off";
    format!("[Mon 2026-11-23 08:33 UTC] {text}\n\n{runtime}")
}

/// A request that asks `text` of `model`, about 53 KB. The same seed gives the same bytes.
pub fn request(seed: u64, model: &str, text: &str) -> Value {
    let mut words = Words(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let system = format!(
        "You are an assistant that lives on its owner's machine.\n{}\n<!-- openclaw:attempt:STABLE -->\n{}\n<!-- openclaw:attempt:DYNAMIC -->",
        words.prose(STABLE_CHARS),
        words.prose(DYNAMIC_CHARS)
    );
    let context =
        format!("<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>\n{}\n<<<END_OPENCLAW_INTERNAL_CONTEXT>>>", words.prose(420));
    let tools: Vec<Value> = TOOLS.iter().map(|name| tool(&mut words, name)).collect();
    json!({
        "model": model,
        "messages": [
            {"role": "system", "content": system},
            {"role": "user", "content": wrapped(text)},
            {"role": "user", "content": context},
        ],
        "stream": true,
        "stream_options": {"include_usage": true},
        "tools": tools,
        "tool_choice": "auto",
        "max_completion_tokens": 8192,
        "x_route_hint": {"trigger": "user"},
        "metadata": {"made_by": "weir-tests"},
    })
}

fn tool(words: &mut Words, name: &str) -> Value {
    let field = |words: &mut Words, kind: &str| json!({"type": kind, "description": words.prose(110)});
    let properties = json!({
        "target": field(words, "string"),
        "amount": field(words, "integer"),
        "quiet": field(words, "boolean"),
    });
    let parameters =
        json!({"type": "object", "properties": properties, "required": ["target"], "additionalProperties": false});
    json!({"type": "function", "function": {"name": name, "description": words.prose(170), "parameters": parameters}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_and_shape_are_openclaws() {
        let request = request(7, "auto", "hi");
        let bytes = request.to_string().len();
        assert!((50_000..56_000).contains(&bytes), "{bytes} bytes");
        let tools = request["tools"].to_string().len();
        assert!((8_500..12_000).contains(&tools), "{tools} bytes of tools");
        let system = request["messages"][0]["content"].as_str().map(str::len);
        assert!(system.is_some_and(|chars| (41_000..43_500).contains(&chars)), "{system:?}");
        assert_eq!(request["tools"].as_array().map(Vec::len), Some(12));
    }

    #[test]
    fn a_seed_decides_every_byte() {
        assert_eq!(request(3, "auto", "a"), request(3, "auto", "a"));
        assert_ne!(request(3, "auto", "a"), request(4, "auto", "a"));
    }
}
