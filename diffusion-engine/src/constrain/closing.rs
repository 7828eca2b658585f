//! The nearest end of an answer: tokens that complete it from where it stands. A greedy walk that ends what can be
//! ended first; where it runs into the limit it is tried again with other fillers. It finds an end, not the shortest
//! one. Must never change the matcher it is given.

use llguidance::Matcher;

use super::forcing::{Cuts, forced};
use super::vocabulary::Vocabulary;

/// How often another filler is tried.
const TRIES: usize = 4;

/// At most `limit` tokens after which the answer may end, the end token not counted. `None` if none were found.
pub(crate) fn nearest_end(matcher: &Matcher, vocabulary: &Vocabulary, cuts: &Cuts, limit: usize) -> Option<Vec<u32>> {
    (0..TRIES).find_map(|attempt| walk(matcher.clone(), vocabulary, cuts, limit, attempt))
}

#[cfg(test)]
thread_local! {
    /// Steps of this thread's walks.
    pub(super) static STEPS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

fn walk(mut matcher: Matcher, vocabulary: &Vocabulary, cuts: &Cuts, limit: usize, attempt: usize) -> Option<Vec<u32>> {
    let mut tokens = Vec::new();
    loop {
        #[cfg(test)]
        STEPS.with(|count| count.set(count.get() + 1));
        // What was forced may be more than there is room for.
        if matcher.is_error() || tokens.len() > limit {
            return None;
        }
        if matcher.is_stopped() || matcher.is_accepting().unwrap_or(false) {
            return Some(tokens);
        }
        if tokens.len() >= limit {
            return None;
        }
        let forced = forced(&mut matcher, vocabulary, cuts, tokens.last().copied());
        if !forced.is_empty() {
            matcher.consume_tokens(&forced).ok()?;
            tokens.extend(forced);
            continue;
        }
        let mask = matcher.compute_mask().ok()?;
        let named = vocabulary.endings().iter().copied().find(|token| mask.is_allowed(*token));
        // Where nothing named fits (a pattern, an enumeration), any allowed token; later attempts take others.
        let token = match named {
            Some(token) if attempt == 0 || tokens.len() % (attempt + 1) != 0 => token,
            _ => {
                let allowed = mask.num_set();
                let index = (tokens.len() * 7919 + attempt * 104_729) % allowed.max(1) * usize::from(attempt > 0);
                mask.iter().nth(index).or(named)?
            }
        };
        matcher.consume_token(token).ok()?;
        tokens.push(token);
    }
}
