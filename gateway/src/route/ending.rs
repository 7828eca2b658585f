//! The end of the process: an answer that outlasts the grace is told so, instead of being cut by a closed socket.
//! Must never end an answer for any other reason.

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tokio::sync::watch;
use weir_protocol::EngineError;

/// Resolves when answers must end, and never otherwise.
pub(super) type Ended = Shared<BoxFuture<'static, ()>>;

/// The one switch, and what hangs on it.
pub(super) struct Ending {
    switch: watch::Sender<bool>,
    ended: Ended,
}

impl Ending {
    pub(super) fn new() -> Self {
        let (switch, mut seen) = watch::channel(false);
        let ended = async move {
            if seen.wait_for(|ended| *ended).await.is_err() {
                // Nobody can say it any more.
                std::future::pending::<()>().await;
            }
        };
        Ending { switch, ended: ended.boxed().shared() }
    }

    /// From now on.
    pub(super) fn now(&self) {
        self.switch.send_replace(true);
    }

    pub(super) fn ended(&self) -> Ended {
        self.ended.clone()
    }
}

/// What such an answer ends in.
pub(super) fn stopping() -> EngineError {
    EngineError::StreamCut { message: "the gateway is stopping".into() }
}
