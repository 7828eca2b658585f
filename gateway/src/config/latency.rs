//! `[latency]`: how backends' times are learnt and kept. Must never open the file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use weir_router_policies::latency::LatencySettings;

use super::resolve::Checks;

/// `[latency]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LatencyWritten {
    /// Where what was learnt is kept across restarts. Default empty: nowhere.
    pub file: String,
    /// Seconds between two savings. Default 60.
    pub save_s: u64,
    /// Seconds after which what was seen counts half. Default 600.
    pub half_life_s: u64,
    /// Every so many requests a backend of the plan that was not seen lately is asked first. Default 0: never.
    pub probe_every: u64,
    /// Seconds without an answer after which a backend counts as not seen lately. Default 300.
    pub probe_after_s: u64,
}

impl Default for LatencyWritten {
    fn default() -> Self {
        LatencyWritten { file: String::new(), save_s: 60, half_life_s: 600, probe_every: 0, probe_after_s: 300 }
    }
}

/// `[latency]`, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct ForesightSettings {
    /// How the model forgets and probes.
    pub model: LatencySettings,
    /// Where it is kept.
    pub file: Option<PathBuf>,
    /// Time between two savings.
    pub save_every: Duration,
}

impl Default for ForesightSettings {
    fn default() -> Self {
        ForesightSettings { model: LatencySettings::default(), file: None, save_every: Duration::from_secs(60) }
    }
}

/// What is written beside `file` and takes its place when it is whole. Another one each time: gateways that share the file,
/// or the one before a reload and the one after it, may save at once, and must not write into each other's.
pub fn written_first(file: &Path) -> PathBuf {
    file.with_extension(format!("{}.new", uuid::Uuid::new_v4().simple()))
}

impl Checks<'_> {
    pub(super) fn latency(&mut self, typed: &LatencyWritten) -> ForesightSettings {
        for (key, value) in [("save_s", typed.save_s), ("half_life_s", typed.half_life_s)] {
            if value == 0 {
                self.say(&["latency", key], "must be at least 1", "");
            }
        }
        let file = (!typed.file.is_empty()).then(|| self.base_dir(&["latency", "file"]).join(&typed.file));
        ForesightSettings {
            model: LatencySettings {
                half_life_s: typed.half_life_s as f64,
                probe_every: typed.probe_every,
                probe_after_s: typed.probe_after_s as f64,
            },
            file,
            save_every: Duration::from_secs(typed.save_s.max(1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Inputs, load};

    #[test]
    fn a_file_lies_beside_the_config_and_zero_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("weir.toml");
        let load_text = |text: &str| {
            std::fs::write(&file, text).unwrap();
            load(&Inputs { file: Some(file.clone()), ..Inputs::default() })
        };
        let latency = load_text("[latency]\nfile = \"times.json\"\nprobe_every = 9").unwrap().latency;
        assert_eq!(latency.file, Some(folder.path().join("times.json")));
        assert_eq!((latency.model.probe_every, latency.model.half_life_s), (9, 600.0));
        let error = load_text("[latency]\nhalf_life_s = 0").unwrap_err().to_string();
        assert!(error.ends_with("`latency.half_life_s`: must be at least 1"), "{error}");
    }
}
