//! Looks at the files of the config from time to time and asks for a reload when one has another content. Must never ask
//! twice for the same content: what was wrong with it is said once.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::{Live, Trigger};
use crate::config::FileRead;

/// Pause where files are not watched: a reload may turn it on.
const OFF: Duration = Duration::from_secs(1);

/// Goes on until the gateway is gone.
pub(crate) async fn watch(live: Weak<Live>) {
    let mut before = None;
    loop {
        let Some(pause) = live.upgrade().map(|live| live.current().settings.server.watch) else { return };
        tokio::time::sleep(pause.unwrap_or(OFF)).await;
        let Some(live) = live.upgrade().filter(|_| pause.is_some()) else { continue };
        before = look(&live, before).await;
    }
}

/// What the files hold now, if that is not what was read; the second time in a row that it is the same, it is taken: a file
/// that is just being written is left in peace.
async fn look(live: &Arc<Live>, before: Option<Vec<FileRead>>) -> Option<Vec<FileRead>> {
    let read = live.attempted().files.clone();
    let known = read.clone();
    let now = tokio::task::spawn_blocking(move || known.iter().map(FileRead::again).collect::<Vec<_>>()).await.ok()?;
    if now == read {
        return None;
    }
    if before.as_ref() != Some(&now) {
        return Some(now);
    }
    live.reload(Trigger::File).await;
    None
}
