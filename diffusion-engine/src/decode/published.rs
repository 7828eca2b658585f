//! What a model is decoded with where nobody says: the decoder and the thresholds it was published with. Nothing in a
//! checkpoint tells LLaDA2.0 from 2.1 (same keys, same tensors), so its name does; 2.2 has control tokens. Must never
//! overrule what an operator said.

use std::path::Path;

use crate::options::DecoderKind;

use super::settings::DecodeSettings;

/// Who chose the decoder, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChosenBy {
    /// The operator's settings.
    Config,
    /// A name of the model, such as `LLaDA2.0-mini`.
    Name,
    /// DELETE and SPLIT among its tokens (LLaDA2.2).
    Tokens,
    /// Nothing told: what LLaDA2.1 takes.
    Default,
}

impl ChosenBy {
    /// A word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            ChosenBy::Config => "config",
            ChosenBy::Name => "name",
            ChosenBy::Tokens => "tokens",
            ChosenBy::Default => "default",
        }
    }
}

/// The decoder for a model with these names, the best one first, that has control tokens or not.
pub(crate) fn decoder<'a>(names: impl IntoIterator<Item = &'a str>, has_control: bool) -> (DecoderKind, ChosenBy) {
    if has_control {
        return (DecoderKind::Levenshtein, ChosenBy::Tokens);
    }
    match names.into_iter().find_map(release) {
        Some(0) => (DecoderKind::Threshold, ChosenBy::Name),
        // A 2.2 without its control tokens cannot do more than a 2.1.
        Some(_) => (DecoderKind::Joint, ChosenBy::Name),
        None => (DecoderKind::Joint, ChosenBy::Default),
    }
}

/// The folders a checkpoint lies in, from the innermost: a hub's cache has the model's name two above the files.
pub(crate) fn names(place: &Path) -> Vec<String> {
    place.iter().rev().map(|part| part.to_string_lossy().into_owned()).collect()
}

/// The settings a decoder was published with: LLaDA2.0 §6 and dInfer (threshold 0.95), the model cards of 2.1 (preset
/// `quality`) and 2.2.
pub(crate) fn settings(decoder: DecoderKind) -> DecodeSettings {
    let (threshold, editing_threshold) = match decoder {
        DecoderKind::Threshold | DecoderKind::Hierarchy | DecoderKind::Credit => (0.95, 0.0),
        DecoderKind::Joint | DecoderKind::MultiBlock => (0.7, 0.5),
        DecoderKind::Levenshtein => (0.5, 0.0),
    };
    DecodeSettings { decoder, threshold, editing_threshold, ..DecodeSettings::default() }
}

/// The x of `LLaDA2.x` in a name.
fn release(name: &str) -> Option<u32> {
    let lower = name.to_ascii_lowercase();
    lower.match_indices("llada").find_map(|(at, word)| {
        let rest = lower[at + word.len()..].trim_start_matches(['-', '_', ' ']);
        let mut minor = rest.strip_prefix('2')?.strip_prefix(['.', '_'])?.chars();
        let release = minor.next()?.to_digit(10)?;
        minor.next().is_none_or(|next| !next.is_ascii_digit()).then_some(release)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(place: &str, has_control: bool, decoder: DecoderKind, by: ChosenBy) {
        let names = names(Path::new(place));
        assert_eq!(super::decoder(names.iter().map(String::as_str), has_control), (decoder, by), "{place}");
    }

    #[test]
    fn a_models_name_tells_its_decoder() {
        use ChosenBy::{Default, Name, Tokens};
        use DecoderKind::{Joint, Levenshtein, Threshold};
        check("/srv/LLaDA2.0-mini", false, Threshold, Name);
        check("/srv/LLaDA2.0-mini-CAP", false, Threshold, Name);
        check("/srv/llada-2_0-flash.Q4_K.gguf", false, Threshold, Name);
        check("/srv/LLaDA2.1-mini", false, Joint, Name);
        check("/hub/models--inclusionAI--LLaDA2.0-mini/snapshots/5f0e", false, Threshold, Name);
        check("/srv/LLaDA2.0-tests/LLaDA2.1-mini", false, Joint, Name);
        check("/srv/LLaDA2.2-flash", true, Levenshtein, Tokens);
        check("/srv/LLaDA2.2-flash", false, Joint, Name);
        check("/srv/ours", true, Levenshtein, Tokens);
        for silent in ["/srv/ours", "/srv/LLaDA2-0.5b", "/srv/llada2.05", "/srv/LLaDA-8B", "", "/srv/lladä2.1"] {
            check(silent, false, Joint, Default);
        }
    }

    #[test]
    fn thresholds_follow_the_decoder() {
        assert_eq!(settings(DecoderKind::Joint), DecodeSettings::default());
        assert_eq!(settings(DecoderKind::Threshold).threshold, 0.95);
        assert_eq!(settings(DecoderKind::Levenshtein).editing_threshold, 0.0);
    }
}
