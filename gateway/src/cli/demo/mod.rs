//! `weir demo`: the main job, shown. Starts the real gateway with the embedded models on a free loopback port, asks the
//! same questions of `auto`, `ar` and `diffusion` over HTTP, and prints who answered, why, how fast and whether it is
//! right. Must never use anything but the public API, and never print a figure that was not measured in this run.

mod ask;
mod check;
mod questions;
mod screen;

use std::time::Instant;

use anyhow::{Context, Result, bail};

use self::ask::ask;
use self::questions::questions;
use self::screen::{Row, Screen};
use crate::backends::http_client;
use crate::cli::serve;
use crate::config::Inputs;

/// The model ids the demo asks, in order.
const ASKED: [&str; 3] = ["auto", "ar", "diffusion"];

/// Runs the demo; with `keep_serving`, goes on serving until stopped.
///
/// # Errors
/// When the gateway does not start, or when an answer did not come through (a wrong answer is shown, not an error).
pub(super) fn command(keep_serving: bool) -> Result<()> {
    // The embedded default on a free port, whatever file or environment lies around.
    let inputs = Inputs { listen: Some("127.0.0.1:0".to_owned()), ..Inputs::default() };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    runtime.block_on(run(inputs, keep_serving))
}

async fn run(inputs: Inputs, keep_serving: bool) -> Result<()> {
    let started = Instant::now();
    let running = serve::start(inputs).await.context("the gateway did not start")?;
    let base = format!("http://{}", running.addr());
    let client = http_client(&base).build().context("the HTTP client did not start")?;
    let mut screen = Screen::new();
    let ready = started.elapsed().as_millis();
    screen.heading(&format!("Weir answers at {base} with its embedded models (ready after {ready} ms)"));
    let (rows, lost) = ask_all(&client, &base, &mut screen).await;
    screen.heading("All answers");
    screen.table(&rows);
    if keep_serving {
        println!("\nStill serving at {base}; stop with Ctrl-C.");
        running.until_stopped().await?;
    } else {
        drop(client);
        running.stop().await?;
    }
    if lost > 0 {
        bail!("{lost} of {} answers did not come through", rows.len() + lost);
    }
    Ok(())
}

/// Asks everything; gives the answers that came through and the number of those that did not.
async fn ask_all(client: &reqwest::Client, base: &str, screen: &mut Screen) -> (Vec<Row>, usize) {
    let mut rows = Vec::new();
    let mut lost = 0;
    for model in ASKED {
        screen.heading(&format!("model: {model}"));
        for question in questions() {
            screen.question(question.title, question.prompt);
            let drafts = screen.shows_drafts();
            match ask(client, base, model, &question, drafts, |sight| screen.show(&sight)).await {
                Ok(seen) if seen.complete() => {
                    let right = question.check.holds(&seen.text, &seen.calls);
                    let row = Row { question: question.title, asked: model, right, seen };
                    screen.verdict(&row);
                    rows.push(row);
                }
                Ok(_) => {
                    lost += 1;
                    screen.failure(&anyhow::anyhow!("the stream ended without a complete answer"));
                }
                Err(error) => {
                    lost += 1;
                    screen.failure(&error);
                }
            }
        }
    }
    (rows, lost)
}
