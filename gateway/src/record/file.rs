//! Where lines go: a file that is opened again when somebody moved or removed it (as log rotation does), or standard
//! output. Must never shorten a file that is there.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::config::telemetry::LogTarget;

/// How often it is looked whether the file is still the one at its path.
const LOOK_EVERY: Duration = Duration::from_millis(500);

pub(super) enum Place {
    Stdout,
    File { path: PathBuf, file: File, looked: Instant },
}

impl Place {
    /// # Errors
    /// The file cannot be opened for appending.
    pub(super) fn open(target: &LogTarget) -> io::Result<Self> {
        Ok(match target {
            LogTarget::Stdout => Place::Stdout,
            LogTarget::File(path) => Place::File { path: path.clone(), file: append(path)?, looked: Instant::now() },
        })
    }

    /// Writes whole lines.
    ///
    /// # Errors
    /// They could not be written; a part of them may have been.
    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        self.follow()?;
        match self {
            Place::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(lines)?;
                out.flush()
            }
            Place::File { file, .. } => file.write_all(lines),
        }
    }

    /// Opens the file again if the path now leads elsewhere.
    pub(super) fn follow(&mut self) -> io::Result<()> {
        let Place::File { path, file, looked } = self else { return Ok(()) };
        if looked.elapsed() < LOOK_EVERY {
            return Ok(());
        }
        *looked = Instant::now();
        if !is_at(file, path) {
            *file = append(path)?;
            tracing::info!("the request log's file was moved; a new one is written");
        }
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let Ok(own) = file.metadata() else { return false };
    std::fs::metadata(path).is_ok_and(|there| (there.dev(), there.ino()) == (own.dev(), own.ino()))
}

#[cfg(not(unix))]
fn is_at(_: &File, path: &Path) -> bool {
    path.exists()
}
