//! Code, diffs, gaps to fill, and passages that are quoted to be edited: shapes of the asked text in which the answer is
//! bound to material that is already there. Must never parse a language.

use super::words::Word;

/// Markers of fill-in-the-middle prompts, as code models were trained on them.
pub(super) const GAP_MARKS: &[&str] = &[
    "<|fim_prefix|>",
    "<|fim_suffix|>",
    "<fim_prefix>",
    "<fim_suffix>",
    "<fim-prefix>",
    "<|fim_begin|>",
    "<｜fim▁begin｜>",
    "<PRE>",
    "[INFILL]",
    "<FILL_ME>",
    "<FILL_HERE>",
    "<|mdm_mask|>",
];

/// Words that ask to change what is quoted, not to talk about it.
const EDIT_WORDS: &[&str] = &[
    "fix",
    "rewrite",
    "edit",
    "correct",
    "improve",
    "refactor",
    "rephrase",
    "reword",
    "proofread",
    "polish",
    "shorten",
    "simplify",
    "translate",
    "format",
    "reformat",
    "convert",
    "rename",
    "clean",
    "paraphrase",
    "update",
    "modernize",
    "modernise",
    "optimise",
    "optimize",
    "debug",
    "complete",
    "annotate",
    "indent",
    "replace",
    "change",
];

/// Shortest quoted passage that is more than a name.
const QUOTED_CHARS: usize = 40;

/// What is quoted and what looks like code.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Material {
    /// Characters in fences, in quoted lines, or after the colon that ends the instruction.
    pub(super) quoted_chars: usize,
    pub(super) fences: u64,
    pub(super) code: bool,
    pub(super) diff: bool,
    pub(super) gap: bool,
}

/// Reads the text once, line by line.
pub(super) fn material(text: &str) -> Material {
    let mut found = Material { gap: has_gap(text), ..Material::default() };
    let (mut fenced, mut lines, mut code_lines, mut hunks, mut changes) = (false, 0_u32, 0_u32, 0_u32, 0_u32);
    for line in text.lines() {
        let bare = line.trim();
        if bare.starts_with("```") || bare.starts_with("~~~") {
            found.fences += u64::from(!fenced);
            fenced = !fenced;
            continue;
        }
        hunks += u32::from(is_hunk(line));
        changes += u32::from((line.starts_with('+') || line.starts_with('-')) && bare.len() > 1);
        if fenced || bare.starts_with("> ") {
            found.quoted_chars += bare.chars().count();
        }
        if !bare.is_empty() {
            lines += 1;
            code_lines += u32::from(is_code_line(line, bare));
        }
    }
    found.diff = hunks > 0 && changes > 0;
    found.code = found.fences > 0 || found.diff || (code_lines >= 2 && code_lines * 3 >= lines);
    if found.quoted_chars == 0 {
        found.quoted_chars = after_instruction(text);
    }
    found
}

/// Whether the text wants a passage changed that it quotes.
pub(super) fn edits_quoted(words: &[Word<'_>], found: &Material) -> bool {
    let asks = words.iter().take(12).any(|word| EDIT_WORDS.contains(&&*word.plain));
    asks && found.quoted_chars >= QUOTED_CHARS
}

pub(super) fn has_gap(text: &str) -> bool {
    // All marks begin so, and most texts have neither.
    if !text.contains('<') && !text.contains('[') {
        return false;
    }
    let mut begins = text.match_indices(['<', '[']).filter_map(|(at, _)| text.get(at..));
    begins.any(|rest| GAP_MARKS.iter().any(|mark| rest.starts_with(mark)))
}

fn is_hunk(line: &str) -> bool {
    ["@@ -", "diff --git ", "--- a/", "+++ b/", "<<<<<<< ", ">>>>>>> "].iter().any(|mark| line.starts_with(mark))
}

/// A line that no sentence looks like.
fn is_code_line(line: &str, bare: &str) -> bool {
    const STARTS: &[&str] = &[
        "def ",
        "class ",
        "import ",
        "from ",
        "fn ",
        "pub ",
        "let ",
        "const ",
        "var ",
        "function ",
        "return ",
        "if (",
        "for (",
        "while (",
        "#include",
        "public ",
        "private ",
        "SELECT ",
        "INSERT ",
        "UPDATE ",
        "CREATE ",
        "async ",
        "package ",
        "using ",
        "type ",
        "interface ",
        "struct ",
        "impl ",
        "#!/",
        "elif ",
        "else:",
        "try:",
        "except ",
    ];
    let ends = bare.ends_with([';', '{', '}']) || bare.ends_with("):") || bare.ends_with(") =>") || bare == "},";
    let indented = line.starts_with("    ") || line.starts_with('\t');
    let marked = bare.contains(['(', '{', '=', ';', ':', '*', '<']);
    let starts = (marked || indented) && STARTS.iter().any(|start| bare.starts_with(start));
    ends || starts || (indented && bare.contains(['=', '(']) && !bare.ends_with('.'))
}

/// Characters after a short first line, or part of one, that ends in a colon: "fix the grammar: …".
fn after_instruction(text: &str) -> usize {
    match text.split_once(':') {
        Some((head, rest)) if head.chars().count() <= 160 && !rest.starts_with("//") => rest.trim().chars().count(),
        _ => quoted_marks(text),
    }
}

/// Characters between double quotation marks.
fn quoted_marks(text: &str) -> usize {
    let mut pieces = text.split(['"', '“', '”', '«', '»']);
    let _before = pieces.next();
    // A mark without its partner quotes nothing.
    let mut inside: Vec<&str> = Vec::new();
    while let (Some(quoted), Some(_after)) = (pieces.next(), pieces.next()) {
        inside.push(quoted);
    }
    inside.iter().map(|quoted| quoted.chars().count()).sum()
}

#[cfg(test)]
mod tests {
    use super::super::words::leading_words;
    use super::*;

    fn edits(text: &str) -> bool {
        edits_quoted(&leading_words(text), &material(text))
    }

    #[test]
    fn code_is_seen_with_and_without_a_fence() {
        assert!(material("why?\n```rust\nlet a = 1;\n```").code);
        assert!(material("def add(a, b):\n    return a + b\nwhat does it do").code);
        assert!(!material("write a function that adds two numbers").code);
        assert!(!material("From the sea: a poem.\nLet me hear it.").code);
        assert_eq!(material("```a\nx\n```\n```b\ny\n```").fences, 2);
    }

    #[test]
    fn a_diff_has_hunks_and_changes() {
        assert!(material("review\n@@ -1,2 +1,2 @@\n-old line\n+new line").diff);
        assert!(!material("- buy milk\n- buy eggs").diff);
    }

    #[test]
    fn gaps_are_marked() {
        assert!(material("<|fim_prefix|>def f(<|fim_suffix|>): pass<|fim_middle|>").gap);
        assert!(!material("fill in the gap").gap);
    }

    #[test]
    fn an_edit_needs_a_wish_and_a_passage() {
        let passage = "He go to school every day and he like it very much because of the teacher";
        assert!(edits(&format!("Fix the grammar: {passage}.")));
        assert!(edits(&format!("please rewrite \"{passage}\" politely")));
        assert!(edits("refactor this\n```py\nx = [i for i in range(10) if i % 2 == 0 and i > 3]\n```"));
        assert!(!edits("fix my bike"));
        assert!(!edits(&format!("who wrote this: {passage}")));
    }
}
