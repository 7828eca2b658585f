//! A conversation at the terminal, line by line. Ctrl-C ends the running answer, never the program. Must never read a
//! line's meaning from anything but its first character: `/` begins a command, all else is for the model.

use std::collections::VecDeque;

use anyhow::Result;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use weir_diffusion_engine::EngineKind;
use weir_protocol::{ChatRequest, DecodeMode, Message, Role};

use super::answering::{End, answer};
use super::asked::Model;
use super::report;
use super::show::Show;

const HELP: &str = "/quit (or Ctrl-D) leaves, /clear forgets, /mode speed|quality; Ctrl-C stops an answer";

/// What who sits there does.
#[derive(Debug)]
enum Input {
    Line(String),
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-D.
    End,
}

/// Inputs in order; those that come while an answer runs wait.
struct Inbox {
    inputs: UnboundedReceiver<Input>,
    waiting: VecDeque<Input>,
}

impl Inbox {
    async fn next(&mut self) -> Input {
        match self.waiting.pop_front() {
            Some(input) => input,
            None => self.inputs.recv().await.unwrap_or(Input::End),
        }
    }

    /// Until Ctrl-C.
    async fn interrupted(&mut self) {
        loop {
            match self.inputs.recv().await {
                Some(Input::Interrupt) => return,
                Some(other) => self.waiting.push_back(other),
                None => std::future::pending().await,
            }
        }
    }
}

/// Talks until who sits there leaves.
pub(super) async fn command(model: &Model, request: ChatRequest, show: &mut Show) -> Result<()> {
    let (sender, inputs) = unbounded_channel();
    let interrupts = sender.clone();
    // From the first call on, Ctrl-C no longer ends the process.
    tokio::spawn(
        async move { while tokio::signal::ctrl_c().await.is_ok() && interrupts.send(Input::Interrupt).is_ok() {} },
    );
    std::thread::Builder::new().name("weir-lines".into()).spawn(move || read_lines(&sender))?;
    show.tell(&format!("{}: {HELP}", model.name));
    converse(model, request, show, inputs).await
}

fn read_lines(sender: &UnboundedSender<Input>) {
    let mut line = String::new();
    loop {
        line.clear();
        let input = match std::io::stdin().read_line(&mut line) {
            Ok(0) | Err(_) => Input::End,
            Ok(_) => Input::Line(line.trim_end_matches(['\r', '\n']).to_owned()),
        };
        let ends = matches!(input, Input::End);
        if sender.send(input).is_err() || ends {
            return;
        }
    }
}

/// `request` holds the settings and the system text; the conversation grows in it.
async fn converse(
    model: &Model,
    mut request: ChatRequest,
    show: &mut Show,
    inputs: UnboundedReceiver<Input>,
) -> Result<()> {
    let beginning = request.messages.len();
    let mut inbox = Inbox { inputs, waiting: VecDeque::new() };
    loop {
        show.ask();
        let line = match inbox.next().await {
            Input::Line(line) => line,
            Input::Interrupt => {
                show.tell(&format!("\n{HELP}"));
                continue;
            }
            Input::End => {
                show.tell("");
                return Ok(());
            }
        };
        match line.split_whitespace().collect::<Vec<&str>>().as_slice() {
            [] => {}
            ["/quit"] => return Ok(()),
            ["/clear"] => {
                request.messages.truncate(beginning);
                show.tell("forgotten");
            }
            ["/mode", word] => show.tell(&set_mode(model, &mut request, word)),
            [command, ..] if command.starts_with('/') => show.tell(&format!("no command {command}; {HELP}")),
            _ => turn(model, &mut request, show, &mut inbox, line).await,
        }
    }
}

