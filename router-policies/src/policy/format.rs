//! One way to lay out a policy file, so that differences between two are differences of meaning: keys of a rule in one
//! order, attempts below each other, one empty line between tables. Comments stay where they are. Must never change what
//! a policy means: the result is read again and compared, and refused if it says anything else.

use toml_edit::{Array, DocumentMut, InlineTable, Item, Table, Value};

/// What stands at the top of a policy file, in the order in which it is laid out.
pub const SECTIONS: &[&str] = &["about", "include", "defaults", "condense", "pins", "rule", "test"];
const RULE: &[&str] = &["name", "when", "route", "reason", "attempts"];
const TEST: &[&str] = &["name", "given", "request", "expect"];
const ATTEMPT: &[&str] = &["backend", "mode", "diffusion", "condense", "first_content_ms", "weight"];
/// Longest line that attempts may share.
const LINE: usize = 100;

/// The text laid out.
///
/// # Errors
/// It is no TOML, or could not be laid out without changing it.
pub fn format(text: &str) -> Result<String, String> {
    let mut document: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| error.to_string())?;
    let before: toml::Table = toml::from_str(text).map_err(|error| error.to_string())?;
    sort(document.as_table_mut(), SECTIONS);
    for (name, order) in [("rule", RULE), ("test", TEST)] {
        let Some(tables) = document.get_mut(name).and_then(Item::as_array_of_tables_mut) else { continue };
        for table in tables.iter_mut() {
            sort(table, order);
            spaced(table);
            tidy(table);
        }
    }
    for name in ["defaults", "condense", "pins"] {
        if let Some(table) = document.get_mut(name).and_then(Item::as_table_mut) {
            spaced(table);
            tidy(table);
        }
    }
    let mut lines: Vec<&str> = Vec::new();
    let laid_out = document.to_string();
    for line in laid_out.lines().map(str::trim_end) {
        if !(line.is_empty() && lines.last().is_none_or(|last| last.is_empty())) {
            lines.push(line);
        }
    }
    let out = format!("{}\n", lines.join("\n").trim_end());
    match toml::from_str::<toml::Table>(&out) {
        Ok(after) if after == before => Ok(out),
        _ => Err("this file cannot be laid out without changing it".to_owned()),
    }
}

/// One empty line before a table, above its comment if it has one.
fn spaced(table: &mut Table) {
    let before = table.decor().prefix().and_then(|prefix| prefix.as_str()).unwrap_or_default().trim_start().to_owned();
    table.decor_mut().set_prefix(format!("\n{before}"));
}

fn sort(table: &mut Table, order: &[&str]) {
    let place = |name: &str| order.iter().position(|known| *known == name).unwrap_or(order.len());
    table.sort_values_by(|a, _, b, _| place(a.get()).cmp(&place(b.get())));
}

fn tidy(table: &mut Table) {
    for (mut key, item) in table.iter_mut() {
        let Some(value) = item.as_value_mut() else { continue };
        // A comment above the key or behind the value stays.
        key.leaf_decor_mut().set_suffix(" ");
        value.decor_mut().set_prefix(" ");
        match value {
            Value::Array(array) => attempts(array),
            Value::InlineTable(inline) => tidy_inline(inline, &[]),
            _ => {}
        }
    }
}

/// A list of attempts: on one line where there is room, else below each other. A list with comments stays as it is.
fn attempts(array: &mut Array) {
    let commented = |value: &Value| value.to_string().contains('#');
    if array.iter().any(commented) || array.trailing().as_str().is_some_and(|end| end.contains('#')) {
        return;
    }
    for value in array.iter_mut() {
        if let Value::InlineTable(inline) = value {
            tidy_inline(inline, ATTEMPT);
        }
        value.decor_mut().clear();
    }
    let width: usize = array.iter().map(|value| value.to_string().len() + 2).sum();
    let below = array.iter().any(Value::is_inline_table) && (width > LINE || array.len() > 1);
    for (index, value) in array.iter_mut().enumerate() {
        match (below, index) {
            (true, _) => value.decor_mut().set_prefix("\n  "),
            (false, 0) => {}
            (false, _) => value.decor_mut().set_prefix(" "),
        }
    }
    array.set_trailing(if below { "\n" } else { "" });
    array.set_trailing_comma(below);
}

fn tidy_inline(inline: &mut InlineTable, order: &[&str]) {
    // One with a comment, which takes lines of its own, stays as it is.
    if inline.to_string().contains('#') {
        return;
    }
    inline.set_trailing_comma(false);
    inline.set_trailing("");
    let place = |name: &str| order.iter().position(|known| *known == name).unwrap_or(order.len());
    inline.sort_values_by(|a, _, b, _| place(a.get()).cmp(&place(b.get())));
    let last = inline.len().saturating_sub(1);
    for (index, (mut key, value)) in inline.iter_mut().enumerate() {
        key.leaf_decor_mut().set_prefix(" ");
        key.leaf_decor_mut().set_suffix(" ");
        value.decor_mut().set_prefix(" ");
        value.decor_mut().set_suffix(if index == last { " " } else { "" });
        if let Value::InlineTable(inner) = value {
            tidy_inline(inner, &[]);
        }
    }
}
