//! What a request is and where it should go. No network, no clock, no randomness: the same request and facts always
//! give the same plan. Nothing here may run a backend or know which dialect a caller spoke.
//!
//! A request flows down this list:
//!
//! - [`unwrap`]: the text a person or a trigger really asked, without what agents wrap around it.
//! - [`features`]: a handful of named facts about the request, computed once; the words of the policy language.
//! - [`classify`]: the kind of work it is, with its probability.
//! - [`facts`]: what the gateway knows about each backend, and which requests a backend can never take.
//! - [`latency`]: how long each backend would take, learnt from what it did.
//! - [`turn`]: which conversation a request belongs to, and which of its user turns.
//! - [`question`]: all that a decision is made from, as data.
//! - [`policy`]: the operator's rules, checked when they are read.
//! - [`condense`]: a smaller request for the diffusion route, where a rule wants one.
//! - [`plan`]: the decision with its reasons, as data.
//! - [`canary`]: a new policy for a share of the conversations, with guard rails.
//! - [`replay`]: recorded decisions made again under another policy.
//! - [`simulate`]: a fleet under a policy, before it is bought.
//! - [`docs`]: the pages that are made from the tables above.

pub mod canary;
pub mod classify;
pub mod condense;
pub mod docs;
pub mod facts;
pub mod features;
pub mod latency;
pub mod plan;
pub mod policy;
pub mod question;
pub mod replay;
pub mod simulate;
pub mod turn;
pub mod unwrap;
mod words_of;

pub use facts::{BackendFacts, BackendRole, Obstacle};
pub use features::{FEATURES, Features};
pub use plan::{PassedOver, PlannedAttempt, RoutePlan};
pub use policy::{Diagnostic, Policy, PolicyError};
pub use question::{Interval, JudgedFamily, Moment, Predicted, Question};
pub use turn::Turn;
pub use unwrap::{Asked, Trigger};
