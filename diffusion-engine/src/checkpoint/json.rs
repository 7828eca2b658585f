//! JSON as Python's `json.dumps(value, ensure_ascii=False)` writes it, because that is what chat templates were
//! trained with: `, ` and `: ` between, keys in their order, floats in Python's form. Must never sort or escape more.

use minijinja::value::Kwargs;
use minijinja::{Error, ErrorKind};
use serde_json::Value;

/// The template filter `tojson`. `ensure_ascii` and `sort_keys` are accepted when they say what it does anyway.
pub(crate) fn to_json_filter(value: &minijinja::Value, options: Kwargs) -> Result<minijinja::Value, Error> {
    for name in ["ensure_ascii", "sort_keys"] {
        if options.get::<Option<bool>>(name)? == Some(true) {
            return Err(Error::new(ErrorKind::InvalidOperation, format!("tojson({name}=true) is not supported")));
        }
    }
    options.assert_all_used()?;
    let value = serde_json::to_value(value)
        .map_err(|error| Error::new(ErrorKind::BadSerialization, "value has no JSON form").with_source(error))?;
    let mut out = String::new();
    write(&value, &mut out);
    Ok(minijinja::Value::from_safe_string(out))
}

/// Appends the JSON text of `value`.
pub(crate) fn write(value: &Value, out: &mut String) {
    match value {
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() => write_float(float, out),
            _ => out.push_str(&number.to_string()),
        },
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                write(item, out);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            out.push('{');
            for (index, (name, field)) in fields.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                write_text(name, out);
                out.push_str(": ");
                write(field, out);
            }
            out.push('}');
        }
        Value::String(text) => write_text(text, out),
        Value::Null | Value::Bool(_) => out.push_str(&value.to_string()),
    }
}

/// serde_json escapes the same characters as Python, in the same form.
fn write_text(text: &str, out: &mut String) {
    out.push_str(&Value::from(text).to_string());
}

/// Python's `repr`: shortest digits, an exponent of at least two digits below 1e-4 and from 1e16 on.
fn write_float(float: f64, out: &mut String) {
    let scientific = format!("{float:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else {
        out.push_str(&scientific);
        return;
    };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = float.to_string();
        out.push_str(&plain);
        out.push_str(if plain.contains('.') { "" } else { ".0" });
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        out.push_str(&format!("{digits}e{sign}{:02}", exponent.abs()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_python() {
        // Right column: python3 -c 'import json; print(json.dumps(json.loads(left), ensure_ascii=False))'
        for (input, python) in [
            (r#"{"b":1,"a":[1,2.0,null,true],"c":{}}"#, r#"{"b": 1, "a": [1, 2.0, null, true], "c": {}}"#),
            (r#"["é漢\ud83d\ude00","\"\\\n\t\u0001\u007f/"]"#, "[\"é漢😀\", \"\\\"\\\\\\n\\t\\u0001\u{7f}/\"]"),
            (
                "[1e5,1.5e-5,1e-4,1e16,123456789012345680.0,0.1,-0.0]",
                "[100000.0, 1.5e-05, 0.0001, 1e+16, 1.2345678901234568e+17, 0.1, -0.0]",
            ),
            ("[18446744073709551615,-5]", "[18446744073709551615, -5]"),
            ("[]", "[]"),
        ] {
            let mut out = String::new();
            write(&serde_json::from_str(input).expect("JSON"), &mut out);
            assert_eq!(out, python);
        }
    }
}
