//! Forced text as tokens. Where the grammar leaves one continuation only, it is written without the model, cut into
//! tokens as the tokenizer would cut it. Its last tokens are left out where a longer token, one that goes on beyond the
//! forced text, could stand in their place: a model never saw the shorter ones there. Must never change what the
//! matcher accepts.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use llguidance::Matcher;
use llguidance::toktrie::{SimpleVob, TokTrie, TrieNode};

use super::vocabulary::Vocabulary;

/// Longest forced text that is written at once, in bytes.
const LONGEST: usize = 4096;

/// Most texts of one grammar whose tokens are kept.
const MOST_CUTS: usize = 64;

/// Texts of one grammar that were cut into tokens before: every answer comes to the same ones, and cutting one takes
/// some 10 µs.
#[derive(Default)]
pub(crate) struct Cuts(Mutex<HashMap<Cut, Vec<u32>>>);

/// A forced text, and the token before it.
type Cut = (Option<u32>, Vec<u8>);

impl Cuts {
    /// The tokens of `text` as they are cut behind `last`.
    fn tokens(&self, vocabulary: &Vocabulary, text: &[u8], last: Option<u32>) -> Vec<u32> {
        let key = (last, text.to_vec());
        if let Some(tokens) = self.kept().get(&key) {
            return tokens.clone();
        }
        let tokens = cut(vocabulary, text, last);
        let mut cuts = self.kept();
        if cuts.len() >= MOST_CUTS {
            cuts.clear();
        }
        cuts.insert(key, tokens.clone());
        tokens
    }

    /// A panic elsewhere cannot leave a text with half of its tokens.
    fn kept(&self) -> MutexGuard<'_, HashMap<Cut, Vec<u32>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tokens that must follow now, after the token `last`; none where the model has a choice.
pub(crate) fn forced(matcher: &mut Matcher, vocabulary: &Vocabulary, cuts: &Cuts, last: Option<u32>) -> Vec<u32> {
    let mut text = matcher.compute_ff_bytes();
    text.truncate(LONGEST);
    if text.is_empty() {
        return Vec::new();
    }
    let mut tokens = cuts.tokens(vocabulary, &text, last);
    // The grammar's own judgement, and a guard against a tokenizer that changes text.
    let valid = matcher.validate_tokens(&tokens).unwrap_or(0);
    tokens.truncate(valid);
    let trie = vocabulary.trie();
    let mut offset = 0;
    for index in 0..tokens.len() {
        let rest = text.get(offset..).unwrap_or_default();
        if let Some(node) = trie.child_at_bytes(trie.root(), rest)
            && goes_on(matcher, tokens.get(..index).unwrap_or_default(), trie, node)
        {
            tokens.truncate(index);
            break;
        }
        offset += tokens.get(index).map_or(0, |token| trie.token_len(*token));
    }
    tokens
}

/// The tokens of `text` as they are cut behind `last`.
fn cut(vocabulary: &Vocabulary, text: &[u8], last: Option<u32>) -> Vec<u32> {
    if let Some(last) = last {
        let joined = [vocabulary.trie().token(last), text].concat();
        let tokens = vocabulary.tokens(&joined);
        if let Some((first, rest)) = tokens.split_first()
            && *first == last
        {
            return rest.to_vec();
        }
    }
    vocabulary.tokens(text)
}

/// Whether, after `before`, a token may follow that is longer than the text of `node`.
fn goes_on(matcher: &mut Matcher, before: &[u32], trie: &TokTrie, node: &TrieNode) -> bool {
    if node.subtree_size() <= 1 || matcher.consume_tokens(before).is_err() {
        return false;
    }
    let allowed = if matcher.is_stopped() { None } else { matcher.compute_mask().ok() };
    let found = allowed.is_some_and(|allowed| any_below(trie, node, &allowed));
    let _ = matcher.rollback(before.len());
    found
}

fn any_below(trie: &TokTrie, node: &TrieNode, allowed: &SimpleVob) -> bool {
    trie.node_children(node)
        .any(|child| child.token_id().is_some_and(|token| allowed.is_allowed(token)) || any_below(trie, child, allowed))
}
