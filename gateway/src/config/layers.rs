//! The layers of a config, lowest first: embedded default ← file ← environment ← flags. Keeps for every value which
//! layer it came from, so that a mistake can be shown where it was made. Must never judge a value.

use std::io;
use std::path::{Path, PathBuf};

use figment::providers::{Format, Toml};
use figment::value::{Dict, Map, Tag, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::diagnostic::Diagnostic;
use super::files::FileRead;

/// Name of the lowest layer in messages.
const EMBEDDED: &str = "the embedded default";
const ENVIRONMENT: &str = "environment";
const FLAG: &str = "flag";
const ENV_PREFIX: &str = "WEIR_";
/// How like a setting a variable without `__` must be to be taken for it: one letter in five may differ.
const LIKE_A_SETTING: f64 = 0.8;

const FOLDER: &str = "put the file there; a container's runtime makes a folder where a file that it mounts is missing";

/// All that a config is made from. A value of its own, so that tests need no process environment.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// The config file.
    pub file: Option<PathBuf>,
    /// Environment variables; those that do not begin with `WEIR_` only serve `api_key_env`.
    pub env: Vec<(String, String)>,
    /// `--listen`.
    pub listen: Option<String>,
    /// Whether nobody will be asked with what is loaded: a variable that is missing, of a key say, is no mistake then.
    pub asks_nobody: bool,
}

impl Inputs {
    /// What this process was started with: the file named, or `weir.toml` in the working directory when there is one. What
    /// is there and is no file is not passed over: the limits and keys that were meant would be missing without a word.
    pub fn from_process(file: Option<PathBuf>, listen: Option<String>) -> Self {
        let here = PathBuf::from("weir.toml");
        let file = file.or_else(|| here.symlink_metadata().is_ok().then_some(here));
        let env = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
        Inputs { file, env: env.collect(), listen, asks_nobody: false }
    }
}

struct Layer {
    name: String,
    dict: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.dict.clone()))
    }
}

/// The layers put together.
pub(super) struct Layered {
    figment: Figment,
    merged: Value,
    file: Option<PathBuf>,
    /// What stands in it.
    text: String,
    origins: Vec<String>,
}

impl Layered {
    /// Reads the layers. `embedded` is the text of the lowest one; `settings` are the names there are, joined by `_`; `files`
    /// takes note of the file.
    pub(super) fn read(
        inputs: &Inputs,
        embedded: &str,
        settings: &[String],
        files: &mut Vec<FileRead>,
    ) -> Result<Self, Vec<Diagnostic>> {
        let mut figment = Figment::from(toml_layer(EMBEDDED.into(), embedded)?);
        let mut origins = vec![EMBEDDED.to_owned()];
        let mut text = String::new();
        if let Some(file) = &inputs.file {
            let name = file.display().to_string();
            text = FileRead::read(file, files).and_then(FileRead::text).map_err(|error| {
                let help = if error.kind() == io::ErrorKind::IsADirectory { FOLDER } else { "" };
                let said = whole_file(&name, format!("cannot be read: {error}"));
                vec![Diagnostic { help: help.to_owned(), ..said }]
            })?;
            origins.push(name.clone());
            figment = figment.merge(toml_layer(name, &text)?);
        }
        let dict = env_dict(&inputs.env, settings);
        if !dict.is_empty() {
            origins.push(ENVIRONMENT.to_owned());
            figment = figment.merge(Layer { name: ENVIRONMENT.into(), dict });
        }
        if let Some(listen) = &inputs.listen {
            let mut dict = Dict::new();
            insert(&mut dict, &["server", "listen"], Value::from(listen.as_str()));
            origins.push(FLAG.to_owned());
            figment = figment.merge(Layer { name: FLAG.into(), dict });
        }
        let merged = figment
            .find_value("")
            .map_err(|error| vec![whole_file(EMBEDDED, format!("layers do not fit together: {}", error.kind))])?;
        Ok(Layered { figment, merged, file: inputs.file.clone(), text, origins })
    }

    /// The layers that hold anything, lowest first.
    pub(super) fn origins(&self) -> Vec<String> {
        self.origins.clone()
    }

    /// Everything, the higher layer's value wherever two have one.
    pub(super) fn merged(&self) -> &Value {
        &self.merged
    }

    /// Reads the merged layers into a type.
    pub(super) fn extract<T: serde::de::DeserializeOwned>(&self) -> Result<T, Box<figment::Error>> {
        self.figment.extract().map_err(Box::new)
    }

