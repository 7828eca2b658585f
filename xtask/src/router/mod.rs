//! `cargo xtask router-train` and `cargo xtask router-card`: make the classifier's weights from `training/router/` and the
//! public sets, and measure what is shipped in `models/router/`. Must never be needed to build or to run Weir.

mod card;
mod generate;
mod measure;
mod public;
mod templates;
mod train;

use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::Parser;
use weir_router_policies::classify::Classifier;

use self::generate::Sample;
use self::templates::Split;
use crate::metadata;

/// Made prompts of one pattern for the temperature, and held out.
const OF_PATTERN: [usize; 2] = [5, 3];
/// Draws are made from it; held-out prompts from the next one.
const SEED: u64 = 20_261_129;
/// Most questions of one public set, so that none outweighs the rest.
const OF_SET: usize = 200;

const WEIGHTS: &str = "models/router/weights.bin";
const CARD: &str = "models/router/README.md";

/// Settings of a training; the defaults made what is shipped.
#[derive(Debug, Parser)]
pub(crate) struct TrainArgs {
    #[arg(long, default_value_t = 6)]
    epochs: usize,
    #[arg(long, default_value_t = 0.3)]
    rate: f32,
    #[arg(long, default_value_t = 0.6)]
    dropout: f64,
    #[arg(long, default_value_t = 1e-4)]
    decay: f32,
    /// Made prompts of each pattern.
    #[arg(long, default_value_t = 80)]
    draws: usize,
    /// The probability below which the family is `unsure`.
    #[arg(long, default_value_t = 0.5)]
    floor: f32,
    /// Prints what was misjudged.
    #[arg(long)]
    misses: bool,
}

/// Settings of a card.
#[derive(Debug, Parser)]
pub(crate) struct CardArgs {
    /// Writes the card instead of comparing it.
    #[arg(long)]
    write: bool,
}

/// Trains, calibrates, writes the weights and the card.
pub(crate) fn train(args: &TrainArgs) -> Result<()> {
    let root = metadata::root()?;
    let languages = templates::read(&root.join("training/router"))?;
    let Some(public) = public::read(&root)? else {
        bail!("{} is not there: the shipped weights were trained with it, too", public::place(&root).display());
    };
    let side = |split| public.iter().filter(move |sample| sample.split == split).cloned();
    let texts: Vec<String> = side(Split::Train).map(|sample| sample.text).filter(|text| text.len() > 80).collect();
    let gather = |split, of_pattern| -> Vec<Sample> {
        let texts: &[String] = if split == Split::Train { &texts } else { &[] };
        let mut all = generate::samples(&languages, split, of_pattern, SEED, texts);
        all.extend(side(split));
        all
    };
    let samples = gather(Split::Train, args.draws);
    println!("{} prompts to train on", samples.len());
    let settings =
        train::Settings { epochs: args.epochs, rate: args.rate, dropout: args.dropout, decay: args.decay, seed: SEED };
    let mut weights = train::train(&train::seen(&samples), &settings);
    let calibrating = gather(Split::Calibrate, OF_PATTERN[0]);
    weights.temperature = measure::temperature(&Classifier::new(weights.clone()), &calibrating);
    weights.floor = args.floor;
    println!("temperature {:.3} from {} prompts", weights.temperature, calibrating.len());
    let file = weights.to_bytes();
    let classifier = Classifier::read(&file).context("the weights just made")?;
    std::fs::create_dir_all(root.join("models/router"))?;
    std::fs::write(root.join(WEIGHTS), &file).context(WEIGHTS)?;
    if args.misses {
        print_misses(&classifier, &languages, &public);
    }
    write_card(&root, &classifier)
}

/// Computes the card of the shipped weights, and compares it with the one that lies beside them.
pub(crate) fn card(args: &CardArgs) -> Result<()> {
    let root = metadata::root()?;
    let file = std::fs::read(root.join(WEIGHTS)).context(WEIGHTS)?;
    let classifier = Classifier::read(&file).context(WEIGHTS)?;
    if args.write {
        return write_card(&root, &classifier);
    }
    let shipped = std::fs::read_to_string(root.join(CARD)).context(CARD)?;
    let parts = Parts::measure(&root, &classifier)?;
    if parts.public.is_none() {
        println!("the public sets are not on this machine: only the made prompts were measured again");
    }
    parts.compare(&shipped)?;
    println!("{CARD} says what the weights do");
    Ok(())
}

/// The card's measured parts; those that need the public sets may be missing.
struct Parts {
    made: String,
    public: Option<String>,
}

impl Parts {
    fn measure(root: &Path, classifier: &Classifier) -> Result<Parts> {
        let languages = templates::read(&root.join("training/router"))?;
        let made = measure::judge(classifier, &held_out(&languages));
        let mut parts = Parts { made: card::made(classifier, &made), public: None };
        if let Some(samples) = public::read(root)? {
            let public = measure::judge(classifier, &public_held_out(&samples));
            let text = card::public(classifier, &public);
            let both: Vec<_> = made.into_iter().chain(public).collect();
            parts.public = Some(format!("{text}{}", card::together(&both)));
        }
        Ok(parts)
    }

