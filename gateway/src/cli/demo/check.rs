//! Is an answer right? Judges by the rules of each task, not by comparing with a stored answer, wherever the task has
//! rules. Must never see which engine answered.

use serde_json::Value;

/// What makes an answer right.
#[derive(Debug, Clone)]
pub(super) enum Check {
    /// Exactly this call.
    ToolCall { name: &'static str, arguments: Value },
    /// Exactly this text, white space at the ends aside.
    Text(&'static str),
    /// A filled 4×4 grid that keeps the given clues (rows of digits, `.` or `_` for an empty cell).
    Sudoku { clues: &'static str },
    /// A walk over the given edges from start to goal.
    Path { edges: &'static [(char, char)], start: char, goal: char },
}

impl Check {
    /// Whether `text` and `calls` (name, JSON arguments) answer the question.
    pub(super) fn holds(&self, text: &str, calls: &[(String, String)]) -> bool {
        match self {
            Check::ToolCall { name, arguments } => match calls {
                [(called, json)] => {
                    called == name && serde_json::from_str::<Value>(json).ok().as_ref() == Some(arguments)
                }
                _ => false,
            },
            Check::Text(expected) => calls.is_empty() && text.trim() == *expected,
            Check::Sudoku { clues } => calls.is_empty() && sudoku_holds(clues, text),
            Check::Path { edges, start, goal } => calls.is_empty() && path_holds(edges, *start, *goal, text),
        }
    }
}

/// The cells of a grid in reading order: digits, or `None` for an empty cell.
fn cells(grid: &str) -> Vec<Option<u32>> {
    grid.chars().filter(|c| c.is_ascii_digit() || matches!(c, '.' | '_')).map(|c| c.to_digit(10)).collect()
}

fn sudoku_holds(clues: &str, answer: &str) -> bool {
    let (clues, filled) = (cells(clues), cells(answer));
    if clues.len() != 16 || filled.len() != 16 {
        return false;
    }
    let keeps_clues = clues.iter().zip(&filled).all(|(clue, cell)| clue.is_none() || clue == cell);
    // A unit is right when its four cells are 1, 2, 3 and 4.
    let unit_is_right = |unit: [usize; 4]| {
        let mut seen = [false; 4];
        for index in unit {
            match filled.get(index) {
                Some(Some(digit @ 1..=4)) => seen[*digit as usize - 1] = true,
                _ => return false,
            }
        }
        seen == [true; 4]
    };
    let rows = (0..4).map(|r| [4 * r, 4 * r + 1, 4 * r + 2, 4 * r + 3]);
    let columns = (0..4).map(|c| [c, c + 4, c + 8, c + 12]);
    let boxes = [0, 2, 8, 10].into_iter().map(|b| [b, b + 1, b + 4, b + 5]);
    keeps_clues && rows.chain(columns).chain(boxes).all(unit_is_right)
}

fn path_holds(edges: &[(char, char)], start: char, goal: char, answer: &str) -> bool {
    let stops: Vec<char> = answer.chars().filter(char::is_ascii_uppercase).collect();
    let walks = stops.windows(2).all(|pair| matches!(pair, [from, to] if edges.contains(&(*from, *to))));
    stops.first() == Some(&start) && stops.last() == Some(&goal) && walks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sudoku_must_be_full_right_and_keep_the_clues() {
        let check = Check::Sudoku { clues: "1.3.\n3.1.\n2...\n...1" };
        assert!(check.holds("1234\n3412\n2143\n4321", &[]));
        assert!(!check.holds("1234\n3412\n2143\n432.", &[]), "one cell empty");
        assert!(!check.holds("1234\n3412\n2143\n4312", &[]), "a column repeats");
        assert!(!check.holds("2143\n3412\n1234\n4321", &[]), "a clue changed");
        assert!(!check.holds("", &[]));
    }

    #[test]
    fn a_path_must_walk_given_edges_from_start_to_goal() {
        let check = Check::Path { edges: &[('A', 'B'), ('B', 'C'), ('A', 'D')], start: 'A', goal: 'C' };
        assert!(check.holds("A>B>C", &[]));
        assert!(!check.holds("A>C", &[]), "no such edge");
        assert!(!check.holds("B>C", &[]), "wrong start");
        assert!(!check.holds("A>B", &[]), "stops short");
        assert!(!check.holds("", &[]));
    }

    #[test]
    fn a_tool_call_is_compared_as_json() {
        let check =
            Check::ToolCall { name: "set_light", arguments: serde_json::json!({"room": "kitchen", "on": false}) };
        let call = |json: &str| vec![("set_light".to_owned(), json.to_owned())];
        assert!(check.holds("", &call(r#"{"on":false,"room":"kitchen"}"#)));
        assert!(!check.holds("", &call(r#"{"on":true,"room":"kitchen"}"#)));
        assert!(!check.holds(r#"{"on":false,"room":"kitchen"}"#, &[]), "text is not a call");
    }
}
