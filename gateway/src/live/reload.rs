//! Reads the config again and puts it in force, or says why not and leaves everything as it is.

use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;

use super::changes::{Changes, between};
use super::{Attempted, Generation, Live};
use crate::config::{ConfigErrors, FileRead, Inputs, load_noting};
use crate::metrics::Metrics;

/// Who asked for a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// SIGHUP.
    Signal,
    /// A file of the config has changed.
    File,
    /// The admin API.
    Admin,
}

/// What became of a reload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// The new config is in force.
    Applied {
        /// Its number.
        generation: u64,
        /// What is new in it.
        changed: Vec<String>,
    },
    /// The config says the same as before.
    Unchanged {
        /// The number of the config in force.
        generation: u64,
    },
    /// The old config stays: the new one is wrong.
    Invalid {
        /// The number of the config in force.
        generation: u64,
        /// Everything that is wrong.
        reasons: Vec<String>,
    },
    /// The old config stays: the new one changes what cannot change while running.
    NeedsRestart {
        /// The number of the config in force.
        generation: u64,
        /// The settings.
        reasons: Vec<String>,
    },
}

impl Outcome {
    /// Stable word for metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Outcome::Applied { .. } => "applied",
            Outcome::Unchanged { .. } => "unchanged",
            Outcome::Invalid { .. } => "invalid",
            Outcome::NeedsRestart { .. } => "needs_restart",
        }
    }

    /// Whether what was read is in force.
    pub fn is_good(&self) -> bool {
        matches!(self, Outcome::Applied { .. } | Outcome::Unchanged { .. })
    }
}

/// Why a config does not come into force.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    #[error("needs a restart: {}", .0.join(", "))]
    NeedsRestart(Vec<String>),
    #[error(transparent)]
    Build(#[from] anyhow::Error),
}

impl Live {
    /// Reads the config again. Goes on to its end even if nobody waits for it any more.
    pub async fn reload(self: &Arc<Self>, by: Trigger) -> Outcome {
        let live = Arc::clone(self);
        let generation = self.current().number;
        let done = tokio::spawn(async move { live.reload_now(by).await });
        done.await.unwrap_or_else(|_| Outcome::Invalid { generation, reasons: vec!["the reload broke off".to_owned()] })
    }

    async fn reload_now(&self, by: Trigger) -> Outcome {
        let _alone = self.reloading.lock().await;
        let old = self.current();
        let (inputs, running, metrics) = (self.inputs.clone(), Arc::clone(&old), Arc::clone(&self.metrics));
        let built = tokio::task::spawn_blocking(move || {
            let mut files = Vec::new();
            (build(&inputs, &running, metrics, &mut files), files)
        });
        let (built, files) = match built.await {
            Ok((built, files)) => (built, Some(files)),
            // A panic: logged where it happened.
            Err(_) => (Err(Refused::Build(anyhow::anyhow!("loading failed"))), None),
        };
        let outcome = match built {
            Ok(None) => Outcome::Unchanged { generation: old.number },
            Ok(Some((new, changed))) => {
                new.take_over(Some(&old));
                let generation = new.number;
                self.swap(Arc::new(new));
                Outcome::Applied { generation, changed }
            }
            Err(Refused::NeedsRestart(settings)) => Outcome::NeedsRestart {
                generation: old.number,
                reasons: settings.iter().map(|setting| format!("{setting} needs a restart")).collect(),
            },
            Err(Refused::Config(errors)) => {
                Outcome::Invalid { generation: old.number, reasons: errors.0.iter().map(ToString::to_string).collect() }
            }
            Err(Refused::Build(error)) => {
                Outcome::Invalid { generation: old.number, reasons: vec![format!("{error:#}")] }
            }
        };
        self.note(by, &outcome, files);
        outcome
    }

    fn note(&self, by: Trigger, outcome: &Outcome, files: Option<Vec<FileRead>>) {
        self.metrics.reloaded(outcome.as_str(), outcome.is_good());
        match outcome {
            Outcome::Applied { generation, changed } => {
                tracing::info!(?by, generation, changed = %changed.join(", "), "config reloaded");
            }
            Outcome::Unchanged { generation } => tracing::info!(?by, generation, "config read again: nothing changed"),
            Outcome::Invalid { generation, reasons } | Outcome::NeedsRestart { generation, reasons } => {
                tracing::error!(?by, generation, reasons = %reasons.join("; "), "config not reloaded: the old one stays");
            }
        }
        let mut last = self.attempted();
        let files = files.unwrap_or_else(|| last.files.iter().map(FileRead::again).collect());
        *last = Attempted { at: SystemTime::now(), outcome: Some(outcome.clone()), files };
    }
}

/// The next generation and what is new in it; `None`: nothing is.
fn build(
    inputs: &Inputs,
    running: &Generation,
    metrics: Arc<Metrics>,
    files: &mut Vec<FileRead>,
) -> Result<Option<(Generation, Vec<String>)>, Refused> {
    let loaded = load_noting(inputs, files)?;
    let Changes { taken, needs_restart } = between(&running.settings, &loaded.settings);
    if taken.is_empty() && needs_restart.is_empty() {
        return Ok(None);
    }
    // A disk that was full when it was written, or an editor half way: with it backends and keys would be gone.
    if let Some(config) = files.iter().find(|file| Some(file.path()) == inputs.file.as_deref() && file.is_empty()) {
        let file = config.path().display();
        return Err(anyhow::anyhow!("{file}: nothing is in it; for the defaults, write a comment into it").into());
    }
    if !needs_restart.is_empty() {
        return Err(Refused::NeedsRestart(needs_restart));
    }
    Ok(Some((Generation::build(loaded, Some(running), metrics)?, taken)))
}
