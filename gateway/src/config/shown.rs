//! A config as an operator may see it over the wire: every setting in force with the layer it came from. Must never show a
//! secret: what may hold one is hidden by its place, whatever it holds.

use serde_json::{Value as Json, json};

use super::layers::Layered;
use super::written::Written;

/// Keys whose values are hidden, and tables whose every value is.
const HIDDEN_KEYS: [&str; 2] = ["hash", "key_hash"];
const HIDDEN_TABLES: [&str; 1] = ["headers"];

/// Each setting as `{"value": …, "from": …}` in the place where it is typed.
pub(super) fn show(written: &Written, layered: &Layered) -> Json {
    // What serde just read it can write.
    let whole = serde_json::to_value(written).unwrap_or_default();
    shown(whole, &mut Vec::new(), layered)
}

fn shown(value: Json, path: &mut Vec<String>, layered: &Layered) -> Json {
    match value {
        Json::Object(object) if !object.is_empty() => {
            let inner = object.into_iter().map(|(key, value)| {
                path.push(key.clone());
                let value = shown(value, path, layered);
                path.pop();
                (key, value)
            });
            Json::Object(inner.collect())
        }
        Json::Array(items) if items.iter().any(Json::is_object) => {
            let inner = items.into_iter().enumerate().map(|(index, value)| {
                path.push(index.to_string());
                let value = shown(value, path, layered);
                path.pop();
                value
            });
            Json::Array(inner.collect())
        }
        leaf => {
            let value = if is_hidden(path) && leaf != json!("") { json!("(hidden)") } else { leaf };
            json!({"value": value, "from": layered.origin_of(path).unwrap_or_else(|| "default".to_owned())})
        }
    }
}

fn is_hidden(path: &[String]) -> bool {
    let last = path.last().map_or("", String::as_str);
    let tables = path.iter().rev().skip(1);
    HIDDEN_KEYS.contains(&last) || tables.into_iter().any(|table| HIDDEN_TABLES.contains(&table.as_str()))
}

#[cfg(test)]
mod tests {
    use crate::config::{Inputs, load_noting};

    #[test]
    fn settings_are_shown_with_their_layer_and_secrets_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("weir.toml");
        let hash = crate::tenants::key::KeyHash::of(b"plugh");
        let text = format!(
            "[server]\nmax_in_flight = 7\n[admin]\nkey_hash = \"{hash}\"\n[[tenant]]\nname = \"a\"\n\
             keys = [{{ hash = \"{hash}\" }}]\n[[backend]]\nname = \"gpu\"\nbase_url = \"http://127.0.0.1:1/v1\"\n\
             model = \"m\"\nheaders = {{ \"x-token\" = \"xyzzy\" }}\n"
        );
        std::fs::write(&file, text).unwrap();
        let env = vec![("WEIR_SERVER__KEEP_ALIVE_MS".to_owned(), "9".to_owned())];
        let inputs = Inputs { file: Some(file.clone()), env, listen: Some("127.0.0.1:0".into()), ..Inputs::default() };
        let shown = load_noting(&inputs, &mut Vec::new()).unwrap().shown;
        let from = |path: &str| shown.pointer(path).map(|setting| setting["from"].as_str().unwrap().to_owned());
        let file = file.display().to_string();
        assert_eq!(from("/server/max_in_flight").as_deref(), Some(file.as_str()));
        assert_eq!(from("/server/keep_alive_ms").as_deref(), Some("environment"));
        assert_eq!(from("/server/listen").as_deref(), Some("flag"));
        assert_eq!(from("/server/max_body_bytes").as_deref(), Some("the embedded default"));
        assert_eq!(from("/backend/0/context_tokens").as_deref(), Some("default"));
        assert_eq!(shown["server"]["max_in_flight"]["value"], 7);
        let text = shown.to_string();
        assert!(text.contains("x-token") && text.contains("(hidden)"), "{text}");
        assert!(!text.contains("xyzzy") && !text.contains(&hash.to_string()[7..]), "{text}");
    }
}
