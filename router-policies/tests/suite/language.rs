//! The language of short requests: a list written before the words were chosen (`first`), and one after (`then`).

use weir_protocol::{ChatRequest, Message, Role};
use weir_router_policies::Features;

/// Language, tab, request. Of each language as many; then what is in none of them.
const FIRST: &str = include_str!("short_requests_first.tsv");
const THEN: &str = include_str!("short_requests_then.tsv");

/// How many are right, and which are wrong rather than `unknown`.
fn judge(list: &str) -> (usize, Vec<String>) {
    let (mut right, mut wrong) = (0, Vec::new());
    for (language, text) in list.lines().filter_map(|line| line.split_once('\t')) {
        let message = Message::text(Role::User, text);
        let request = ChatRequest { messages: vec![message], ..ChatRequest::default() };
        let found = Features::of(&request).language;
        match found.as_str() {
            found if found == language => right += 1,
            "unknown" => {}
            found => wrong.push(format!("{found} for {language}: {text}")),
        }
    }
    (right, wrong)
}

#[test]
fn most_short_requests_tell_their_language_and_hardly_one_a_wrong_one() {
    let (right, wrong) = judge(FIRST);
    assert!(right >= 205 && wrong.is_empty(), "{right} of 252, wrong: {wrong:#?}");
    let (right, wrong) = judge(THEN);
    assert!(right >= 75 && wrong.len() <= 2, "{right} of 110, wrong: {wrong:#?}");
}
