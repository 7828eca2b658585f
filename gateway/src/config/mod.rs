//! What the operator wrote → what runs: [`layers`] are put together, [`keys`] fits them into [`written`] (what may be
//! typed), [`resolve`] turns that into [`settings`] (what it means). Nothing here may start anything.

pub mod attempts;
pub mod device;
mod diagnostic;
mod keys;
mod layers;
pub mod or_auto;
pub mod policy;
mod resolve;
pub mod settings;
pub mod telemetry;
pub mod tenants;
pub mod trials;
pub mod wire;
pub mod written;

pub use diagnostic::{ConfigErrors, Diagnostic, nearest};
pub use layers::Inputs;
pub use settings::{BackendSettings, EngineRole, EngineSettings, Secret, ServerSettings, Settings};

use crate::embedded;

/// Reads and checks a config.
pub fn load(inputs: &Inputs) -> Result<Settings, ConfigErrors> {
    let layered = layers::Layered::read(inputs, embedded::CONFIG).map_err(ConfigErrors)?;
    let written = keys::fit(&layered).map_err(ConfigErrors)?;
    let origins = layered.origins();
    resolve::resolve(&written, &layered, &inputs.env, origins).map_err(ConfigErrors)
}

#[cfg(test)]
mod tests;
