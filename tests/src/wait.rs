//! Waits for a condition instead of a time. The only place that pauses; how long it took must never matter to a test.

use std::time::Duration;

/// Longest wait for anything. Generous: CI has two busy cores, and a test that hits it has failed anyway.
pub const DEADLINE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(5);

/// Asks `condition` until it gives something.
///
/// # Errors
/// It gave nothing until [`DEADLINE`]; the error says what was waited for.
pub async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut condition: impl FnMut() -> F,
) -> anyhow::Result<T> {
    let polled = async {
        loop {
            if let Some(found) = condition().await {
                return found;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::time::timeout(DEADLINE, polled).await.map_err(|_| anyhow::anyhow!("waited too long until {what}"))
}
