//! The kinds of work a request can be. The words are part of the policy language, of metric labels and of the weights
//! file, so a word never changes its meaning. Must never grow a kind that only one benchmark knows.

use serde::Serialize;

/// What kind of work is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// A program or a piece of one, from a description.
    CodeGeneration,
    /// A change to code that is given: a fix, a port, tests, types.
    CodeEdit,
    /// The middle of a text or program whose beginning and end are given.
    Infill,
    /// Something to be done by a tool: a lamp, a reminder, a file, a search.
    FunctionCall,
    /// A given text turned into fields, tables, labels.
    Extraction,
    /// A database query from a question.
    Sql,
    /// An arrangement under constraints: timetables, seats, routes, number puzzles with a fixed shape.
    Planning,
    /// What follows from premises: syllogisms, truth tables, proofs, who-owns-what grids.
    Logic,
    /// A calculation or a word problem.
    Maths,
    /// A given text made shorter.
    Summarise,
    /// A given text said otherwise: translated, corrected, reordered, in another tone.
    Rewrite,
    /// A question about the world, or a thing to be explained.
    Question,
    /// A new text to be written, with or without many demands on its form.
    Prose,
    /// Talk: greetings, opinions, feelings, advice.
    Chat,
    /// No family is likely enough.
    Unsure,
}

impl Family {
    /// Every family, `Unsure` last.
    pub const ALL: [Family; 15] = [
        Family::CodeGeneration,
        Family::CodeEdit,
        Family::Infill,
        Family::FunctionCall,
        Family::Extraction,
        Family::Sql,
        Family::Planning,
        Family::Logic,
        Family::Maths,
        Family::Summarise,
        Family::Rewrite,
        Family::Question,
        Family::Prose,
        Family::Chat,
        Family::Unsure,
    ];

    /// Their words, in the same order.
    pub const WORDS: [&'static str; Family::ALL.len()] = {
        let mut words = [""; Family::ALL.len()];
        let mut at = 0;
        // No iterator works in a constant.
        while at < words.len() {
            words[at] = Family::ALL[at].as_str();
            at += 1;
        }
        words
    };

    /// The word in policies, metrics and explanations.
    pub const fn as_str(self) -> &'static str {
        match self {
            Family::CodeGeneration => "code_generation",
            Family::CodeEdit => "code_edit",
            Family::Infill => "infill",
            Family::FunctionCall => "function_call",
            Family::Extraction => "extraction",
            Family::Sql => "sql",
            Family::Planning => "planning",
            Family::Logic => "logic",
            Family::Maths => "maths",
            Family::Summarise => "summarise",
            Family::Rewrite => "rewrite",
            Family::Question => "question",
            Family::Prose => "prose",
            Family::Chat => "chat",
            Family::Unsure => "unsure",
        }
    }

    /// The family of that word.
    pub fn named(word: &str) -> Option<Family> {
        Family::ALL.into_iter().find(|family| family.as_str() == word)
    }

    /// Its place in [`Family::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_places_agree() {
        for (at, family) in Family::ALL.into_iter().enumerate() {
            assert_eq!(family.index(), at);
            assert_eq!(Family::named(Family::WORDS[at]), Some(family));
            assert_eq!(serde_json::to_value(family).unwrap(), family.as_str());
        }
        assert_eq!(Family::named("prosa"), None);
    }
}
