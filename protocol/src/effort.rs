//! How much a model should think before it answers: one meaning for a word and for a number of tokens. A hint: who cannot
//! think, or not by degrees, leaves it out.

/// As the caller put it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// Not at all.
    Off,
    /// As little as there is.
    Minimal,
    /// A little.
    Low,
    /// As much as is usual.
    Medium,
    /// Much.
    High,
    /// Up to so many tokens.
    Tokens(u32),
}

impl Effort {
    /// The words both of OpenAI's dialects have for it, some of them newer than others.
    pub fn of_word(word: &str) -> Option<Self> {
        Some(match word {
            "none" => Effort::Off,
            "minimal" => Effort::Minimal,
            "low" => Effort::Low,
            "medium" => Effort::Medium,
            "high" | "xhigh" | "max" => Effort::High,
            _ => return None,
        })
    }

    /// The word nearest to it.
    pub fn word(self) -> &'static str {
        match self {
            Effort::Off => "none",
            Effort::Minimal => "minimal",
            Effort::Low | Effort::Tokens(0..4096) => "low",
            Effort::Medium | Effort::Tokens(4096..16_384) => "medium",
            Effort::High | Effort::Tokens(16_384..) => "high",
        }
    }

    /// Tokens to think with; `None`: not at all. Never less than what Anthropic takes at least.
    pub fn tokens(self) -> Option<u32> {
        match self {
            Effort::Off => None,
            Effort::Minimal | Effort::Low => Some(1024),
            Effort::Medium => Some(4096),
            Effort::High => Some(16_384),
            Effort::Tokens(tokens) => Some(tokens.max(1024)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_tokens_mean_each_other() {
        for word in ["none", "low", "medium", "high"] {
            let effort = Effort::of_word(word).expect("a word");
            assert_eq!(effort.tokens().map_or("none", |tokens| Effort::Tokens(tokens).word()), word);
        }
        assert_eq!(Effort::of_word("much"), None);
    }
}
