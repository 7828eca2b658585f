//! Active health checks: asks each backend that has one, from time to time, whether it is well, and tells its standing.
//! Must never take part in a request.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use reqwest::Client;
use tokio::task::AbortHandle;

use super::{Registry, headers};
use crate::config::BackendSettings;
use crate::config::attempts::HealthSettings;
use crate::route::Standing;

/// The running checks by backend; each ends when the last config that has it is gone.
#[derive(Default)]
pub struct Checks(HashMap<String, Running>);

#[derive(Clone)]
struct Running {
    /// Whom it tells.
    standing: Arc<Standing>,
    _task: Arc<Ending>,
}

struct Ending(AbortHandle);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts a task for each backend that has a check, or keeps the one of `before` for a backend that was taken over.
///
/// # Errors
/// There is no HTTP client.
pub fn start(
    backends: &Registry,
    settings: &[BackendSettings],
    before: Option<&Checks>,
) -> Result<Checks, reqwest::Error> {
    let mut checks = Checks::default();
    for one in settings {
        let (Some(health), Some(backend)) = (&one.asking.health, backends.by_name(&one.name)) else { continue };
        let same = before.and_then(|before| before.0.get(&one.name));
        let running = match same.filter(|same| Arc::ptr_eq(&same.standing, &backend.standing)) {
            Some(same) => same.clone(),
            None => {
                let client = super::http_client(&health.url)
                    .redirect(reqwest::redirect::Policy::none())
                    .timeout(health.timeout)
                    .user_agent(concat!("weir/", env!("CARGO_PKG_VERSION")))
                    .build()?;
                let check = Check { client, url: health.url.clone(), headers: headers(one) };
                let standing = Arc::clone(&backend.standing);
                let task = tokio::spawn(check.run(health.clone(), Arc::clone(&standing)));
                Running { standing, _task: Arc::new(Ending(task.abort_handle())) }
            }
        };
        checks.0.insert(one.name.clone(), running);
    }
    Ok(checks)
}

struct Check {
    client: Client,
    url: String,
    headers: HeaderMap,
}

impl Check {
    async fn run(self, health: HealthSettings, standing: Arc<Standing>) {
        loop {
            standing.checked(self.is_well().await);
            tokio::time::sleep(pause(health.interval, uuid::Uuid::new_v4().as_u128())).await;
        }
    }

    async fn is_well(&self) -> bool {
        self.client
            .get(&self.url)
            .headers(self.headers.clone())
            .send()
            .await
            .is_ok_and(|response| response.status().is_success())
    }
}

/// A fifth more or less, so that many gateways do not all ask at once.
fn pause(interval: Duration, chance: u128) -> Duration {
    interval.mul_f64(0.8 + 0.4 * (chance % 1000) as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_differ_by_a_fifth() {
        let ten = Duration::from_secs(10);
        assert_eq!(pause(ten, 0), Duration::from_secs(8));
        assert_eq!(pause(ten, 500), ten);
        assert!(pause(ten, 999) < Duration::from_secs(12));
    }
}
