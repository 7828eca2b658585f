//! The model's vocabulary as the grammar library wants it: the bytes of every token, and how forced text is cut into
//! tokens. Made once for a model. Must never let a control token stand for text.

use std::collections::HashMap;
use std::sync::Arc;

use llguidance::api::{GrammarInit, TopLevelGrammar};
use llguidance::earley::lexerspec::LexerSpec;
use llguidance::toktrie::{TokEnv, TokRxInfo, TokTrie, TokenizerEnv};
use llguidance::{ParserFactory, TokenParser};

use crate::checkpoint::tokenizer::TextTokenizer;

use super::compiled::{Compiled, Form};
use super::constraint::broken::said;
use super::depth;

/// Texts that end a JSON value or a container, the ones that end most first, then the shortest values, then the
/// characters that keep a text short. What the search for the nearest end tries, in this order.
const ENDINGS: [&str; 27] = [
    "\"}}", "\"]}", "\"}", "\"]", "}}", "]}", "\"", "}", "]", "null", "n", "true", "t", "false", "f", "0", "1", "2",
    "3", "5", "9", "a", "A", "[", "-", "{", ",",
];

/// Compiles grammars for one vocabulary.
pub(crate) struct Vocabulary {
    factory: ParserFactory,
    /// Tokens of [`ENDINGS`], in that order, as far as they exist.
    endings: Vec<u32>,
    compiled: Compiled,
}

impl Vocabulary {
    /// For a model with `rows` output rows.
    ///
    /// # Errors
    /// Why this tokenizer cannot be constrained.
    pub(crate) fn new(tokenizer: Arc<TextTokenizer>, rows: usize) -> Result<Self, String> {
        if !tokenizer.is_byte_level() {
            return Err("the checkpoint's tokenizer is not byte-level".into());
        }
        let Some(end) = tokenizer.ends.first().copied() else {
            return Err("the checkpoint's tokenizer names no end token".into());
        };
        let words = (0..rows).map(|id| word(&tokenizer, id)).collect::<Vec<Vec<u8>>>();
        let by_bytes: HashMap<&[u8], u32> = words.iter().zip(0..).map(|(word, id)| (word.as_slice(), id)).collect();
        let endings = ENDINGS.iter().filter_map(|text| by_bytes.get(text.as_bytes()).copied()).collect();
        let trie = TokTrie::from(&TokRxInfo::new(rows as u32, end), &words).with_eos_tokens(&tokenizer.ends);
        let environment: TokEnv = Arc::new(Environment { tokenizer, trie });
        let mut factory = ParserFactory::new_simple(&environment).map_err(|error| error.to_string())?;
        factory.quiet();
        // Its errors would quote the answer so far.
        factory.limits_mut().verbose_errors = false;
        Ok(Vocabulary { factory, endings, compiled: Compiled::default() })
    }

    /// `grammar` at its start, compiled unless `tenant` asked for the same not long ago.
    ///
    /// # Errors
    /// The library's reason, which may quote the grammar.
    pub(crate) fn form(&self, grammar: TopLevelGrammar, tenant: &Arc<str>) -> Result<Form, String> {
        let text = serde_json::to_string(&grammar).map_err(|error| error.to_string())?;
        self.compiled.form(tenant, text, || self.compile(grammar))
    }

    /// `grammar`, which [`depth`] has found to be shallow enough, at its start.
    ///
    /// # Errors
    /// As [`Vocabulary::form`].
    pub(crate) fn compile(&self, grammar: TopLevelGrammar) -> Result<TokenParser, String> {
        std::thread::scope(|scope| {
            let compiler = std::thread::Builder::new().name("weir-form".into()).stack_size(depth::STACK);
            let parser = compiler.spawn_scoped(scope, || self.parser(grammar));
            let parser = parser.map_err(|error| format!("no thread to compile it: {error}"))?.join();
            // The library cuts long schema text for its messages at a byte, which need not be a character's border.
            parser.map_err(|_| "the grammar library gave up on it".to_owned())?
        })
    }

    fn parser(&self, grammar: TopLevelGrammar) -> Result<TokenParser, String> {
        let (grammar, lexer) = GrammarInit::Serialized(grammar)
            .to_internal(Some(self.factory.tok_env().clone()), self.factory.limits().clone())
            .map_err(|error| said(&error))?;
        self.begins_soon(&lexer)?;
        let parser = self.factory.create_parser_from_init_default(GrammarInit::Internal(grammar, lexer));
        parser.map_err(|error| said(&error))
    }

    /// Whether what may stand first is found within the library's own limit, by which it does not go there: a
    /// `multipleOf` of millions, or texts that must fit several patterns at once, would take minutes and all memory.
    fn begins_soon(&self, lexer: &LexerSpec) -> Result<(), String> {
        let mut lexer = lexer.clone();
        lexer.add_extra_lexemes(&self.factory.extra_lexemes());
        let mut limits = self.factory.limits().clone();
        let mut texts = lexer.to_regex_vec(&mut limits).map_err(|error| said(&error))?;
        texts.set_fuel(limits.initial_lexer_fuel);
        let start = texts.initial_state(&lexer.all_lexemes());
        for byte in 0..=u8::MAX {
            if texts.has_error() {
                break;
            }
            texts.transition(start, byte);
        }
        match texts.get_error() {
            Some(reason) => Err(format!("it would take too long to work out what fits it: {reason}")),
            None => Ok(()),
        }
    }

    /// How many compiled forms are kept.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.compiled.len()
    }

    /// The tokens by their bytes.
    pub(crate) fn trie(&self) -> &TokTrie {
        self.factory.tok_env().tok_trie()
    }

    /// The tokens of a text.
    pub(crate) fn tokens(&self, text: &[u8]) -> Vec<u32> {
        self.factory.tok_env().tokenize_bytes(text)
    }

    /// Tokens worth trying when an answer must end soon, best first.
    pub(crate) fn endings(&self) -> &[u32] {
        &self.endings
    }
}

/// Bytes of token `id`; control tokens carry the library's marker, ids without a token are empty and never allowed.
fn word(tokenizer: &TextTokenizer, id: usize) -> Vec<u8> {
    let Ok(id) = u32::try_from(id) else { return Vec::new() };
    match tokenizer.special_text(id) {
        Some(text) => std::iter::once(TokTrie::SPECIAL_TOKEN_MARKER).chain(text.bytes()).collect(),
        None => tokenizer.bytes(id).unwrap_or_default(),
    }
}

struct Environment {
    tokenizer: Arc<TextTokenizer>,
    trie: TokTrie,
}

impl TokenizerEnv for Environment {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<u32> {
        self.trie.tokenize_with_greedy_fallback(bytes, |text| self.tokenizer.encode_answer(text))
    }

    /// Keeps the library from forcing tokens by itself: it looks back four tokens only, see [`super::forcing`].
    fn tokenize_is_canonical(&self) -> bool {
        false
    }
}
