//! What the demo asks: one tool call, one transform, one sudoku, one path. Must never hold an answer that the rules of
//! the task can judge.

use serde_json::{Value, json};

use super::check::Check;

/// One question and how to judge the answer.
pub(super) struct Question {
    pub(super) title: &'static str,
    pub(super) prompt: &'static str,
    pub(super) tools: Option<Value>,
    pub(super) check: Check,
}

/// The questions, in the order asked.
pub(super) fn questions() -> Vec<Question> {
    vec![
        Question {
            title: "tool call",
            prompt: "remind me to water the plants tomorrow at 6pm",
            tools: Some(household_tools()),
            check: Check::ToolCall {
                name: "create_reminder",
                arguments: json!({"text": "water the plants", "when": "tomorrow at 6pm"}),
            },
        },
        Question {
            title: "transform",
            prompt: "Sort these words: lemon, apple, mirror, chair, honey",
            tools: None,
            check: Check::Text("apple, chair, honey, lemon, mirror"),
        },
        Question {
            title: "sudoku",
            prompt: "Solve this sudoku: 1..4/3.../.14./..21",
            tools: None,
            check: Check::Sudoku { clues: "1..4/3.../.14./..21" },
        },
        Question {
            title: "path",
            prompt: "Find the path from A to E: C>E A>B B>D A>C",
            tools: None,
            check: Check::Path { edges: &[('C', 'E'), ('A', 'B'), ('B', 'D'), ('A', 'C')], start: 'A', goal: 'E' },
        },
    ]
}

/// What a home assistant would offer; the model must pick.
fn household_tools() -> Value {
    let tool = |name: &str, about: &str, fields: Value| {
        let required: Vec<&String> = fields.as_object().map(|fields| fields.keys().collect()).unwrap_or_default();
        json!({"type": "function", "function": {"name": name, "description": about, "parameters":
            {"type": "object", "properties": fields, "required": required}}})
    };
    let text = || json!({"type": "string"});
    json!([
        tool("set_light", "Switch the lights of a room on or off.", json!({"room": text(), "on": {"type": "boolean"}})),
        tool("set_timer", "Start a countdown.", json!({"minutes": {"type": "integer"}})),
        tool("create_reminder", "Remind the user of something.", json!({"text": text(), "when": text()})),
        tool("send_message", "Send a text message.", json!({"to": text(), "text": text()})),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a grid with two solutions a decoder that fills cells together may take half of each.
    #[test]
    fn the_sudoku_has_one_solution() {
        let clues = questions().iter().find_map(|asked| match asked.check {
            Check::Sudoku { clues } => Some(clues),
            _ => None,
        });
        let clues = clues.expect("a sudoku is asked");
        let open = clues.matches('.').count() as u32;
        let solutions = (0..4u32.pow(open)).filter(|filling| {
            let mut rest = *filling;
            let mut cell = |clue: char| match clue {
                '.' => {
                    let digit = rest % 4 + 1;
                    rest /= 4;
                    char::from_digit(digit, 10).expect("1 to 4")
                }
                clue => clue,
            };
            let filled: String = clues.chars().map(&mut cell).collect();
            Check::Sudoku { clues }.holds(&filled, &[])
        });
        assert_eq!(solutions.count(), 1, "{clues}");
    }
}
