//! Tools taken apart into the words they are compared by. An agent offers the same tools with every request, so the last
//! lists are remembered, by everything of them that is looked at. Must never change what is found: only when.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value as Json;
use weir_protocol::Tool;

use super::words::{Concepts, concepts, is_act, is_lookup, stems};

/// Description read per tool, in bytes: the first sentence says what it does, the rest is instructions to the model.
const DESCRIPTION_BYTES: usize = 160;
/// The same where all tools are only ranked.
const RANKED_BYTES: usize = 80;
/// Lists remembered.
const LISTS: usize = 64;
/// Longest list that is, in bytes of what is looked at: together they take some tens of MB at most.
const LIST_BYTES: usize = 64 * 1024;

/// Said so often that they say nothing about a tool.
pub(super) const EMPTY_WORDS: &[&str] = &[
    "the", "and", "for", "with", "that", "this", "from", "are", "was", "use", "used", "using", "one", "all", "any",
    "not", "its", "out", "into", "when", "what", "how", "tool", "call", "calls", "return", "returns", "given", "user",
    "name", "value", "string", "number", "new", "about", "your", "his", "her",
];

/// A stem with what it means.
#[derive(Debug)]
pub(super) struct Stem {
    pub(super) text: String,
    pub(super) concepts: Concepts,
}

/// One tool.
#[derive(Debug)]
pub(super) struct KnownTool {
    pub(super) name: Vec<Stem>,
    /// Which word of the name is its verb.
    pub(super) verb_at: Option<usize>,
    pub(super) looks_up: bool,
    /// The words of each parameter's name.
    pub(super) parameters: Vec<Vec<Stem>>,
    pub(super) takes_number: bool,
    /// Distinct words of the description, those of the name apart.
    pub(super) described: Vec<Stem>,
    /// Distinct words of its beginning.
    pub(super) ranked: Vec<Stem>,
}

/// Takes a list apart, or remembers it.
pub(super) fn known(tools: &[Tool]) -> Arc<[KnownTool]> {
    static LAST: Mutex<Option<Last>> = Mutex::new(None);
    if tools.is_empty() {
        return Arc::new([]);
    }
    let key = key(tools);
    // Each change is complete in itself, so what a panicking thread left is sound.
    let last = || LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = last().as_ref().and_then(|last| last.lists.get(key.as_slice())) {
        return Arc::clone(known);
    }
    let known: Arc<[KnownTool]> = tools.iter().map(KnownTool::of).collect();
    if key.len() <= LIST_BYTES {
        last().get_or_insert_default().keep(key.into(), &known);
    }
    known
}

#[derive(Default)]
struct Last {
    /// Hashed without a seed, as everything here; equal keys are equal lists, not only likely so.
    lists: HashMap<Arc<[u8]>, Arc<[KnownTool]>, BuildHasherDefault<DefaultHasher>>,
    order: VecDeque<Arc<[u8]>>,
}

impl Last {
    fn keep(&mut self, key: Arc<[u8]>, known: &Arc<[KnownTool]>) {
        if self.lists.insert(Arc::clone(&key), Arc::clone(known)).is_some() {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > LISTS
            && let Some(oldest) = self.order.pop_front()
        {
            self.lists.remove(&oldest);
        }
    }
}

/// All that is looked at, so that nothing else makes a difference.
fn key(tools: &[Tool]) -> Vec<u8> {
    let mut key = Vec::with_capacity(tools.len() * 256);
    let mut put = |text: &str| {
        key.extend_from_slice(&text.len().to_le_bytes());
        key.extend_from_slice(text.as_bytes());
    };
    for tool in tools {
        put(&tool.name);
        put(beginning(tool, DESCRIPTION_BYTES));
        for (name, field) in properties(&tool.parameters) {
            put(name);
            put(field.get("type").and_then(Json::as_str).unwrap_or_default());
        }
        // No name is longer than all there is.
        put("");
    }
    key
}

impl KnownTool {
    fn of(tool: &Tool) -> Self {
        let name: Vec<Stem> = stems(&tool.name).map(Stem::of).collect();
        // `set_light` or `web_search`: the verb stands first, else last.
        let is_verb = |at: &usize| name.get(*at).is_some_and(|stem| is_act(&stem.text) || is_lookup(&stem.text));
        let verb_at = Some(0).filter(is_verb).or_else(|| name.len().checked_sub(1).filter(is_verb));
        let kind = |field: &Json| matches!(field.get("type").and_then(Json::as_str), Some("integer" | "number"));
        KnownTool {
            looks_up: verb_at.is_some_and(|at| is_lookup(&name[at].text)),
            verb_at,
            parameters: properties(&tool.parameters).map(|(name, _)| stems(name).map(Stem::of).collect()).collect(),
            takes_number: properties(&tool.parameters).any(|(_, field)| kind(field)),
            described: described(tool, DESCRIPTION_BYTES)
                .filter(|stem| name.iter().all(|known| known.text != stem.text))
                .collect(),
            ranked: described(tool, RANKED_BYTES).collect(),
            name,
        }
    }

    pub(super) fn verb(&self) -> Option<&Stem> {
        self.name.get(self.verb_at?)
    }

    /// What it is about: its name without the verb.
    pub(super) fn objects(&self) -> impl Iterator<Item = &Stem> {
        let words = self.name.iter().enumerate();
        words.filter(|(at, stem)| Some(*at) != self.verb_at && stem.text.len() > 2).map(|(_, stem)| stem)
    }
}

impl Stem {
    fn of(text: String) -> Self {
        Stem { concepts: concepts(&text), text }
    }
}

fn properties(schema: &Json) -> impl Iterator<Item = (&str, &Json)> {
    let all = schema.get("properties").and_then(Json::as_object).into_iter().flatten();
    all.map(|(name, field)| (name.as_str(), field))
}

fn beginning(tool: &Tool, bytes: usize) -> &str {
    let text = tool.description.as_deref().unwrap_or_default();
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Distinct stems of the description's beginning.
fn described(tool: &Tool, bytes: usize) -> impl Iterator<Item = Stem> {
    let said = stems(beginning(tool, bytes));
    let mut distinct: Vec<String> =
        said.filter(|stem| stem.len() > 2 && !EMPTY_WORDS.contains(&stem.as_str())).collect();
    distinct.sort_unstable();
    distinct.dedup();
    distinct.into_iter().map(Stem::of)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn tool(name: &str, field: &str) -> Tool {
        let parameters = json!({"type": "object", "properties": {field: {"type": "integer"}}});
        Tool { name: name.into(), description: Some("Sets a light in a room.".into()), parameters, ..Tool::default() }
    }

    #[test]
    fn what_is_looked_at_is_the_key_and_old_lists_go() {
        let lists = [[tool("set_light", "room")], [tool("set_light", "lamp")], [tool("set_lamp", "room")]];
        let first = lists.each_ref().map(|list| known(list));
        assert!(Arc::ptr_eq(&first[0], &known(&lists[0].clone())));
        assert!(!Arc::ptr_eq(&first[0], &first[1]) && !Arc::ptr_eq(&first[0], &first[2]));
        assert_eq!(first[0][0].parameters[0][0].text, "room");
        assert_ne!(key(&[tool("a", "b"), tool("c", "d")]), key(&[tool("a", "c"), tool("b", "d")]));
        let mut last = Last::default();
        for number in 0..=LISTS {
            last.keep(Arc::from(number.to_le_bytes()), &first[0]);
        }
        assert_eq!((last.lists.len(), last.order.len()), (LISTS, LISTS));
        assert!(!last.lists.contains_key(0_usize.to_le_bytes().as_slice()));
    }
}
