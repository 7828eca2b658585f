//! What is said of a tenant in vain: models that nobody here is called by, backends that are off, a budget of money where
//! nothing has a price, keys that have all ended; and memory for K/V that is not there. The config is good with it, and
//! does not what its operator meant. Must never stop a start.

use crate::backends::Registry;
use crate::config::device::DeviceSettings;
use crate::config::tenants::TenantsSettings;
use crate::config::{EngineSettings, nearest};
use crate::route::serves;
use crate::tenants::{Price, Tenant, fits};

/// A sentence for each.
pub(super) fn complaints(settings: &TenantsSettings, backends: &Registry, now: u64) -> Vec<String> {
    let has_price = settings.prices.values().any(Price::is_any);
    let mut out = Vec::new();
    for tenant in &settings.tenants {
        let name = &tenant.name;
        if tenant.limits.money_per_day > 0 && !has_price {
            out.push(format!("tenant `{name}`: its `money_per_day` limits nothing: no backend has a `price`"));
        }
        if tenant.keys_end().is_some_and(|end| end <= now) {
            out.push(format!("tenant `{name}`: all of its keys have ended (`weir key rotate {name}` makes another)"));
        }
    }
    out.extend(of_lists(&settings.tenants, backends));
    out
}

/// Whether the K/V memory that is asked for is more than `total`, the bytes there are; a GPU's is its own.
pub(super) fn beyond_memory(engines: &[EngineSettings], total: u64) -> Option<String> {
    let on_cpu = engines.iter().filter(|engine| engine.device == DeviceSettings::Cpu);
    let asked = on_cpu.filter_map(|engine| engine.cache.bytes).fold(0, u64::saturating_add);
    (asked > total).then(|| {
        let (asked, total) = (asked >> 20, total >> 20);
        format!("`kv_cache_mb`: {asked} MiB for K/V, and there are {total} MiB of memory: the system will end this process when they fill")
    })
}

fn of_lists(tenants: &[Tenant], backends: &Registry) -> Vec<String> {
    let models = backends.models();
    let ids: Vec<&str> = models.iter().map(|entry| entry.id.as_str()).collect();
    tenants.iter().flat_map(|tenant| of_one(tenant, backends, &ids)).collect()
}

fn of_one(tenant: &Tenant, backends: &Registry, ids: &[&str]) -> Vec<String> {
    let mut out = Vec::new();
    let name = &tenant.name;
    let is_off = |name: &&String| backends.iter().all(|one| !one.facts.answers_to(name));
    for off in tenant.backends.iter().filter(is_off) {
        out.push(format!("tenant `{name}`: its backend `{off}` is switched off"));
    }
    for allowed in &tenant.models {
        let mut meant = ids.iter().filter(|id| fits(allowed, id)).peekable();
        if meant.peek().is_none() {
            let near = nearest(allowed.trim_end_matches('*'), ids.iter().copied());
            let help =
                near.map_or_else(|| format!("there are {}", ids.join(", ")), |near| format!("did you mean `{near}`?"));
            out.push(format!("tenant `{name}`: no model is called `{allowed}`; {help}"));
        } else if !meant.any(|id| serves(backends, &tenant.backends, id)) {
            out.push(format!("tenant `{name}`: none of its backends has the model `{allowed}` that it may name"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Inputs, load};
    use crate::tenants::key::KeyHash;

    #[track_caller]
    fn check(lists: &str, said: &[&str]) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("weir.toml");
        let hash = KeyHash::of(b"k");
        let text = format!(
            "[engine.diffusion]\nenabled = false\n[engine.ar]\nenabled = false\n\
             [[backend]]\nname = \"gpu-1\"\ngroup = \"gpu\"\nbase_url = \"http://h/v1\"\nmodel = \"qwen3-8b\"\n\
             [[backend]]\nname = \"cloud\"\nbase_url = \"http://h/v1\"\nmodel = \"gpt-5\"\n\
             [[tenant]]\nname = \"t\"\nkeys = [{{ hash = \"{hash}\", expires = \"2026-12-31\" }}]\n{lists}\n"
        );
        std::fs::write(&file, text).unwrap();
        let settings = load(&Inputs { file: Some(file), ..Inputs::default() }).unwrap();
        let backends = Registry::start(&settings, None).unwrap();
        let found = complaints(&settings.tenants, &backends, 1_795_000_000);
        assert_eq!(found.len(), said.len(), "{found:?}");
        for (found, said) in found.iter().zip(said) {
            assert!(found.contains(said), "{found}");
        }
    }

    #[test]
    fn memory_that_is_not_there_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("weir.toml");
        std::fs::write(&file, "[engine.diffusion]\nkv_cache_mb = 600\n[engine.ar]\nkv_cache_mb = 500").unwrap();
        let settings = load(&Inputs { file: Some(file), ..Inputs::default() }).unwrap();
        assert_eq!(beyond_memory(&settings.engines, 1100 << 20), None);
        let said = beyond_memory(&settings.engines, 1099 << 20).unwrap();
        assert!(said.starts_with("`kv_cache_mb`: 1100 MiB for K/V, and there are 1099 MiB"), "{said}");
        assert_eq!(beyond_memory(&[], 0), None);
    }

    #[test]
    fn what_is_named_in_vain_is_told() {
        check("", &[]);
        check("models = [\"auto\", \"gpu\", \"gpu-1\", \"qwen*\", \"gpt-5\", \"*\", \"ar\"]", &[]);
        check("models = [\"qwen-8b\"]", &["no model is called `qwen-8b`; did you mean `qwen3-8b`?"]);
        check("models = [\"zzz*\"]", &["`zzz*`; there are auto, ar, gpu, gpu-1, qwen3-8b, cloud, gpt-5"]);
        check("models = [\"diffusion\"]", &["no model is called `diffusion`"]);
        check("backends = [\"diffusion\", \"gpu\"]", &["its backend `diffusion` is switched off"]);
        check("models = [\"gpt*\"]\nbackends = [\"gpu\"]", &["none of its backends has the model `gpt*`"]);
        check("models = [\"auto\"]\nbackends = [\"ar\"]", &["`ar` is switched off"]);
        check("money_per_day = 1.0", &["no backend has a `price`"]);
        let dear = "[[backend]]\nname = \"b\"\nbase_url = \"http://h\"\nmodel = \"m\"\nprice = { input = 1.0 }";
        check(&format!("money_per_day = 1.0\n{dear}"), &[]);
    }
}
