//! The load: callers of every dialect that read to the end, read a little, or leave. Each keeps the books of its own
//! requests and judges every answer as a strict client does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use futures::StreamExt;
use serde_json::{Value, json};
use weir_tests::asking::{client, read, with};
use weir_tests::dialects::{Dialect, End};

use super::house::{KEYS, Target, models};
use super::leavers::{Leaves, Left, leave};
use super::ledger::Ledger;
use super::pace::Pace;

/// What callers say; the built-in engines know the first two.
const SAYINGS: [&str; 4] = [
    "Sort these words: lemon, apple, mirror, chair",
    "turn off the kitchen lights",
    "Tell me a story about a weir.",
    "What is left when the river is gone?",
];

const WHOLE: &str = "whole";
/// A stream that ended in an error event; a whole answer must not.
const BROKEN: &str = "broken, and told so";

/// One caller, until it is to stop.
pub(crate) async fn run(
    target: &Target,
    ledger: &Ledger,
    (stop, pace): (&AtomicBool, &Pace),
    number: u64,
    seed: u64,
) -> Result<()> {
    let mut draw = Draw(seed);
    let models: Vec<(&'static str, bool)> = models().collect();
    let sound: Vec<(&'static str, bool)> = models.iter().copied().filter(|(_, is_sound)| *is_sound).collect();
    let http = client()?;
    let mut count = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        count += 1;
        let id = format!("soak-{number}-{count}");
        let dialect = *draw.one_of(&Dialect::ALL);
        let stream = draw.below(3) > 0;
        // Most ask for what can answer, so that most of the load is work and not refusals.
        let from = if draw.below(4) == 0 { &models } else { &sound };
        let (model, mut is_sound) = *draw.one_of(from);
        let body = match draw.below(40) {
            0 => {
                is_sound = false;
                json!({"model": model})
            }
            _ => with(
                dialect.question(model, draw.one_of::<&str>(&SAYINGS), stream),
                json!({"max_tokens": 4 + draw.below(28)}),
            ),
        };
        let key = match draw.below(40) {
            0 => "weir_nobody-0000000000-0000000000",
            1..=3 => KEYS[1],
            _ => KEYS[0],
        };
        // Completions have no calls.
        is_sound &= key == KEYS[0] && (dialect != Dialect::Completions || !model.ends_with("tools"));
        let asked = Asked { id, dialect, stream, key, body: body.to_string() };
        match draw.below(10) {
            0 => leaving(target, ledger, asked, &mut draw).await?,
            1 => reading_a_little(&http, target, ledger, asked, draw.below(4)).await?,
            _ => {
                let served = to_the_end(&http, target, ledger, asked, model).await?;
                if is_sound {
                    pace.sound(served);
                }
            }
        }
        tokio::time::sleep(pace.pause(draw.below(64))).await;
    }
    Ok(())
}

struct Asked {
    id: String,
    dialect: Dialect,
    stream: bool,
    key: &'static str,
    body: String,
}

async fn leaving(target: &Target, ledger: &Ledger, asked: Asked, draw: &mut Draw) -> Result<()> {
    let leaves = match draw.below(4) {
        0 => Leaves::InItsBody,
        _ => Leaves::Waiting(Duration::from_millis(draw.below(30))),
    };
    let left = leave(&target.address, asked.dialect.path(), (asked.key, &asked.id), &asked.body, leaves).await?;
    ledger.ended(asked.id, if left == Left::Seen { "left early" } else { "refused" });
    Ok(())
}

async fn send(http: &reqwest::Client, target: &Target, asked: &Asked) -> Result<reqwest::Response> {
    let request = http.post(format!("{}{}", target.base, asked.dialect.path())).bearer_auth(asked.key);
    let request = request.header("x-request-id", &asked.id).header("content-type", "application/json");
    request.body(asked.body.clone()).send().await.context("no response")
}

async fn reading_a_little(
    http: &reqwest::Client,
    target: &Target,
    ledger: &Ledger,
    asked: Asked,
    pieces: u64,
) -> Result<()> {
    let mut body = send(http, target, &asked).await?.bytes_stream();
    for _ in 0..pieces {
        if body.next().await.is_none() {
            break;
        }
    }
    drop(body);
    ledger.ended(asked.id, "left midway");
    Ok(())
}

/// Says whether there was an answer.
async fn to_the_end(
    http: &reqwest::Client,
    target: &Target,
    ledger: &Ledger,
    asked: Asked,
    model: &str,
) -> Result<bool> {
    let reply = read(send(http, target, &asked).await?).await?;
    let how = match (reply.status, asked.stream) {
        _ if reply.cut => None,
        (200, true) => told(asked.dialect.streamed(&reply).end).map(str::to_owned),
        (200, false) => told(asked.dialect.whole(&reply).end).filter(|how| *how != BROKEN).map(str::to_owned),
        (400.., _) => refused(&reply.json()["error"]).map(|why| format!("refused: {} {why}", reply.status)),
        _ => None,
    };
    let served = how.as_deref().is_some_and(|how| how.starts_with(WHOLE));
    match how {
        Some(how) => ledger.ended(asked.id, &how),
        None => {
            let text: String = reply.text.chars().take(2000).collect();
            let what = format!(
                "{:?} {model} stream {}: {} cut {}: {text}",
                asked.dialect, asked.stream, reply.status, reply.cut
            );
            ledger.untold(asked.id, what);
        }
    }
    Ok(served)
}

/// Why, in the dialect's own word; `None`: it is no error's body.
fn refused(error: &Value) -> Option<&str> {
    error.is_object().then(|| error["code"].as_str().or(error["type"].as_str()).unwrap_or("without a word"))
}

fn told(end: End) -> Option<&'static str> {
    match end {
        End::Whole | End::Calls => Some(WHOLE),
        End::Limit => Some("whole, to its limit"),
        End::Broken => Some(BROKEN),
        End::Untold => None,
    }
}

/// SplitMix64 (Steele, Lea, Flood, 2014): the same choices from the same seed.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        // The remainder is below the length, whatever it is.
        &all[usize::try_from(self.next() % all.len() as u64).unwrap_or_default()]
    }
}
