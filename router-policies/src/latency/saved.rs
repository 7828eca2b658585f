//! What was learnt, as a file: JSON with a version. A file of another version, or one that is damaged, is refused whole;
//! the caller goes on without it. Must never be trusted further than `is_sound` looks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::LatencyModel;
use super::backend::Learnt;

/// Changes whenever an older file could be misread.
const VERSION: u32 = 1;
/// Most backends a file may have.
const BACKENDS_MAX: usize = 10_000;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    backends: BTreeMap<String, Learnt>,
}

/// Why a file was not taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SavedError {
    /// It is no such file, or a damaged one.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    /// It is another version's.
    #[error("it is of version {0}, this program writes {VERSION}")]
    Version(u32),
    /// Its numbers are none.
    #[error("the figures of backend `{0}` make no sense")]
    Unsound(String),
}

impl LatencyModel {
    /// What was learnt, to be kept.
    pub fn save(&self) -> String {
        let file = File { version: VERSION, backends: self.backends.clone() };
        // Names and finite numbers always have a JSON text; an empty one would be refused when it is read.
        serde_json::to_string(&file).unwrap_or_default()
    }

    /// Goes on from what was kept. Nothing changes if it is refused.
    ///
    /// # Errors
    /// Why it was.
    pub fn load(&mut self, text: &str) -> Result<(), SavedError> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let unreadable = |error: serde_json::Error| SavedError::Unreadable(error.to_string());
        let Version { version } = serde_json::from_str(text).map_err(unreadable)?;
        if version != VERSION {
            return Err(SavedError::Version(version));
        }
        let file: File = serde_json::from_str(text).map_err(unreadable)?;
        if file.backends.len() > BACKENDS_MAX {
            return Err(SavedError::Unreadable("it has too many backends".to_owned()));
        }
        if let Some((name, _)) = file.backends.iter().find(|(_, learnt)| !learnt.is_sound()) {
            return Err(SavedError::Unsound(name.chars().take(64).collect()));
        }
        self.backends = file.backends;
        Ok(())
    }
}
