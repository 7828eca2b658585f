//! What the operator wrote → what runs. Two types on purpose: [`written`] is what was typed, [`settings`] is what it
//! means after files, addresses and secrets were looked up. Nothing here may start anything.

pub mod settings;

pub use settings::{BackendSettings, EngineRole, EngineSettings, ServerSettings, Settings};