    fn compare(&self, shipped: &str) -> Result<()> {
        let parts = [("made", Some(&self.made)), ("public", self.public.as_ref())];
        for (name, measured) in parts.into_iter().filter_map(|(name, part)| Some((name, part?))) {
            if between(shipped, name)?.trim() != measured.trim() {
                bail!("{CARD}: the part `{name}` is not what the weights do; `cargo xtask router-card --write`");
            }
        }
        Ok(())
    }
}

fn held_out(languages: &[templates::Language]) -> Vec<Sample> {
    generate::samples(languages, Split::HeldOut, OF_PATTERN[1], SEED + 1, &[])
}

fn public_held_out(samples: &[Sample]) -> Vec<Sample> {
    let mut taken = std::collections::BTreeMap::<&str, usize>::new();
    let held_out = samples.iter().filter(|sample| sample.split == Split::HeldOut);
    let few = held_out.filter(|sample| {
        let count = taken.entry(sample.source.as_str()).or_default();
        *count += 1;
        *count <= OF_SET
    });
    few.cloned().collect()
}

fn marks(name: &str) -> (String, String) {
    (format!("<!-- {name}: measured -->"), format!("<!-- {name}: end -->"))
}

fn between<'a>(card: &'a str, name: &str) -> Result<&'a str> {
    let (begin, end) = marks(name);
    let part = card.split_once(&begin).and_then(|(_, rest)| rest.split_once(&end));
    part.map(|(part, _)| part).with_context(|| format!("{CARD} has no part `{name}`"))
}

/// Puts the measured parts into the card and leaves the words around them.
fn write_card(root: &Path, classifier: &Classifier) -> Result<()> {
    let path = root.join(CARD);
    let mut text = std::fs::read_to_string(&path).with_context(|| format!("{CARD}: its words are written by hand"))?;
    let parts = Parts::measure(root, classifier)?;
    print!("{}\n{}", parts.made, parts.public.as_deref().unwrap_or("no public sets on this machine\n"));
    for (name, part) in [("made", Some(parts.made)), ("public", parts.public)] {
        let Some(part) = part else { continue };
        let (begin, end) = marks(name);
        let old = format!("{begin}{}{end}", between(&text, name)?);
        text = text.replace(&old, &format!("{begin}\n{part}\n{end}"));
    }
    std::fs::write(&path, text).context(CARD)
}

fn print_misses(classifier: &Classifier, languages: &[templates::Language], public: &[Sample]) {
    let samples: Vec<Sample> = held_out(languages).into_iter().chain(public_held_out(public)).collect();
    for (sample, one) in samples.iter().zip(measure::judge(classifier, &samples)) {
        if one.truth != one.found {
            let text: String = sample.text.chars().take(110).collect();
            println!(
                "{} {} {} -> {} {:.2}: {}",
                sample.source,
                sample.language,
                one.truth.as_str(),
                one.found.as_str(),
                one.probability,
                text.replace('\n', "⏎")
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn languages() -> Vec<templates::Language> {
        templates::read(&metadata::root().unwrap().join("training/router")).unwrap()
    }

    #[test]
    fn the_shipped_weights_do_what_their_card_says_and_meet_the_bars() {
        let root = metadata::root().unwrap();
        let classifier = Classifier::read(&std::fs::read(root.join(WEIGHTS)).unwrap()).unwrap();
        let judged = measure::judge(&classifier, &held_out(&languages()));
        let shipped = std::fs::read_to_string(root.join(CARD)).unwrap();
        assert_eq!(between(&shipped, "made").unwrap().trim(), card::made(&classifier, &judged).trim());
        assert!(measure::macro_f1(&judged) >= 0.88, "{}", measure::macro_f1(&judged));
        assert!(measure::calibration_error(&judged) <= 0.04, "{}", measure::calibration_error(&judged));
    }

    #[test]
    fn every_slot_of_every_pattern_is_known_and_every_family_is_in_every_language() {
        for language in languages() {
            let families = train::classes();
            for family in &families {
                let count = language.patterns.iter().filter(|pattern| pattern.family == *family).count();
                assert!(count >= 6, "{} has {count} patterns of {}", language.name, family.as_str());
            }
            for pattern in &language.patterns {
                for part in pattern.text.split('{').skip(1) {
                    let name = part.split('}').next().unwrap();
                    assert!(generate::is_known(name, &language), "{}: {{{name}}} in {}", language.name, pattern.text);
                }
            }
        }
    }

    #[test]
    fn a_pattern_is_on_one_side_only_and_prompts_repeat_with_their_seed() {
        let languages = languages();
        let train = generate::samples(&languages, Split::Train, 1, 7, &[]);
        let again = generate::samples(&languages, Split::Train, 1, 7, &[]);
        assert!(train.iter().zip(&again).all(|(one, other)| one.text == other.text));
        for language in &languages {
            let mut texts: Vec<&str> = language.patterns.iter().map(|pattern| pattern.text.as_str()).collect();
            let count = texts.len();
            texts.sort_unstable();
            texts.dedup();
            assert_eq!(texts.len(), count, "{} has a pattern twice", language.name);
        }
    }
}
