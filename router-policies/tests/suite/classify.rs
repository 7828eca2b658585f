//! The classifier from outside: its weights, its hashing, its rules, and that wrapping changes nothing.

use proptest::prelude::*;
use weir_protocol::{ChatRequest, Message, ResponseFormat, Role, ToolChoice};
use weir_router_policies::classify::grams::{Grams, ROWS_ALL};
use weir_router_policies::classify::weights::{Weights, WeightsError};
use weir_router_policies::classify::{Classifier, Family, Judged};
use weir_router_policies::{Features, unwrap};

use crate::openclaw;

const SHIPPED: &[u8] = include_bytes!("../../../models/router/weights.bin");

fn judged(request: &ChatRequest) -> Judged {
    Classifier::embedded().classify(&unwrap::asked(request), &Features::of(request))
}

#[test]
fn the_shipped_weights_are_read_and_written_alike_and_stay_small() {
    let weights = Weights::parse(SHIPPED).unwrap();
    assert_eq!(weights.to_bytes(), SHIPPED);
    assert_eq!(weights.families.len(), 13);
    assert_eq!(Classifier::embedded().weights(), &weights, "what is built in is what lies in models/router");
    assert!(SHIPPED.len() <= 2 << 20);
    assert_eq!(weights.rows.len(), ROWS_ALL);
}

/// The weights are worth nothing if one of these changes: train again, or find out what moved.
#[test]
fn hashing_is_the_one_the_weights_were_trained_with() {
    let sum = |text: &str| {
        let request = openclaw::plain(text);
        let grams = Grams::of(text, &Features::of(&request));
        let rows = grams.parts.iter().flatten();
        let sum = rows.fold(0_u64, |sum, row| sum.wrapping_mul(31).wrapping_add(u64::from(*row)));
        (grams.parts.each_ref().map(Vec::len), sum)
    };
    let texts = [
        "",
        "Write a Python function that adds two numbers.",
        "Übersetze „straße“ ins Englische: 12 345!!",
        "用Python写一个函数，反转链表",
        "fn main() { println!(\"{}\", 1 + 2); }\n\n```",
    ];
    assert_eq!(texts.map(sum), VECTORS);
}

/// Rows of each part, and a sum over all of them in their order.
const VECTORS: [([usize; 3], u64); 5] = [
    ([0, 0, 20], 11_033_128_424_012_286_868),
    ([34, 84, 19], 17_635_581_901_156_112_642),
    ([38, 78, 19], 3_198_319_483_583_301_258),
    ([46, 43, 20], 7_951_747_077_059_002_843),
    ([48, 70, 20], 2_512_362_505_152_649_272),
];

#[test]
fn what_is_looked_at_has_an_end() {
    let long = "schedule three meetings before noon ".repeat(3000);
    let grams = Grams::of(&long, &Features::of(&openclaw::plain(&long)));
    assert!(grams.parts.iter().map(Vec::len).sum::<usize>() < 8000);
}

#[test]
fn demands_leave_no_doubt() {
    let hello = || openclaw::plain("hello there");
    let forced = ChatRequest { tools: openclaw::tools(), tool_choice: ToolChoice::Function("read".into()), ..hello() };
    let json = ChatRequest { response_format: ResponseFormat::JsonObject, ..hello() };
    let gap = openclaw::plain("<|fim_prefix|>fn a() {<|fim_suffix|>}<|fim_middle|>");
    for (request, family) in [(forced, Family::FunctionCall), (json, Family::Extraction), (gap, Family::Infill)] {
        assert_eq!(judged(&request), Judged { family, probability: 1.0 });
    }
}

#[test]
fn plain_requests_are_told_apart_and_wrapping_changes_nothing() {
    let asks = [
        ("Write a Python function that reverses a linked list.", Family::CodeGeneration),
        ("Fix the bug in this code:\n\ndef f(x):\n    return x +", Family::CodeEdit),
        ("turn off the kitchen lights", Family::FunctionCall),
        ("Schreibe eine SQL-Abfrage, die alle Kunden ohne Bestellung findet", Family::Sql),
        (
            "Summarise this article in two sentences:\n\nThe mayor spoke. The law was changed after a debate.",
            Family::Summarise,
        ),
        ("Translate into German: The meeting was moved to Friday.", Family::Rewrite),
        ("¿Cuál es la capital de Francia?", Family::Question),
        ("一列火车3小时行驶240公里，平均速度是多少？", Family::Maths),
        ("Write a poem about the sea", Family::Prose),
        ("All wumpuses are tumpuses. Max is a wumpus. Is Max a tumpus?", Family::Logic),
        ("hi, how are you?", Family::Chat),
    ];
    for (text, family) in asks {
        let plain = judged(&openclaw::plain(text));
        assert_eq!(plain.family, family, "{text}: {plain:?}");
        let mut wrapped = openclaw::request(text);
        wrapped.tools.clear();
        assert_eq!(judged(&wrapped), plain, "{text}");
    }
}

#[test]
fn little_or_odd_text_is_unsure_or_at_least_no_certainty() {
    for text in ["", "?", "…", "\u{0}\u{0}", "🙂"] {
        let one = judged(&openclaw::plain(text));
        assert!(one.probability < 1.0 && one.probability >= 0.0, "{text:?} {one:?}");
    }
}

#[test]
fn a_damaged_file_is_told_from_a_good_one() {
    let damaged = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut file = SHIPPED.to_vec();
        change(&mut file);
        Weights::parse(&file).unwrap_err()
    };
    assert_eq!(damaged(&|file| file[0] = b'X'), WeightsError::Magic);
    assert_eq!(damaged(&|file| file[8] ^= 1), WeightsError::Rows);
    assert_eq!(damaged(&|file| file[20] = 200), WeightsError::Families);
    assert_eq!(damaged(&|file| *file.last_mut().unwrap() ^= 1), WeightsError::Sum);
    assert!(matches!(damaged(&|file| file.push(0)), WeightsError::Length { .. }));
    assert!(matches!(damaged(&|file| file.truncate(5000)), WeightsError::Length { .. }));
    assert_eq!(Weights::parse(b"").unwrap_err(), WeightsError::Magic);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_are_a_model_or_a_reason(head in proptest::collection::vec(any::<u8>(), 0..300), cut in 0_usize..400) {
        let mut file = SHIPPED[..cut].to_vec();
        file.extend(&head);
        prop_assert!(Weights::parse(&file).is_err());
    }

    #[test]
    fn any_text_has_a_family_and_probabilities_that_add_up(text in "\\PC{0,400}") {
        let request = ChatRequest { messages: vec![Message::text(Role::User, text)], ..ChatRequest::default() };
        let features = Features::of(&request);
        let asked = unwrap::asked(&request);
        let classifier = Classifier::embedded();
        let sum: f32 = classifier.probabilities(&Grams::of(&asked.text, &features)).iter().sum();
        prop_assert!((sum - 1.0).abs() < 1e-4);
        prop_assert_eq!(classifier.classify(&asked, &features), classifier.classify(&asked, &features));
    }
}
