//! What the operator wrote → what runs: [`layers`] are put together, [`keys`] fits them into [`written`] (what may be
//! typed), [`resolve`] turns that into [`settings`] (what it means). Nothing here may start anything.

pub mod attempts;
mod base_url;
pub mod device;
mod diagnostic;
mod files;
mod in_vain;
mod keys;
pub mod latency;
mod layers;
pub mod or_auto;
pub mod policy;
mod resolve;
pub mod server;
pub mod settings;
mod shown;
pub mod telemetry;
pub mod tenants;
pub mod trials;
pub mod wire;
pub mod written;

pub(crate) use base_url::is_this_machine;
pub use diagnostic::{ConfigErrors, Diagnostic, nearest};
pub use files::FileRead;
pub use layers::Inputs;
pub use server::ServerSettings;
pub use settings::{BackendSettings, EngineRole, EngineSettings, Secret, Settings};

use crate::embedded;

/// A config as it runs, and as it may be shown.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What runs.
    pub settings: Settings,
    /// Every setting with the layer it came from, without secrets.
    pub shown: serde_json::Value,
}

/// Reads and checks a config.
///
/// # Errors
/// Every mistake that is in it.
pub fn load(inputs: &Inputs) -> Result<Settings, ConfigErrors> {
    load_noting(inputs, &mut Vec::new()).map(|loaded| loaded.settings)
}

/// [`load`], noting every file that was read or could not be, also where the config is wrong.
///
/// # Errors
/// Every mistake that is in it.
pub fn load_noting(inputs: &Inputs, files: &mut Vec<FileRead>) -> Result<Loaded, ConfigErrors> {
    let schema = keys::Schema::new();
    let layered = layers::Layered::read(inputs, embedded::CONFIG, &schema.joined(), files).map_err(ConfigErrors)?;
    let written = keys::fit(&layered, &schema).map_err(ConfigErrors)?;
    let origins = layered.origins();
    let settings = resolve::resolve(&written, &layered, inputs, origins, files);
    Ok(Loaded { settings: settings.map_err(ConfigErrors)?, shown: shown::show(&written, &layered) })
}

#[cfg(test)]
mod tests;
