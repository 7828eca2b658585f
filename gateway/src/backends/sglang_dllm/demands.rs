//! What a diffusion server of sglang's cannot honour: it would take the field and ignore it, or decode as it was started
//! to. Must never let either look like an answer to what was asked.

use weir_protocol::{ChatRequest, DiffusionOptions, EngineError};

use crate::backends::upstream::demands::{self, Demand, unsupported};
use crate::config::wire::DllmWritten;

/// The fields its diffusion path reads (`dllm/sampling.py`), and what its front end does with the finished text.
const TAKES: &[Demand] = &[Demand::MinP, Demand::Stop, Demand::TopK];

/// Settings may differ by this much: they came through decimal text.
const SAME: f32 = 1e-6;

/// Refuses demands that would be taken and ignored: penalties, bias, seeds, grammars.
pub(super) fn refuse_ignored(request: &ChatRequest) -> Result<(), EngineError> {
    demands::refuse_others(request, TAKES, "sglang-dllm")
}

/// Refuses a wish to decode otherwise than the server does. What only a policy chose is not the caller's wish.
pub(super) fn refuse_other_decoding(request: &ChatRequest, runs: &DllmWritten) -> Result<(), EngineError> {
    let asked = &request.diffusion;
    if !request.raw.contains_key("diffusion") {
        return Ok(());
    }
    let preset = asked.mode.and_then(|mode| mode.thresholds(runs.decoder));
    let (threshold, editing, edits) = (asked.threshold, asked.editing_threshold, runs.decoder.edits());
    let rules = [
        ("decoder", asked.decoder.is_some_and(|kind| kind != runs.decoder)),
        ("threshold", differs(threshold.or(preset.map(|preset| preset.0)), runs.threshold)),
        ("editing_threshold", edits && differs(editing.or(preset.map(|preset| preset.1)), runs.editing_threshold)),
        ("max_post_steps", asked.max_post_steps.is_some_and(|steps| steps != runs.max_post_steps)),
        ("block_length", asked.block_length.is_some_and(|length| length != runs.block_length)),
        ("max_steps", asked.max_steps.is_some_and(|steps| steps != runs.block_length)),
        ("repeat_penalty", differs(asked.repeat_penalty, runs.repeat_penalty)),
        ("multi_block_window", asked.multi_block_window.is_some()),
        ("refresh_every", asked.refresh_every.is_some_and(|forwards| forwards > 1)),
        ("start_from", asked.start_from.is_some()),
        ("seed", asked.seed.is_some()),
    ];
    match rules.into_iter().find(|(_, breaks)| *breaks) {
        Some((key, _)) => Err(unsupported(&format!("diffusion.{key}"), &message(key, asked, runs))),
        None => Ok(()),
    }
}

fn differs(asked: Option<f32>, runs: f32) -> bool {
    asked.is_some_and(|asked| (asked - runs).abs() > SAME)
}

fn message(key: &str, asked: &DiffusionOptions, runs: &DllmWritten) -> String {
    let set = match key {
        "decoder" => format!("`{}`", runs.decoder.as_str()),
        "threshold" => runs.threshold.to_string(),
        "editing_threshold" => runs.editing_threshold.to_string(),
        "max_post_steps" => runs.max_post_steps.to_string(),
        "block_length" | "max_steps" => runs.block_length.to_string(),
        "repeat_penalty" => runs.repeat_penalty.to_string(),
        _ => return "sglang has no such setting".into(),
    };
    let because =
        if asked.mode.is_some() && key.ends_with("threshold") { " (the preset asks for another)" } else { "" };
    format!("the server was started with {set} and takes no other per request{because}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::openai_chat::decode::decode;
    use weir_protocol::{DecodeMode, DecoderKind};

    #[track_caller]
    fn check(more: &str, expect: &str) {
        check_with(&DllmWritten::default(), more, expect);
    }

    #[track_caller]
    fn check_with(runs: &DllmWritten, more: &str, expect: &str) {
        let body = format!(r#"{{"messages":[{{"role":"user","content":"hi"}}]{more}}}"#);
        let request = decode(body.as_bytes()).expect("a good request");
        let told = refuse_ignored(&request).and_then(|()| refuse_other_decoding(&request, runs));
        match told {
            Ok(()) => assert_eq!("", expect),
            Err(EngineError::Unsupported { field, .. }) => assert_eq!(field, expect),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn what_the_server_does_anyway_may_be_asked_for() {
        check("", "");
        check(r#","diffusion":{"mode":"speed"}"#, "");
        check(
            r#","diffusion":{"decoder":"joint","threshold":0.5,"editing_threshold":0,"max_post_steps":16,"block_length":32}"#,
            "",
        );
        check(
            r#","diffusion":{"drafts":true,"refresh_every":1},"temperature":0.3,"top_p":0.9,"top_k":4,"min_p":0.1,"stop":"x""#,
            "",
        );
    }

    #[test]
    fn a_preset_is_the_servers_own_decoders() {
        let runs = DllmWritten { decoder: DecoderKind::Threshold, threshold: 0.95, ..DllmWritten::default() };
        check_with(&runs, r#","diffusion":{"mode":"quality"}"#, "");
        check_with(&runs, r#","diffusion":{"mode":"speed"}"#, "diffusion.threshold");
    }

    #[test]
    fn other_decoding_goes_elsewhere() {
        check(r#","diffusion":{"mode":"quality"}"#, "diffusion.threshold");
        check(r#","diffusion":{"decoder":"threshold"}"#, "diffusion.decoder");
        check(r#","diffusion":{"editing_threshold":0.5}"#, "diffusion.editing_threshold");
        check(r#","diffusion":{"repeat_penalty":1}"#, "diffusion.repeat_penalty");
        check(r#","diffusion":{"seed":1}"#, "diffusion.seed");
        check(r#","diffusion":{"refresh_every":2}"#, "diffusion.refresh_every");
    }

    #[test]
    fn what_would_be_ignored_goes_elsewhere() {
        check(r#","seed":1"#, "seed");
        check(r#","frequency_penalty":0.5"#, "frequency_penalty");
        check(r#","response_format":{"type":"json_object"}"#, "response_format");
        check(r#","logit_bias":{"1":1}"#, "logit_bias");
    }

    #[test]
    fn a_policys_preset_is_no_wish_of_the_callers() {
        let diffusion = DiffusionOptions { mode: Some(DecodeMode::Quality), ..DiffusionOptions::default() };
        let request = ChatRequest { diffusion, ..ChatRequest::default() };
        assert_eq!(refuse_other_decoding(&request, &DllmWritten::default()), Ok(()));
    }
}
