//! What a request demands beyond a conversation, so that a kind of upstream can refuse what it could only leave out.
//! Must never let a demand be dropped in silence.

use weir_protocol::{ChatRequest, EngineError, Part, ResponseFormat, Role, ToolChoice};

use crate::config::wire::WireSettings;

/// Something a kind of upstream may have no field for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::backends) enum Demand {
    Files,
    FrequencyPenalty,
    JsonObject,
    JsonSchema,
    LogitBias,
    Logprobs,
    MinP,
    MinTokens,
    Prefill,
    PresencePenalty,
    RepetitionPenalty,
    Seed,
    SomeCall,
    Stop,
    TopK,
}

impl Demand {
    /// The field as most callers write it.
    fn field(self) -> &'static str {
        match self {
            Demand::FrequencyPenalty => "frequency_penalty",
            Demand::JsonObject | Demand::JsonSchema => "response_format",
            Demand::LogitBias => "logit_bias",
            Demand::Logprobs => "logprobs",
            Demand::MinP => "min_p",
            Demand::MinTokens => "min_tokens",
            Demand::Files | Demand::Prefill => "messages",
            Demand::PresencePenalty => "presence_penalty",
            Demand::RepetitionPenalty => "repetition_penalty",
            Demand::Seed => "seed",
            Demand::SomeCall => "tool_choice",
            Demand::Stop => "stop",
            Demand::TopK => "top_k",
        }
    }

    /// Those of a request. A setting at its neutral value demands nothing.
    fn of(request: &ChatRequest) -> impl Iterator<Item = Demand> {
        let sampling = &request.sampling;
        let some = |value: Option<f32>, neutral: f32| value.is_some_and(|value| value != neutral);
        let is_file = |part: &Part| matches!(part, Part::File { .. });
        [
            (Demand::Files, request.messages.iter().flat_map(|message| &message.content).any(is_file)),
            (Demand::FrequencyPenalty, some(sampling.frequency_penalty, 0.0)),
            (Demand::JsonObject, request.response_format == ResponseFormat::JsonObject),
            (Demand::JsonSchema, matches!(request.response_format, ResponseFormat::JsonSchema(_))),
            (Demand::LogitBias, !sampling.logit_bias.is_empty()),
            (Demand::Logprobs, sampling.logprobs.is_some()),
            (Demand::MinP, some(sampling.min_p, 0.0)),
            (Demand::MinTokens, sampling.min_tokens.is_some_and(|least| least > 0)),
            (Demand::Prefill, request.prefill),
            (Demand::PresencePenalty, some(sampling.presence_penalty, 0.0)),
            (Demand::RepetitionPenalty, some(sampling.repetition_penalty, 1.0)),
            (Demand::Seed, sampling.seed.is_some()),
            (Demand::SomeCall, matches!(request.tool_choice, ToolChoice::Required | ToolChoice::Function(_))),
            (Demand::Stop, !sampling.stop.is_empty()),
            (Demand::TopK, sampling.top_k.is_some_and(|most| most > 0)),
        ]
        .into_iter()
        .filter_map(|(demand, made)| made.then_some(demand))
    }
}

/// Refuses forms that only the built-in engines promise.
pub(in crate::backends) fn refuse_own_forms(request: &ChatRequest) -> Result<(), EngineError> {
    match &request.response_format {
        ResponseFormat::Regex(_) => Err(unsupported("regex", "an upstream promises no such form")),
        ResponseFormat::Grammar(_) => Err(unsupported("grammar", "an upstream promises no such form")),
        ResponseFormat::Text | ResponseFormat::JsonObject | ResponseFormat::JsonSchema(_) => Ok(()),
    }
}

/// Refuses whatever is not among `takes`: a setting of the kind has no field for it.
pub(in crate::backends) fn refuse_others(
    request: &ChatRequest,
    takes: &[Demand],
    kind: &'static str,
) -> Result<(), EngineError> {
    refuse_own_forms(request)?;
    match Demand::of(request).find(|demand| !takes.contains(demand)) {
        Some(demand) => Err(unsupported(demand.field(), &format!("an upstream of kind `{kind}` cannot honour it"))),
        None => Ok(()),
    }
}

