//! `weir route explain`: the same explanation as `POST /v1/route/explain`, for a body in a file.

use std::io::Read;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use super::render;
use crate::api::any_dialect;
use crate::backends::expected;
use crate::cli::policy::named;
use crate::config::{Settings, nearest};
use crate::route::{Explained, Foresight, moment};

/// Largest body read.
const BODY_MAX: u64 = 64 << 20;

/// What the operator said.
pub(super) struct Told {
    pub(super) file: PathBuf,
    pub(super) policy: Option<String>,
    pub(super) dialect: Option<String>,
    pub(super) tenant: Option<String>,
}

pub(super) fn command(told: &Told, settings: &Settings, json: bool) -> Result<()> {
    let explained = explained(told, settings)?;
    match json {
        true => println!("{}", serde_json::to_string_pretty(&explained).context("an explanation is JSON")?),
        false => print!("{}", render::text(&explained, settings.latency.file.as_deref())),
    }
    Ok(())
}

fn explained(told: &Told, settings: &Settings) -> Result<Explained> {
    let policy = match &told.policy {
        None => settings.policy.parse()?,
        Some(name) => named(name)?.parse()?,
    };
    let dialect = match &told.dialect {
        None => None,
        Some(word) => match any_dialect::named(word) {
            Some(dialect) => Some(dialect),
            None => bail!("--dialect: unknown dialect `{word}`; `weir route explain --help` lists them"),
        },
    };
    let mut request = any_dialect::decode(&body(told)?, dialect)?.request;
    let mut facts = expected::facts(settings);
    if let Some(name) = &told.tenant {
        let tenants = &settings.tenants.tenants;
        let Some(tenant) = tenants.iter().find(|tenant| *tenant.name == **name) else {
            let near = nearest(name, tenants.iter().map(|tenant| &*tenant.name));
            let near = near.map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
            bail!("--tenant: no tenant is named `{name}`{near}");
        };
        request.tenant = Some(name.as_str().into());
        let may = |name: &str| tenant.backends.iter().any(|allowed| allowed == name);
        facts.retain(|one| tenant.backends.is_empty() || may(&one.name) || one.group.as_deref().is_some_and(may));
    }
    let owner = owner(settings, &request.model);
    let model = request.model.clone();
    let tenant = told.tenant.as_deref().unwrap_or_default();
    let known = model == "auto" || owner.is_some() || ["diffusion", "ar"].contains(&model.as_str());
    if !known && facts.iter().all(|one| !one.answers_to(&model)) {
        let ids = settings.backends.iter().flat_map(|backend| backend.ids()).map(String::as_str);
        let names = facts.iter().map(|one| one.name.as_str());
        let help = match nearest(&model, ids.chain(names).chain(["auto", "diffusion", "ar"])) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "`weir check` lists the known ones".to_owned(),
        };
        bail!("unknown model `{model}` ({help})");
    }
    let foresight = Foresight::new(settings.latency.clone(), facts.clone());
    Ok(Explained::of(&request, &policy, (&facts, &foresight), owner, (tenant, moment())))
}

/// The backend, or its group, that alone has this model.
fn owner<'a>(settings: &'a Settings, model: &str) -> Option<&'a str> {
    let engine = settings.engines.iter().find(|engine| engine.name == model).map(|engine| engine.role.as_str());
    let has = |backend: &&crate::config::BackendSettings| backend.ids().any(|own| own == model);
    let upstream = || settings.backends.iter().find(has);
    engine.or_else(|| upstream().map(|backend| backend.asking.group.as_deref().unwrap_or(&backend.name)))
}

fn body(told: &Told) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    let place = || told.file.display().to_string();
    let read = match told.file.as_os_str() == "-" {
        true => std::io::stdin().take(BODY_MAX).read_to_end(&mut body),
        false => std::fs::File::open(&told.file).and_then(|file| file.take(BODY_MAX).read_to_end(&mut body)),
    };
    read.with_context(place)?;
    Ok(body)
}
