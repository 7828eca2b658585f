//! What a caller is told when no attempt could answer. Some clients retry for minutes what looks as if it may pass, and
//! lock a whole provider for one 401: they get an error that makes them go elsewhere at once. Must never hide from a
//! caller what only the caller can mend.

use std::time::Duration;

use weir_protocol::EngineError;

use super::Refusal;
use crate::caller::ClientKind;
use crate::config::attempts::{ExhaustedWritten, Telling};

/// The refusal as this kind of client should see it.
pub(super) fn told(refusal: Refusal, client: ClientKind, settings: &ExhaustedWritten) -> Refusal {
    let telling = match client {
        ClientKind::OpenClaw => settings.openclaw,
        ClientKind::Other => settings.others,
    };
    let retry_after = match telling {
        Telling::Plain => return refusal,
        Telling::RetryLater => Some(Duration::from_secs(settings.retry_after_s)),
        Telling::NotFound => None,
    };
    // Too long for every backend: only a shorter conversation helps, and clients shorten it when they hear of it.
    let theirs = matches!(refusal.error, EngineError::ContextTooLong { .. } | EngineError::Unsupported { .. });
    if theirs || !refusal.error.may_try_another() {
        return refusal;
    }
    Refusal { error: EngineError::Exhausted { retry_after }, ..refusal }
}

/// Which of several failures helps the caller most: one that no other attempt could mend; else the last that may
/// pass by itself, since trying again is worth it; else the last the caller can mend; else the last.
pub(super) fn most_useful(failures: Vec<EngineError>) -> EngineError {
    let worth = |error: &EngineError| match error {
        EngineError::InvalidRequest { .. }
        | EngineError::UnknownModel { .. }
        | EngineError::Denied { .. }
        | EngineError::Exhausted { .. }
        | EngineError::Cancelled => 3,
        EngineError::ContextTooLong { .. }
        | EngineError::Unsupported { .. }
        | EngineError::Upstream { status: 400 | 422, .. } => 1,
        EngineError::RateLimited { .. }
        | EngineError::Overloaded { .. }
        | EngineError::Timeout { .. }
        | EngineError::Upstream { .. }
        | EngineError::StreamCut { .. } => 2,
        EngineError::Unauthorized { .. } | EngineError::EmptyAnswer | EngineError::Internal { .. } => 0,
    };
    // Of equals, `max_by_key` gives the last.
    failures.into_iter().max_by_key(worth).unwrap_or_else(|| EngineError::internal("the plan has no attempts"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(client: ClientKind, telling: Telling, error: EngineError, expect: EngineError) {
        let settings = ExhaustedWritten { openclaw: telling, ..ExhaustedWritten::default() };
        assert_eq!(told(Refusal { report: None, error }, client, &settings).error, expect);
    }

    #[test]
    fn openclaw_is_sent_elsewhere_and_others_are_told_the_truth() {
        let key = || EngineError::Unauthorized { status: 401 };
        let later = EngineError::Exhausted { retry_after: Some(Duration::from_secs(120)) };
        check(ClientKind::OpenClaw, Telling::RetryLater, key(), later);
        check(ClientKind::OpenClaw, Telling::NotFound, key(), EngineError::Exhausted { retry_after: None });
        check(ClientKind::OpenClaw, Telling::Plain, key(), key());
        check(ClientKind::Other, Telling::RetryLater, key(), key());
    }

    #[test]
    fn what_may_pass_is_worth_more_than_a_refusal() {
        let said = |status| EngineError::Upstream { status, message: String::new(), retry_after: None };
        let key = EngineError::Unauthorized { status: 401 };
        assert_eq!(most_useful(vec![said(503), said(400)]), said(503));
        assert_eq!(most_useful(vec![key, said(422)]), said(422));
    }

    #[test]
    fn what_the_caller_can_mend_is_said() {
        for error in [
            EngineError::invalid("messages", "empty"),
            EngineError::ContextTooLong { limit: 1, got: 2 },
            EngineError::UnknownModel { model: "x".into(), hint: String::new() },
        ] {
            check(ClientKind::OpenClaw, Telling::NotFound, error.clone(), error);
        }
    }
}