    /// A diagnostic about the value at `path`, named the way its layer names it.
    pub(super) fn diagnostic(
        &self,
        path: &[String],
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Diagnostic {
        let origin = self.origin(path);
        let key = match origin.as_str() {
            ENVIRONMENT => format!("{ENV_PREFIX}{}", path.join("__").to_uppercase()),
            FLAG => format!("--{}", path.last().map_or("", String::as_str).replace('_', "-")),
            _ => shown(path),
        };
        let line = self.is_file(&origin).then(|| line_of(&self.text, path)).flatten();
        Diagnostic { origin, line, key, message: message.into(), help: help.into() }
    }

    /// Whether somebody typed the value at `path`: it does not only stand in the embedded default.
    pub(super) fn is_typed(&self, path: &[String]) -> bool {
        self.origin_of(path).is_some_and(|origin| origin != EMBEDDED)
    }

    fn is_file(&self, origin: &str) -> bool {
        self.file.as_ref().is_some_and(|file| origin == file.display().to_string())
    }

    /// Where a relative path at `path` starts: beside the file that names it, else the working directory.
    pub(super) fn base_dir(&self, path: &[String]) -> PathBuf {
        let of_file = self.file.as_ref().filter(|_| self.is_file(&self.origin(path)));
        of_file.and_then(|file| file.parent()).map(Path::to_path_buf).unwrap_or_default()
    }

    /// The layer of the deepest value there is on `path`.
    fn origin(&self, path: &[String]) -> String {
        let mut value = &self.merged;
        let mut tag = value.tag();
        for key in path {
            let Some(next) = child(value, key) else { break };
            value = next;
            tag = value.tag();
        }
        self.named(tag)
    }

    /// The layer of the value at `path`; `None` where nobody typed one.
    pub(super) fn origin_of(&self, path: &[String]) -> Option<String> {
        let value = path.iter().try_fold(&self.merged, |value, key| child(value, key))?;
        Some(self.named(value.tag()))
    }

    fn named(&self, tag: Tag) -> String {
        self.figment.get_metadata(tag).map_or_else(|| EMBEDDED.to_owned(), |metadata| metadata.name.to_string())
    }
}

fn child<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    match value {
        Value::Dict(_, dict) => dict.get(key),
        Value::Array(_, items) => key.parse::<usize>().ok().and_then(|index| items.get(index)),
        _ => None,
    }
}

/// `backend[0].base_url`
fn shown(path: &[String]) -> String {
    let mut out = String::new();
    for key in path {
        if key.bytes().all(|byte| byte.is_ascii_digit()) && !out.is_empty() {
            out.push_str(&format!("[{key}]"));
        } else {
            if !out.is_empty() {
                out.push('.');
            }
            out.push_str(key);
        }
    }
    out
}

/// The line of the value at `path`, or of the table in which it is missing.
fn line_of(text: &str, path: &[String]) -> Option<usize> {
    let document = toml_edit::Document::parse(text).ok()?;
    let mut item = document.as_item();
    let mut start = None;
    for key in path {
        let next = match key.parse::<usize>() {
            Ok(index) => item.get(index),
            Err(_) => item.get(key),
        };
        let Some(next) = next else { break };
        // A table that only its own tables make has no place.
        start = next.span().map(|span| span.start).or(start);
        item = next;
    }
    Some(text.get(..start?)?.matches('\n').count() + 1)
}

fn whole_file(origin: &str, message: String) -> Diagnostic {
    Diagnostic { origin: origin.into(), line: None, key: String::new(), message, help: String::new() }
}

fn toml_layer(name: String, text: &str) -> Result<Layer, Vec<Diagnostic>> {
    match Toml::from_str::<Dict>(text) {
        Ok(dict) => Ok(Layer { name, dict }),
        Err(error) => Err(vec![whole_file(&name, format!("not TOML: {}", error.to_string().trim_end()))]),
    }
}

/// `WEIR_SERVER__LISTEN` → `server.listen`. A variable of ours without `__` is kept only if it is nearly one of `settings`
/// (`server_listen`), so that a mistyped `WEIR_SERVER_LISTEN` is refused while others are left alone: keys that the config
/// names (`WEIR_ADMIN_KEY`), and what Kubernetes tells of a service called `weir-backend` (`WEIR_BACKEND_SERVICE_HOST`).
fn env_dict(env: &[(String, String)], settings: &[String]) -> Dict {
    let mut dict = Dict::new();
    for (name, text) in env {
        let Some(rest) = name.strip_prefix(ENV_PREFIX) else { continue };
        let key = rest.to_lowercase();
        let path: Vec<&str> = key.split("__").collect();
        let meant = |setting: &String| strsim::normalized_damerau_levenshtein(&key, setting) >= LIKE_A_SETTING;
        if path.iter().any(|part| part.is_empty()) || (path.len() == 1 && !settings.iter().any(meant)) {
            continue;
        }
        let value = text.parse::<Value>().unwrap_or_else(|never| match never {});
        insert(&mut dict, &path, value);
    }
    dict
}

fn insert(dict: &mut Dict, path: &[&str], value: Value) {
    match path {
        [] => {}
        [last] => {
            dict.insert((*last).to_owned(), value);
        }
        [first, rest @ ..] => {
            let inner = dict.entry((*first).to_owned()).or_insert_with(|| Value::from(Dict::new()));
            if !matches!(inner, Value::Dict(..)) {
                *inner = Value::from(Dict::new());
            }
            if let Value::Dict(_, inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}
