//! `weir generate`: an engine at the terminal, without the server. One answer, or a conversation line by line. Must never
//! open a socket, nor decode in a way that a request cannot have.

mod answering;
mod asked;
mod converse;
mod painting;
mod recording;
mod report;
mod show;

use std::io::{IsTerminal, Read};

use anyhow::{Context, Result, anyhow, bail};
use weir_diffusion_engine::EngineKind;
use weir_protocol::{ChatRequest, FinishReason, Message, ResponseFormat, Role};

use self::answering::{End, answer};
use self::asked::Model;
pub(super) use self::asked::{Args, UsageError};
use self::recording::Recording;
use self::show::Show;

/// Longest text read from standard input, in bytes; far beyond any model's window.
const LONGEST_PROMPT: u64 = 64 << 20;

/// Answers what the arguments say.
///
/// # Errors
/// [`UsageError`] for arguments that do not fit together; else names the flag or the file.
pub(super) fn command(args: &Args) -> Result<()> {
    let prompt = prompt(args)?;
    if prompt.is_none() {
        for (given, flag) in [(args.json, "--json"), (args.trace_file.is_some(), "--trace-file")] {
            if given {
                return Err(UsageError(format!("{flag} is for one answer: give a PROMPT or pipe one in")).into());
            }
        }
    }
    let request = args.request()?;
    let model = args.load()?;
    let is_diffusion = model.engine.info().kind == EngineKind::Diffusion;
    if let Some(flag) = args.diffusion_flag().filter(|_| !is_diffusion) {
        bail!("{flag}: {} is autoregressive and has no denoise steps", model.name);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    match prompt {
        Some(prompt) => runtime.block_on(once(args, &model, request, prompt)),
        None => {
            let mut show = Show::new(false, args.trace, None);
            let done = runtime.block_on(converse::command(&model, request, &mut show));
            // A thread may still wait for a line.
            runtime.shutdown_background();
            done
        }
    }
}

/// The one prompt there is; `None` for a conversation.
fn prompt(args: &Args) -> Result<Option<String>> {
    let prompt = match &args.prompt {
        Some(prompt) => prompt.clone(),
        None if std::io::stdin().is_terminal() => return Ok(None),
        None => {
            let mut bytes = Vec::new();
            std::io::stdin().take(LONGEST_PROMPT + 1).read_to_end(&mut bytes).context("standard input")?;
            if bytes.len() as u64 > LONGEST_PROMPT {
                bail!("standard input: more than {} MiB is no prompt", LONGEST_PROMPT >> 20);
            }
            let text = String::from_utf8(bytes).map_err(|_| anyhow!("standard input: the prompt is not UTF-8"))?;
            // The line end is the shell's.
            text.trim_end_matches(['\r', '\n']).to_owned()
        }
    };
    match prompt.trim().is_empty() {
        true => Err(UsageError("the prompt is empty: give a PROMPT or pipe one in".to_owned()).into()),
        false => Ok(Some(prompt)),
    }
}

async fn once(args: &Args, model: &Model, mut request: ChatRequest, prompt: String) -> Result<()> {
    request.messages.push(Message::text(Role::User, prompt));
    let recording = args.trace_file.as_deref().map(|file| Recording::open(file, model, &request)).transpose()?;
    let mut show = Show::new(args.json, args.trace, recording);
    let answered = answer(model, &request, &mut show, std::future::pending()).await?;
    if args.json {
        show.print(&format!("{}\n", report::json(&model.name, &answered)))?;
    } else {
        show.tell(&report::line(&answered));
    }
    let cut = answered.end == End::Complete(FinishReason::Length);
    if cut && request.response_format != ResponseFormat::Text {
        bail!("--schema: the answer reached its token limit before it was complete; raise --max-tokens");
    }
    Ok(())
}
