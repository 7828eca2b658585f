//! What policies would know of a config's backends, without loading an engine or opening a connection: for checks, tests
//! and explanations at the terminal. Must never differ from what the registry knows of the same config.

use weir_diffusion_engine::inspect;
use weir_router_policies::BackendFacts;

use super::registry::{engine_facts, upstream_facts};
use crate::config::settings::ModelSource;
use crate::config::{EngineSettings, Settings};
use crate::embedded;

/// Window assumed where a checkpoint does not tell.
const UNTOLD_CONTEXT: u64 = 32_768;

/// The facts, built-in engines first.
pub fn facts(settings: &Settings) -> Vec<BackendFacts> {
    let engines = settings.engines.iter().map(|engine| engine_facts(engine, context(engine)));
    engines.chain(settings.backends.iter().map(upstream_facts)).collect()
}

fn context(engine: &EngineSettings) -> u64 {
    let told = match &engine.model {
        ModelSource::Dir { path, .. } => inspect::inspect(path).ok().map(|report| report.context),
        ModelSource::Nano => {
            let config = embedded::nano_config(engine.role);
            let config: Option<serde_json::Value> = serde_json::from_slice(config).ok();
            config.and_then(|config| config.get("max_position_embeddings")?.as_u64())
        }
    };
    told.unwrap_or(UNTOLD_CONTEXT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backends::Registry;
    use crate::config::Inputs;

    #[test]
    fn nothing_loaded_says_the_same_as_everything_loaded() {
        let settings = crate::config::load(&Inputs::default()).unwrap();
        assert_eq!(facts(&settings), Registry::start(&settings, None).unwrap().facts());
    }
}
