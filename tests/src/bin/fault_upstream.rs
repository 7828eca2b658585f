//! The fault upstream as a program, for tests that are not in Rust. Prints its base address, then serves until its
//! standard input closes, so that it cannot outlive the test that started it. `GET /seen` shows what it was asked.

use std::io::Read;

use anyhow::{Context, Result};
use weir_tests::fault_upstream::FaultUpstream;

#[tokio::main]
async fn main() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    println!("http://{}", upstream.address());
    let until_closed = || std::io::stdin().read_to_end(&mut Vec::new());
    tokio::task::spawn_blocking(until_closed).await.context("waiting")?.context("standard input")?;
    Ok(())
}