fn set_mode(model: &Model, request: &mut ChatRequest, word: &str) -> String {
    let mode = match word {
        "speed" => DecodeMode::Speed,
        "quality" => DecodeMode::Quality,
        _ => return format!("no mode {word}; {HELP}"),
    };
    if model.engine.info().kind != EngineKind::Diffusion {
        return format!("{} is autoregressive and has no modes", model.name);
    }
    request.diffusion.mode = Some(mode);
    // A preset is its thresholds: flags given at the start would otherwise go over it.
    (request.diffusion.threshold, request.diffusion.editing_threshold) = (None, None);
    format!("mode {word}")
}

/// One question and its answer. What failed is told and forgotten.
async fn turn(model: &Model, request: &mut ChatRequest, show: &mut Show, inbox: &mut Inbox, line: String) {
    request.messages.push(Message::text(Role::User, line));
    match answer(model, request, show, inbox.interrupted()).await {
        Ok(answered) => {
            show.tell(&report::line(&answered));
            if answered.end == End::Stopped && answered.text.is_empty() {
                request.messages.pop();
            } else {
                request.messages.push(Message::text(Role::Assistant, answered.text));
            }
        }
        Err(error) => {
            request.messages.pop();
            show.tell(&format!("weir: {error:#}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use weir_diffusion_engine::{Engine, EngineOptions};

    use super::*;
    use crate::config::EngineRole;
    use crate::embedded;

    #[derive(Clone, Default)]
    struct Screen(Arc<Mutex<Vec<u8>>>);

    impl Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("whole").extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Screen {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().expect("whole").clone()).expect("UTF-8")
        }
    }

    /// Standard output and standard error after these inputs.
    fn after(role: EngineRole, inputs: Vec<Input>) -> (String, String) {
        let engine = Engine::load(embedded::nano(role), EngineOptions::default()).expect("the embedded model loads");
        let model = Model { engine, name: "nano".into() };
        let (out, err) = (Screen::default(), Screen::default());
        let mut show = Show::to(Box::new(out.clone()), Box::new(err.clone()));
        let (sender, receiver) = unbounded_channel();
        inputs.into_iter().for_each(|input| sender.send(input).expect("open"));
        drop(sender);
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let request = ChatRequest { max_tokens: Some(64), ..ChatRequest::default() };
        runtime.block_on(converse(&model, request, &mut show, receiver)).expect("ends well");
        (out.text(), err.text())
    }

    fn line(text: &str) -> Input {
        Input::Line(text.to_owned())
    }

    #[test]
    fn lines_are_answered_and_commands_are_not() {
        let inputs = vec![
            line("Sort these words: lemon, apple, chair"),
            line("/clear"),
            line("/mode speed"),
            line("/mode slow"),
            line("/dance"),
            line("  "),
            line("Sort these words: lemon, apple, chair"),
            line("/quit"),
            line("Sort these words: lemon, apple, chair"),
        ];
        let (out, err) = after(EngineRole::Diffusion, inputs);
        assert_eq!(out.lines().collect::<Vec<&str>>(), ["apple, chair, lemon"; 2], "{err}");
        assert_eq!(err.matches(" TPF), ").count(), 2, "{err}");
        for told in ["forgotten\n", "mode speed\n", "no mode slow;", "no command /dance;"] {
            assert!(err.contains(told), "{told}: {err}");
        }
        let (_, err) = after(EngineRole::Ar, vec![line("/mode speed"), Input::End]);
        assert!(err.contains("nano is autoregressive"), "{err}");
    }

    #[test]
    fn an_interrupt_ends_the_answer_and_not_the_conversation() {
        // It is there before the first token, so nothing of the first answer is written.
        let inputs = vec![
            Input::Interrupt,
            line("Reverse the list: a, b"),
            Input::Interrupt,
            line("Sort these words: lemon, apple, chair"),
        ];
        let (out, err) = after(EngineRole::Diffusion, inputs);
        assert_eq!(out.trim(), "apple, chair, lemon", "{err}");
        assert!(err.contains("stopped after") && err.matches("/quit (or Ctrl-D)").count() == 1, "{err}");
    }
}
