//! Calls of tools that are no plain functions: those that take text, and functions in groups.

use super::*;

#[test]
fn a_call_of_a_free_form_tool_is_told_as_text() {
    let item = |status: &str, input: &str| {
        format!(
            r#""output_index":0,"item":{{"type":"custom_tool_call","id":"ctc_1_0","status":"{status}","call_id":"c1","name":"patch","input":"{input}"}}"#
        )
    };
    let done = item("completed", r"a\nb");
    let whole =
        whole("completed", "completed", "null", "null", done.split_once("\"item\":").expect("an item").1, "null");
    let events = vec![
        started(),
        call(0, "c1", "patch"),
        arguments(0, r#"{"input":"a"#),
        arguments(0, r#"\nb"}"#),
        ends(FinishReason::ToolCalls),
    ];
    let place = r#""item_id":"ctc_1_0","output_index":0"#;
    let told = [
        format!("output_item.added {}", item("in_progress", "")),
        format!(r#"custom_tool_call_input.delta {place},"delta":"a\nb""#),
        format!(r#"custom_tool_call_input.done {place},"input":"a\nb""#),
        format!("output_item.done {done}"),
    ];
    check_all(events, &between(&told.each_ref().map(String::as_str), whole));
}

#[test]
fn a_call_of_a_function_in_a_group_is_told_by_both_names() {
    let item = |status: &str, arguments: &str| {
        format!(
            r#""output_index":0,"item":{{"type":"function_call","id":"fc_1_0","status":"{status}","call_id":"c1","namespace":"agents","name":"close","arguments":"{arguments}"}}"#
        )
    };
    let done = item("completed", "{}");
    let whole =
        whole("completed", "completed", "null", "null", done.split_once("\"item\":").expect("an item").1, "null");
    let events = vec![started(), call(0, "c1", "agents__close"), arguments(0, "{}"), ends(FinishReason::ToolCalls)];
    let place = r#""item_id":"fc_1_0","output_index":0"#;
    let told = [
        format!("output_item.added {}", item("in_progress", "")),
        format!(r#"function_call_arguments.delta {place},"delta":"{{}}""#),
        format!(r#"function_call_arguments.done {place},"name":"close","arguments":"{{}}""#),
        format!("output_item.done {done}"),
    ];
    check_all(events, &between(&told.each_ref().map(String::as_str), whole));
}
