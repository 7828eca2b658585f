//! What a person sees: answers as they stream, drafts redrawn in place on a terminal, the closing table. Must never
//! decide anything.

use std::io::{IsTerminal, Write};

use super::ask::{Seen, Sight};

/// Where the demo prints. On anything but a terminal: plain lines, no escape codes, no drafts.
pub(super) struct Screen {
    terminal: bool,
    /// Lines of the draft on the screen, below the answer's unfinished line.
    draft_lines: usize,
    /// The answer's unfinished line, to write again when a draft below it is erased.
    line: String,
}

/// One row of the closing table.
pub(super) struct Row {
    pub(super) question: &'static str,
    pub(super) asked: &'static str,
    pub(super) right: bool,
    pub(super) seen: Seen,
}

/// Long enough for a person to see a draft before the next one replaces it.
const DRAFT_PAUSE: std::time::Duration = std::time::Duration::from_millis(60);

impl Screen {
    pub(super) fn new() -> Self {
        let terminal = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Screen { terminal, draft_lines: 0, line: String::new() }
    }

    /// Whether drafts are worth asking for.
    pub(super) fn shows_drafts(&self) -> bool {
        self.terminal
    }

    pub(super) fn heading(&self, text: &str) {
        println!("\n{}", self.paint("1", text));
    }

    pub(super) fn question(&self, title: &str, prompt: &str) {
        println!("\n{}", self.paint("1;36", title));
        for line in prompt.lines() {
            println!("  {}", self.paint("2", line));
        }
    }

    /// Shows a draft or a piece of the answer as it comes.
    pub(super) fn show(&mut self, sight: &Sight<'_>) {
        self.erase_draft();
        match sight {
            Sight::Draft(snapshot) if self.terminal => {
                for line in snapshot.lines() {
                    print!("\n  {}", self.paint("33", line));
                    self.draft_lines += 1;
                }
                // The demo is for eyes: a nano model denoises faster than a screen can be read.
                let _ = std::io::stdout().flush();
                std::thread::sleep(DRAFT_PAUSE);
            }
            Sight::Draft(_) => {}
            Sight::Text(text) | Sight::Arguments(text) => self.write(text),
            Sight::Call(name) => self.write(&format!("{name} ")),
        }
    }

    pub(super) fn verdict(&mut self, row: &Row) {
        self.end_answer();
        let seen = &row.seen;
        let mark = if row.right { self.paint("1;32", "right") } else { self.paint("1;31", "wrong") };
        let forwards = seen.tokens_per_forward.map_or(String::new(), |tpf| format!(", {tpf:.1} tokens per forward"));
        println!(
            "  {mark} · {} by {} · first token {}, {:.0} tokens/s{forwards}",
            seen.model,
            seen.backend,
            milliseconds(seen.time_to_first_token),
            seen.tokens_per_second()
        );
        println!("  {}", self.paint("2", &format!("why: {}", seen.reason)));
    }

    pub(super) fn failure(&mut self, error: &anyhow::Error) {
        self.end_answer();
        println!("  {} {error:#}", self.paint("1;31", "failed:"));
    }

    pub(super) fn table(&self, rows: &[Row]) {
        println!(
            "\n{}",
            self.paint("1", "asked      question   right  answered by              TTFT ms   total ms  tokens/s   TPF")
        );
        for row in rows {
            let seen = &row.seen;
            let forwards = seen.tokens_per_forward.map_or("–".to_owned(), |tpf| format!("{tpf:.1}"));
            let right = if row.right { "yes" } else { "no" };
            println!(
                "{:<10} {:<10} {:<6} {:<24} {:>7} {:>10.1} {:>9.0} {:>5}",
                row.asked,
                row.question,
                right,
                seen.model,
                milliseconds(seen.time_to_first_token).trim_end_matches(" ms"),
                seen.total.as_secs_f64() * 1e3,
                seen.tokens_per_second(),
                forwards
            );
        }
    }

    fn write(&mut self, text: &str) {
        for piece in text.split_inclusive('\n') {
            if self.line.is_empty() {
                print!("  ");
            }
            print!("{piece}");
            self.line.push_str(piece);
            if piece.ends_with('\n') {
                self.line.clear();
            }
        }
        let _ = std::io::stdout().flush();
    }

    fn end_answer(&mut self) {
        self.erase_draft();
        if !self.line.is_empty() {
            println!();
            self.line.clear();
        }
    }

    /// Clears the draft's lines and puts the cursor back at the end of the answer.
    fn erase_draft(&mut self) {
        if self.draft_lines == 0 {
            return;
        }
        for _ in 0..self.draft_lines {
            print!("\r\x1b[2K\x1b[1A");
        }
        self.draft_lines = 0;
        let line = if self.line.is_empty() { String::new() } else { format!("  {}", self.line) };
        print!("\r\x1b[2K{line}");
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.terminal { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

fn milliseconds(time: Option<std::time::Duration>) -> String {
    time.map_or("–".to_owned(), |time| format!("{:.1} ms", time.as_secs_f64() * 1e3))
}
