//! The `Runtime:` line that OpenClaw puts under a session's first message, and what it names. Must never take a person's
//! own sentence about a "Runtime:" for it: only a last paragraph, and only with both of its first fields.

const LINE: &str = "\n\nRuntime: agent=";
const SESSION: &str = " | session=";

/// Most bytes of a system text that are looked at: the line stands in its last, changing part.
const SYSTEM_TAIL: usize = 8 * 1024;

/// What the line says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Runtime<'a> {
    pub(super) agent: &'a str,
    pub(super) session: &'a str,
}

/// The text without the line, and the line.
pub(super) fn split(text: &str) -> (&str, Option<Runtime<'_>>) {
    // Nothing was asked: the line is all there is.
    let bare = text.starts_with(&LINE[2..]).then_some(0);
    let Some(at) = text.rfind(LINE).map(|at| at + 2).or(bare) else { return (text, None) };
    match read(&text[at..]) {
        Some(runtime) => (text[..at].trim_end_matches('\n'), Some(runtime)),
        None => (text, None),
    }
}

/// The line within a system text, where anything may follow it.
pub(super) fn within(system: &str) -> Option<Runtime<'_>> {
    let mut start = system.len().saturating_sub(SYSTEM_TAIL);
    while !system.is_char_boundary(start) {
        start += 1;
    }
    let tail = &system[start..];
    let at = tail.rfind(&LINE[1..])? + 1;
    read(tail[at..].lines().next()?)
}

/// `Runtime: agent=main | session=agent:main:main | …`, in one line.
fn read(line: &str) -> Option<Runtime<'_>> {
    let line = line.trim_end();
    if line.contains('\n') {
        return None;
    }
    let (agent, rest) = line.strip_prefix(&LINE[2..])?.split_once(SESSION)?;
    let session = rest.split(" | ").next().unwrap_or_default();
    // A line without names is still the line.
    Some(Runtime { agent: agent.split(" | ").next().unwrap_or_default().trim(), session: session.trim() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_cut_and_read() {
        let (text, runtime) = split("hi\n\nRuntime: agent=main | session=agent:main:main | os=linux\n");
        assert_eq!((text, runtime), ("hi", Some(Runtime { agent: "main", session: "agent:main:main" })));
        let (text, runtime) = split("Runtime: agent=a | session=s");
        assert_eq!((text, runtime.map(|runtime| runtime.session)), ("", Some("s")));
        assert_eq!(split("why?\n\nRuntime: agent=x in my log").1, None);
        assert_eq!(split("why?\n\nRuntime: agent=x | session=y\nand more").1, None);
    }

    #[test]
    fn a_system_text_may_go_on_after_it() {
        let system = format!("{}\nRuntime: agent=main | session=s1 | os=linux\nBe kind. ü", "é".repeat(9000));
        assert_eq!(within(&system).map(|runtime| (runtime.agent, runtime.session)), Some(("main", "s1")));
        assert_eq!(within("Runtime of the job: 3 ms"), None);
    }
}
