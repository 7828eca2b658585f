//! The decision about one request, with its reasons as data: headers, logs, metrics and explanations all print this
//! one struct. Must never hold prompt text.

use serde::Serialize;
use weir_protocol::DiffusionOptions;

use crate::facts::Obstacle;
use crate::features::Features;
use crate::question::{CondensedSize, JudgedFamily, Predicted};

/// Which backends to try, in order, and why.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RoutePlan {
    /// The label of the deciding rule, or the pinned model id: what the plan aims at. From a bounded set.
    pub route: String,
    /// The deciding rule's name, or `pin`.
    pub rule: String,
    /// One line for people: the rule's reason, and why its first choice was passed over if it was.
    pub reason: String,
    /// What to try, in order. Empty only when no backend of the plan exists.
    pub attempts: Vec<PlannedAttempt>,
    /// Backends the rule wanted that cannot take the request.
    pub passed_over: Vec<PassedOver>,
    /// The backend that answered last in this user turn, and whether it goes on.
    pub stay: Option<Stay>,
    /// Trouble met on the way, such as a condition that could not be evaluated.
    pub notes: Vec<String>,
    /// What the classifier said.
    pub family: Option<JudgedFamily>,
    /// What was expected of backends.
    pub predicted: Vec<Predicted>,
    /// The conversation's number: draws by it come out the same when the decision is made again.
    pub conversation: u64,
    /// What the request condenses to, where the policy condenses.
    pub condensed: Option<CondensedSize>,
    /// What the decision was made from.
    pub features: Features,
}

/// One backend to try.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlannedAttempt {
    /// Its name.
    pub backend: String,
    /// How a diffusion engine should decode, as the rule says it. Empty where the caller said anything about it (half
    /// a preset is not a preset) and for other backends.
    pub decoding: DiffusionOptions,
    /// The group whose members stand in for each other here; `None` where the backend itself was named. Attempts of one
    /// group follow each other, in no order that means anything.
    pub group: Option<String>,
    /// How long to wait for the first content before the next attempt takes over; `None`: the backend's own limit.
    pub first_content_ms: Option<u64>,
    /// Whether it gets the condensed request instead of the caller's own.
    pub condensed: bool,
}

/// One backend that was wanted but cannot take the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PassedOver {
    /// Its name, or `role:…` when no backend has the role.
    pub backend: String,
    /// Why.
    pub why: Obstacle,
}

/// A conversation's backend within one user turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stay {
    /// Its name.
    pub backend: String,
    /// The fact that keeps it from going on; `None`: it goes on.
    pub against: Option<Obstacle>,
}
