//! A denoise step as a line of text: in colour for a terminal, with brackets for everything else. Must never let a
//! control character of the model's through to a terminal.

use weir_diffusion_engine::{Cell, CellState, StepView};

/// How steps are shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint {
    pub(super) colour: bool,
}

const MASK: &str = "░";
/// A control token: the answer's end, for one.
const CONTROL: &str = "■";
const BEYOND: &str = "·";

impl Paint {
    /// What the marks mean.
    pub(super) fn legend(self) -> String {
        let of = |state: CellState, text: &str| self.run(state, text);
        format!(
            "step block  {} masked  {} fresh  {} edited  kept  {} forced  {CONTROL} end  {} behind it  = committed",
            of(CellState::Masked, MASK),
            of(CellState::Fresh, "a"),
            of(CellState::Edited, "a"),
            of(CellState::Forced, "a"),
            of(CellState::Beyond, BEYOND),
        )
    }

    /// One step.
    pub(super) fn step(self, view: &StepView) -> String {
        let mut line = format!("{:>4} {:>5}  ", view.step, view.block);
        for run in view.cells.chunk_by(|a, b| a.state == b.state) {
            let Some(first) = run.first() else { continue };
            let text: String = run.iter().map(shown).collect();
            line.push_str(&self.run(first.state, &text));
        }
        line
    }

    /// Text that became final.
    pub(super) fn committed(self, text: &str) -> String {
        let text = on_one_line(text);
        if self.colour { format!("         = \x1b[1m{text}\x1b[0m") } else { format!("         = {text}") }
    }

    fn run(self, state: CellState, text: &str) -> String {
        if self.colour {
            let code = match state {
                CellState::Masked | CellState::Beyond => "2",
                CellState::Fresh => "32",
                CellState::Edited => "1;33",
                CellState::Forced => "36",
                CellState::Kept => return text.to_owned(),
            };
            return format!("\x1b[{code}m{text}\x1b[0m");
        }
        match state {
            CellState::Masked | CellState::Beyond | CellState::Kept => text.to_owned(),
            CellState::Fresh => format!("[{text}]"),
            CellState::Edited => format!("{{{text}}}"),
            CellState::Forced => format!("<{text}>"),
        }
    }
}

fn shown(cell: &Cell) -> String {
    match cell.state {
        CellState::Masked => MASK.to_owned(),
        CellState::Beyond => BEYOND.to_owned(),
        _ if cell.text.is_empty() => CONTROL.to_owned(),
        CellState::Fresh | CellState::Edited | CellState::Kept | CellState::Forced => on_one_line(&cell.text),
    }
}

fn on_one_line(text: &str) -> String {
    readable(&text.replace('\n', "↵").replace('\t', "⇥"))
}

/// `text` without characters that a terminal would obey; lines and tabs stay.
pub(super) fn readable(text: &str) -> String {
    let obeyed = |character: char| character.is_control() && !matches!(character, '\n' | '\t');
    text.chars().map(|character| if obeyed(character) { char::REPLACEMENT_CHARACTER } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> StepView {
        let cell = |text: &str, state| Cell { token: 1, text: text.to_owned(), state };
        let cells = vec![
            cell("{\"", CellState::Forced),
            cell("a", CellState::Kept),
            cell("b\n", CellState::Fresh),
            cell("c", CellState::Fresh),
            cell("\u{1b}[2J", CellState::Edited),
            cell("", CellState::Masked),
            cell("", CellState::Masked),
            cell("", CellState::Kept),
            cell("zzz", CellState::Beyond),
        ];
        StepView { step: 12, block: 3, start: 64, cells }
    }

    #[test]
    fn plain_marks_tell_the_states_apart() {
        let line = Paint { colour: false }.step(&view());
        assert_eq!(line, "  12     3  <{\">a[b↵c]{\u{fffd}[2J}░░■·");
        assert_eq!(Paint { colour: false }.committed("a\nb\u{7}"), "         = a↵b\u{fffd}");
    }

    #[test]
    fn colours_open_and_close_and_nothing_of_the_models_is_obeyed() {
        let line = Paint { colour: true }.step(&view());
        let expected = "  12     3  \x1b[36m{\"\x1b[0ma\x1b[32mb↵c\x1b[0m\x1b[1;33m\u{fffd}[2J\x1b[0m\x1b[2m░░\x1b[0m■\
                        \x1b[2m·\x1b[0m";
        assert_eq!(line, expected);
        assert!(!Paint { colour: false }.legend().contains('\x1b'));
        assert_eq!(readable("a\tb\r\nc\u{9b}d"), "a\tb\u{fffd}\nc\u{fffd}d");
    }
}
