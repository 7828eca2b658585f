//! What the gateway knows about each backend, and the hard rules: which requests a backend can never take. These are
//! facts, so no policy can switch them off. Must hold no preference; preferring is the policy's business.

use std::borrow::Cow;

use serde::Serialize;

use crate::features::Features;

/// How a backend makes its answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendRole {
    /// By block diffusion.
    Diffusion,
    /// Token by token.
    Ar,
}

impl BackendRole {
    /// Every role, in the order explanations show them.
    pub const ALL: [BackendRole; 2] = [BackendRole::Diffusion, BackendRole::Ar];

    /// The word in policies (`role:ar`, `backends.ar.…`); also the name of the built-in backend of that role.
    pub fn as_str(self) -> &'static str {
        match self {
            BackendRole::Diffusion => "diffusion",
            BackendRole::Ar => "ar",
        }
    }
}

/// One backend, as the gateway knows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BackendFacts {
    /// Its name in policies, metrics and headers.
    pub name: String,
    /// The group it belongs to, whose members are equals. Shares its name space with backends.
    pub group: Option<String>,
    /// How it answers.
    pub role: BackendRole,
    /// Prompt and answer together, in its own tokens.
    pub context_tokens: u64,
    /// Whether it can look at images.
    pub takes_images: bool,
    /// Whether it can call tools.
    pub takes_tools: bool,
    /// Whether it gets the caller's body as it came, so that fields and parts Weir does not know keep their meaning.
    /// False for the built-in engines.
    pub honours_unsupported: bool,
    /// Whether the request stays on this machine.
    pub local: bool,
    /// Bytes of prompt for one of its tokens, to estimate with. Anything but a positive number means 4.
    pub bytes_per_token: f32,
}

/// Why a backend cannot take a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Obstacle {
    /// No backend answers to this name or role.
    #[error("not configured")]
    NotConfigured,
    /// There are images in the conversation.
    #[error("takes no images")]
    Images,
    /// The body demands something the backend would silently ignore.
    #[error("cannot honour {}", fields.join(", "))]
    Unsupported {
        /// The fields, or `content` for parts that are neither text nor image.
        fields: Vec<Cow<'static, str>>,
    },
    /// A tool call is demanded.
    #[error("calls no tools")]
    Tools,
    /// A diffusion engine is not asked to go on after a tool's result: it was not trained on such turns.
    #[error("does not continue after a tool result")]
    ToolResultTail,
    /// Too long, by estimate.
    #[error("needs about {needs} tokens, takes {limit}")]
    OverContext {
        /// Estimated tokens of the prompt and of the shortest useful answer.
        needs: u64,
        /// The backend's window.
        limit: u64,
    },
}

/// Room an answer needs at least. A caller's `max_tokens` is an upper bound and often absurd, so it is no reason by
/// itself to keep a request from an engine.
const ANSWER_ROOM_TOKENS: u64 = 32;

impl BackendFacts {
    /// A backend that only a request log knows: taken for an AR backend that takes everything.
    pub(crate) fn of_log(name: &str) -> Self {
        BackendFacts {
            name: name.to_owned(),
            group: None,
            role: BackendRole::Ar,
            context_tokens: u64::MAX,
            takes_images: true,
            takes_tools: true,
            honours_unsupported: true,
            local: false,
            bytes_per_token: 4.0,
        }
    }

    /// Whether `name` means it: its own, or its group's.
    pub fn answers_to(&self, name: &str) -> bool {
        self.name == name || self.group.as_deref() == Some(name)
    }

    /// The first hard rule that keeps this backend from the request, or `None`. In doubt it says `None`: a backend
    /// counts exactly, and its refusal costs less than a wrong guess here.
    pub fn obstacle(&self, features: &Features) -> Option<Obstacle> {
        if features.has_images && !self.takes_images {
            return Some(Obstacle::Images);
        }
        if !self.honours_unsupported && (!features.unsupported.is_empty() || features.has_other_parts) {
            let content = features.has_other_parts.then_some(Cow::Borrowed("content"));
            return Some(Obstacle::Unsupported {
                fields: features.unsupported.iter().cloned().chain(content).collect(),
            });
        }
        if !self.takes_tools && features.call_demanded {
            return Some(Obstacle::Tools);
        }
        if self.role == BackendRole::Diffusion && features.tail_is_tool_result {
            return Some(Obstacle::ToolResultTail);
        }
        let answer = match features.max_tokens {
            0 => ANSWER_ROOM_TOKENS,
            most => most.min(ANSWER_ROOM_TOKENS),
        };
        let needs = self.tokens_of(features.prompt_bytes).saturating_add(answer);
        (needs > self.context_tokens).then_some(Obstacle::OverContext { needs, limit: self.context_tokens })
    }

    fn tokens_of(&self, bytes: u64) -> u64 {
        let per_token =
            if self.bytes_per_token.is_finite() && self.bytes_per_token > 0.0 { self.bytes_per_token } else { 4.0 };
        // An estimate: neither the rounding of large counts nor a saturated cast matters.
        (bytes as f64 / f64::from(per_token)).ceil() as u64
    }
}
