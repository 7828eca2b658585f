//! `weir metrics-doc`: the reference of what `/metrics` exports, written from the code. Must never know a metric itself.

use std::path::Path;

use anyhow::{Context, Result};

use crate::metrics::{Metrics, reference};

pub(super) fn command(out: Option<&Path>) -> Result<()> {
    let text = reference(&Metrics::new()?.families());
    match out {
        Some(file) => std::fs::write(file, text).with_context(|| file.display().to_string()),
        None => {
            print!("{text}");
            Ok(())
        }
    }
}
