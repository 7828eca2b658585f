//! A policy with the files it includes, read one by one through who may read files. Rules of included files stand before
//! the file's own, in the order named. Must never read a file itself.

use std::path::{Component, Path, PathBuf};

use super::diagnostic::{Diagnostic, position};
use super::written::WrittenPolicy;

/// How deep files may include files.
const MAX_DEPTH: usize = 8;
/// Most files of one policy.
const MAX_FILES: usize = 64;

/// Gives the text of an included file, by the path as it was resolved.
pub type ReadFile<'a> = &'a mut dyn FnMut(&Path) -> Result<String, String>;

/// One file, as read.
pub(super) struct File {
    pub(super) origin: String,
    pub(super) text: String,
    pub(super) written: WrittenPolicy,
}

/// The file and what it includes, included ones first.
pub(super) fn read(text: &str, origin: &str, read: ReadFile<'_>) -> Result<Vec<File>, Vec<Diagnostic>> {
    let mut reading = Reading { read, files: Vec::new(), under_way: Vec::new(), found: Vec::new() };
    reading.file(text, origin);
    if reading.found.is_empty() { Ok(reading.files) } else { Err(reading.found) }
}

struct Reading<'a> {
    read: ReadFile<'a>,
    files: Vec<File>,
    under_way: Vec<PathBuf>,
    found: Vec<Diagnostic>,
}

impl Reading<'_> {
    fn file(&mut self, text: &str, origin: &str) {
        let written: WrittenPolicy = match toml::from_str(text) {
            Ok(written) => written,
            Err(error) => {
                self.found.push(Diagnostic::of_toml(&error, text, origin));
                return;
            }
        };
        self.under_way.push(PathBuf::from(origin));
        for include in &written.include {
            let path = beside(origin, include.get_ref());
            let mut say = |message: String, help: &str| {
                self.found.push(Diagnostic {
                    origin: origin.to_owned(),
                    position: Some(position(text, include.span().start)),
                    rule: String::new(),
                    message,
                    help: help.to_owned(),
                });
            };
            if self.under_way.contains(&path) {
                say(format!("`{}` includes itself", path.display()), "");
            } else if self.under_way.len() >= MAX_DEPTH || self.files.len() >= MAX_FILES {
                say("too many files include files".to_owned(), "put rules that belong together into one file");
            } else if self.files.iter().all(|file| Path::new(&file.origin) != path) {
                match (self.read)(&path) {
                    Ok(text) => self.file(&text, &path.display().to_string()),
                    Err(why) => {
                        say(format!("`{}` cannot be read: {why}", path.display()), "paths start beside the file")
                    }
                }
            }
        }
        self.under_way.pop();
        self.files.push(File { origin: origin.to_owned(), text: text.to_owned(), written });
    }
}

/// `name` beside the file `origin`, without `.` and `..` where they can be taken out.
pub(super) fn beside(origin: &str, name: &str) -> PathBuf {
    let mut out = PathBuf::new();
    for part in Path::new(origin).parent().unwrap_or(Path::new("")).join(name).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if out.file_name().is_some() => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}
