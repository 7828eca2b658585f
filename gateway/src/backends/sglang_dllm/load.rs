//! How many requests wait at the server, by its own word (`GET /v1/loads`). Asked behind requests and at most once a
//! second; a request never waits for it, and a server that does not tell is taken to have room.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use reqwest::Client;
use serde_json::Value;
use tokio::time::Instant;
use weir_protocol::EngineError;

use crate::backends::upstream::once::at_most;
use crate::plain_json;

/// How old a reading may get, and how long it may take.
const FRESH: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(2);
/// From which age on a reading says nothing any more: nobody came since.
const OLD: Duration = Duration::from_secs(4);
const BODY_LIMIT: usize = 64 * 1024;

/// The load of one server.
#[derive(Debug)]
pub(super) struct Load {
    url: String,
    /// Most requests waiting there, beyond which the plan goes on.
    limit: u64,
    waiting: Arc<AtomicU64>,
    asked: Mutex<Option<Instant>>,
}

impl Load {
    pub(super) fn new(base_url: &str, limit: u64) -> Self {
        let url = format!("{base_url}/loads?include=core");
        Load { url, limit, waiting: Arc::default(), asked: Mutex::default() }
    }

    /// Refuses while the last reading was over the limit; asks anew behind the request when that was a while ago.
    pub(super) fn admit(&self, client: &Client, headers: &HeaderMap) -> Result<(), EngineError> {
        if self.limit == 0 {
            return Ok(());
        }
        if let Some(age) = self.due(Instant::now()) {
            if age >= OLD {
                self.waiting.store(0, Ordering::Relaxed);
            }
            let asking = client.get(&self.url).headers(headers.clone()).timeout(PATIENCE).send();
            let waiting = Arc::clone(&self.waiting);
            tokio::spawn(async move {
                let told = async { plain_json::parse_bytes(&at_most(asking.await.ok()?, BODY_LIMIT).await.ok()?).ok() };
                waiting.store(told.await.as_ref().and_then(waiting_in).unwrap_or(0), Ordering::Relaxed);
            });
        }
        match self.waiting.load(Ordering::Relaxed) {
            waiting if waiting >= self.limit => {
                Err(EngineError::Overloaded { limit: self.limit, retry_after: Some(FRESH) })
            }
            _ => Ok(()),
        }
    }

    /// The age of the last reading, where it is time for another.
    fn due(&self, now: Instant) -> Option<Duration> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let age = asked.map_or(Duration::MAX, |before| now.duration_since(before));
        let due = age >= FRESH;
        if due {
            *asked = Some(now);
        }
        due.then_some(age)
    }
}

/// The sum over the server's ranks; older versions give the list without an object around it.
fn waiting_in(told: &Value) -> Option<u64> {
    let ranks = told["loads"].as_array().or_else(|| told.as_array())?;
    let waiting: Vec<u64> = ranks.iter().filter_map(|rank| rank["num_waiting_reqs"].as_u64()).collect();
    (!waiting.is_empty()).then(|| waiting.iter().fold(0_u64, |sum, one| sum.saturating_add(*one)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ranks_are_added_up() {
        let told = json!({"loads": [{"dp_rank": 0, "num_waiting_reqs": 3}, {"dp_rank": 1, "num_waiting_reqs": 4}]});
        assert_eq!(waiting_in(&told), Some(7));
        assert_eq!(waiting_in(&json!([{"num_reqs": 5, "num_waiting_reqs": 2}])), Some(2));
        assert_eq!(waiting_in(&json!({"loads": []})), None);
        assert_eq!(waiting_in(&json!({"detail": "Not Found"})), None);
    }

    #[test]
    fn it_is_asked_once_a_second() {
        let load = Load::new("http://x/v1", 4);
        let start = Instant::now();
        assert_eq!(load.due(start), Some(Duration::MAX));
        assert_eq!((load.due(start), load.due(start + FRESH / 2)), (None, None));
        assert_eq!(load.due(start + FRESH), Some(FRESH));
    }

    #[tokio::test(start_paused = true)]
    async fn over_the_limit_the_plan_goes_on_but_not_by_what_was_told_long_ago() {
        let load = Load::new("http://127.0.0.1:1/v1", 4);
        *load.asked.lock().unwrap() = Some(Instant::now());
        let admit = || load.admit(&crate::backends::http_client("").build().unwrap(), &HeaderMap::new());
        assert_eq!(admit(), Ok(()));
        load.waiting.store(4, Ordering::Relaxed);
        let full = Err(EngineError::Overloaded { limit: 4, retry_after: Some(FRESH) });
        assert_eq!(admit(), full);
        tokio::time::advance(FRESH).await;
        assert_eq!(admit(), full, "asked anew meanwhile");
        tokio::time::advance(OLD).await;
        load.waiting.store(4, Ordering::Relaxed);
        assert_eq!(admit(), Ok(()));
    }
}
