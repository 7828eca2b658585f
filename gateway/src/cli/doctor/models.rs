//! The built-in engines' files, from their headers, and whether they fit into memory. Must never read the weights.

use std::path::Path;

use weir_diffusion_engine::EngineKind;
use weir_diffusion_engine::inspect::inspect;

use super::{Finding, Subject, bytes};
use crate::config::settings::ModelSource;
use crate::config::{EngineRole, EngineSettings};
use crate::memory;

pub(super) fn look(subject: &Subject) -> Vec<Finding> {
    let Ok(settings) = &subject.settings else {
        return vec![Finding::note("not looked at: the config comes first")];
    };
    if settings.engines.is_empty() {
        return vec![Finding::note("both built-in engines are off")];
    }
    settings.engines.iter().map(engine).collect()
}

fn engine(settings: &EngineSettings) -> Finding {
    let role = settings.role.as_str();
    match &settings.model {
        ModelSource::Nano => Finding::ok(format!("engine `{role}`: {}, embedded", settings.name)),
        ModelSource::Dir { path, .. } => files(role, settings.role, path),
    }
}

fn files(role: &str, kind: EngineRole, path: &Path) -> Finding {
    let report = match inspect(path) {
        Ok(report) => report,
        Err(error) => {
            return Finding::problem(format!("engine `{role}`: {error}"))
                .fix(format!("`weir model verify {}` lists every fault", path.display()));
        }
    };
    let fits = matches!(
        (kind, report.kind),
        (EngineRole::Diffusion, EngineKind::Diffusion) | (EngineRole::Ar, EngineKind::Autoregressive)
    );
    if !fits {
        let other = if kind == EngineRole::Diffusion { "ar" } else { "diffusion" };
        return Finding::problem(format!("engine `{role}`: {} is the other kind of model", path.display()))
            .fix(format!("name it as `engine.{other}.model`"));
    }
    let size: u64 = report.types.iter().map(|share| share.bytes).sum();
    let text = format!("engine `{role}`: {}, {} in {}", report.architecture, bytes(size), path.display());
    match memory::available() {
        Some(free) if size > free => Finding::problem(format!("{text}; {} of memory are available", bytes(free)))
            .fix("take a smaller or more tightly packed model, or free memory"),
        _ => Finding::ok(text),
    }
}