/// Refuses what only the caller's own body says: an upstream of another dialect gets a body made from what we
/// understood, so the rest would be lost. Tools that only the caller's API runs are an offer, if none must be called: the
/// operator may have them left out.
pub(in crate::backends) fn refuse_untold(request: &ChatRequest, wire: &WireSettings) -> Result<(), EngineError> {
    let is_offer = |field: &&str| wire.leaves_out_tools && *field == "tools" && request.tool_choice == ToolChoice::Auto;
    if let Some(field) = request.unsupported.iter().find(|field| !is_offer(field)) {
        return Err(unsupported(field, untold(field)));
    }
    for (role, part) in request.messages.iter().flat_map(|turn| turn.content.iter().map(|part| (turn.role, part))) {
        match part {
            Part::Other { kind } => {
                return Err(unsupported("messages", &format!("a part of type `{kind}` cannot be said in its dialect")));
            }
            Part::File { .. } if matches!(role, Role::System | Role::Assistant) => {
                return Err(unsupported("messages", "a file cannot be said in a turn of this role"));
            }
            Part::Text(_) | Part::Image { .. } | Part::File { .. } => {}
        }
    }
    Ok(())
}

/// Why an upstream of another dialect does not get it.
fn untold(field: &str) -> &'static str {
    match field {
        "tools" => "a tool that only the caller's API runs is demanded, or is all that is offered",
        _ => "it cannot be said in the dialect of this upstream",
    }
}

/// This upstream cannot; another may.
pub(in crate::backends) fn unsupported(field: &str, message: &str) -> EngineError {
    EngineError::Unsupported { field: field.to_owned(), message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::wire::BackendKind;
    use weir_protocol::{Message, Sampling};

    #[test]
    fn neutral_settings_demand_nothing() {
        let neutral = Sampling {
            top_k: Some(0),
            min_p: Some(0.0),
            repetition_penalty: Some(1.0),
            frequency_penalty: Some(0.0),
            presence_penalty: Some(0.0),
            min_tokens: Some(0),
            temperature: Some(0.3),
            top_p: Some(0.9),
            ..Sampling::default()
        };
        assert_eq!(refuse_others(&ChatRequest { sampling: neutral, ..ChatRequest::default() }, &[], "x"), Ok(()));
    }

    #[test]
    fn a_demand_is_named_or_taken() {
        let request = ChatRequest {
            sampling: Sampling { seed: Some(7), ..Sampling::default() },
            response_format: ResponseFormat::JsonObject,
            ..ChatRequest::default()
        };
        let refused = |takes: &[Demand]| match refuse_others(&request, takes, "x") {
            Err(EngineError::Unsupported { field, .. }) => field,
            other => format!("{other:?}"),
        };
        assert_eq!(refused(&[]), "response_format");
        assert_eq!(refused(&[Demand::JsonObject]), "seed");
        assert_eq!(refuse_others(&request, &[Demand::JsonObject, Demand::Seed], "x"), Ok(()));
        let regex = ChatRequest { response_format: ResponseFormat::Regex("a".into()), ..ChatRequest::default() };
        assert!(refuse_others(&regex, &[Demand::JsonObject, Demand::JsonSchema], "x").is_err());
    }

    #[test]
    fn what_is_only_in_the_raw_body_is_not_lost() {
        let mut request = ChatRequest { unsupported: vec!["n"], ..ChatRequest::default() };
        let mut wire = WireSettings::plain(BackendKind::OpenAiChat);
        assert!(matches!(refuse_untold(&request, &wire), Err(EngineError::Unsupported { field, .. }) if field == "n"));
        request.unsupported.clear();
        request
            .messages
            .push(Message { content: vec![Part::Other { kind: "audio".into() }], ..Message::empty(Role::User) });
        assert!(refuse_untold(&request, &wire).is_err());
        wire.leaves_out_tools = true;
        let mut offers = ChatRequest { unsupported: vec!["tools"], ..ChatRequest::default() };
        assert_eq!(refuse_untold(&offers, &wire), Ok(()));
        offers.tool_choice = ToolChoice::Required;
        assert!(refuse_untold(&offers, &wire).is_err());
    }
}
