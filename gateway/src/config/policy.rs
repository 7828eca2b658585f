//! `[policy]`: which rules, with every file they are made of. Files are read here, once, so that what runs never looks at
//! a file again. Must never judge a rule: that is `router-policies`.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use weir_router_policies::{Policy, PolicyError};

use super::diagnostic::nearest;
use super::files::FileRead;
use super::resolve::Checks;
use super::trials::{CanaryWritten, ShadowWritten};
use crate::embedded;

/// `[policy]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyWritten {
    /// File with the rules. Default empty: the profile's.
    pub file: String,
    /// A policy that is ready to use: `balanced`, `fastest`, `cheapest`, `quality`, `diffusion-first` or `ar-first`.
    /// Default empty: `balanced`.
    pub profile: String,
    /// A policy that decides beside the live one, and is only counted.
    pub shadow: ShadowWritten,
    /// A policy that decides for a share of the conversations.
    pub canary: CanaryWritten,
}

/// The policy's text and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicySource {
    /// The rules.
    pub text: String,
    /// A path, or `the embedded … policy`, for diagnostics.
    pub origin: String,
    /// The files it includes, with their texts.
    pub included: Vec<(PathBuf, String)>,
}

impl PolicySource {
    /// A profile.
    pub fn profile(name: &str) -> Option<PolicySource> {
        let (name, text) = embedded::PROFILES.into_iter().find(|(known, _)| *known == name)?;
        let origin = format!("the embedded {name} policy");
        Some(PolicySource { text: text.to_owned(), origin, included: Vec::new() })
    }

    /// A file with those it includes. Files that cannot be read are told when it is parsed.
    ///
    /// # Errors
    /// The file itself cannot be read.
    pub fn read(file: &Path) -> io::Result<PolicySource> {
        PolicySource::read_by(file, |path| std::fs::read(path))
    }

    /// [`PolicySource::read`], with files read by `bytes_of`.
    pub(super) fn read_by(
        file: &Path,
        mut bytes_of: impl FnMut(&Path) -> io::Result<Vec<u8>>,
    ) -> io::Result<PolicySource> {
        let mut text_of = |path: &Path| bytes_of(path).and_then(FileRead::text);
        let (text, origin) = (text_of(file)?, file.display().to_string());
        let mut included = Vec::new();
        let mut read = |path: &Path| {
            let text = text_of(path).map_err(|error| error.to_string())?;
            included.push((path.to_path_buf(), text.clone()));
            Ok(text)
        };
        // Only to learn which files there are; mistakes are told when it is parsed to be used.
        let _ = Policy::parse_with(&text, &origin, &mut read);
        Ok(PolicySource { text, origin, included })
    }

    /// The policy.
    ///
    /// # Errors
    /// Every mistake, with its place.
    pub fn parse(&self) -> Result<Policy, PolicyError> {
        let mut read = |path: &Path| {
            let known = self.included.iter().find(|(known, _)| known == path);
            known.map(|(_, text)| text.clone()).ok_or_else(|| "no such file".to_owned())
        };
        Policy::parse_with(&self.text, &self.origin, &mut read)
    }
}

impl Checks<'_> {
    /// The rules that `[policy]` names.
    pub(super) fn policy(&mut self, typed: &PolicyWritten) -> Option<PolicySource> {
        if !typed.file.is_empty() && !typed.profile.is_empty() {
            let help = "leave one of them out; a file of your own may begin as a copy of the profile";
            self.say(&["policy", "profile"], "a file is named, too", help);
            return None;
        }
        if typed.file.is_empty() {
            let name = if typed.profile.is_empty() { "balanced" } else { typed.profile.as_str() };
            let source = PolicySource::profile(name);
            if source.is_none() {
                let known = embedded::PROFILES.map(|(known, _)| known);
                let near = nearest(name, known).map(|near| format!("did you mean `{near}`?"));
                let help = near.unwrap_or_else(|| format!("there are {}", known.join(", ")));
                self.say(&["policy", "profile"], format!("no profile is named `{name}`"), help);
            }
            return source;
        }
        let path = self.base_dir(&["policy", "file"]).join(&typed.file);
        match PolicySource::read_by(&path, |path| self.read(path)) {
            Ok(source) => Some(source),
            Err(error) => {
                let help = "name your rules' file, or take a `profile`; `weir policy show balanced` prints one to copy";
                self.say(&["policy", "file"], format!("`{}` cannot be read: {error}", path.display()), help);
                None
            }
        }
    }
}
