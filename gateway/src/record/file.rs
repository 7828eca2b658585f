//! Where lines go: a file that is opened again when somebody moved or removed it (as log rotation does), or standard
//! output. Must never shorten a file that is there, nor write a line behind a half one.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::config::telemetry::LogTarget;

/// How often it is looked whether the file is still the one at its path.
const LOOK_EVERY: Duration = Duration::from_millis(500);

pub(super) struct Place {
    target: Target,
    /// Whether the last line there has no end: a disk was full in the middle of it.
    is_torn: bool,
}

enum Target {
    Stdout,
    File { path: PathBuf, file: File, looked: Instant },
}

impl Place {
    /// # Errors
    /// The file cannot be opened for appending.
    pub(super) fn open(target: &LogTarget) -> io::Result<Self> {
        Ok(match target {
            LogTarget::Stdout => Place { target: Target::Stdout, is_torn: false },
            LogTarget::File(path) => {
                let file = append(path)?;
                let target = Target::File { path: path.clone(), file, looked: Instant::now() };
                Place { target, is_torn: ends_in_a_line(path) }
            }
        })
    }

    /// Writes whole lines; how many of them are there afterwards, and why not all.
    pub(super) fn write(&mut self, lines: &[u8]) -> (usize, io::Result<()>) {
        match &mut self.target {
            Target::Stdout => push(&mut io::stdout().lock(), lines, &mut self.is_torn),
            Target::File { file, .. } if is_gone(file) => (0, Err(io::ErrorKind::NotFound.into())),
            Target::File { file, .. } => push(file, lines, &mut self.is_torn),
        }
    }

    /// Opens the file again if the path now leads elsewhere.
    ///
    /// # Errors
    /// It cannot be opened: the one that was moved still takes lines.
    pub(super) fn follow(&mut self) -> io::Result<()> {
        let Target::File { path, file, looked } = &mut self.target else { return Ok(()) };
        // What would be written into a removed one is lost: that is looked for each time.
        if looked.elapsed() < LOOK_EVERY && !is_gone(file) {
            return Ok(());
        }
        if is_at(file, path) {
            *looked = Instant::now();
            return Ok(());
        }
        *file = append(path)?;
        *looked = Instant::now();
        self.is_torn = ends_in_a_line(path);
        tracing::info!("the request log's file was moved; a new one is written");
        Ok(())
    }
}

fn push(out: &mut impl Write, lines: &[u8], is_torn: &mut bool) -> (usize, io::Result<()>) {
    let mut written = 0;
    let pushed = (|| {
        if *is_torn {
            out.write_all(b"\n")?;
            *is_torn = false;
        }
        while let Some(rest) = lines.get(written..).filter(|rest| !rest.is_empty()) {
            match out.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(more) => written += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        out.flush()
    })();
    let there = lines.get(..written).unwrap_or_default();
    *is_torn |= there.last().is_some_and(|last| *last != b'\n');
    (there.iter().filter(|byte| **byte == b'\n').count(), pushed)
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// Whether what is in the file ends in the middle of a line; one that cannot be read is taken for whole.
fn ends_in_a_line(path: &Path) -> bool {
    let last = || {
        let mut file = File::open(path).ok().filter(|file| file.metadata().is_ok_and(|about| about.is_file()))?;
        let mut last = [0];
        file.seek(SeekFrom::End(-1)).ok()?;
        file.read_exact(&mut last).ok()?;
        Some(last[0])
    };
    // A pipe would be waited for.
    std::fs::metadata(path).is_ok_and(|about| about.is_file()) && last().is_some_and(|last| last != b'\n')
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

/// Whether it was removed: what is written there is lost.
#[cfg(unix)]
fn is_gone(file: &File) -> bool {
    use std::os::unix::fs::MetadataExt;
    file.metadata().is_ok_and(|own| own.is_file() && own.nlink() == 0)
}

#[cfg(not(unix))]
fn is_gone(_: &File) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes, then is full.
    struct Disk(Vec<u8>, usize);

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let room = (self.1 - self.0.len()).min(bytes.len());
            if room == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.0.extend(&bytes[..room]);
            Ok(room)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_cut_by_a_full_disk_takes_no_other_with_it() {
        let (mut disk, mut is_torn) = (Disk(Vec::new(), 7), false);
        let (written, failed) = push(&mut disk, b"one\ntwo\nthree\n", &mut is_torn);
        assert_eq!((written, failed.is_err(), is_torn), (1, true, true));
        assert_eq!(push(&mut disk, b"four\n", &mut is_torn).0, 0, "still full");
        disk.1 = 100;
        assert!(matches!(push(&mut disk, b"five\n", &mut is_torn), (1, Ok(()))));
        assert_eq!((String::from_utf8(disk.0).unwrap().as_str(), is_torn), ("one\ntwo\nfive\n", false));
    }

    #[test]
    fn half_a_line_of_a_process_before_is_ended_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, "{\"half").unwrap();
        let mut place = Place::open(&LogTarget::File(path.clone())).unwrap();
        assert_eq!(place.write(b"whole\n").0, 1);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"half\nwhole\n");
    }

    #[cfg(unix)]
    #[test]
    fn a_moved_file_takes_lines_until_there_is_a_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("log"), folder.path().join("log.1"));
        let mut place = Place::open(&LogTarget::File(path.clone())).unwrap();
        if let Target::File { looked, .. } = &mut place.target {
            *looked -= LOOK_EVERY;
        }
        std::fs::rename(&path, &moved).unwrap();
        std::fs::create_dir(&path).unwrap();
        for at in 1..4 {
            assert!(place.follow().is_err(), "said each time");
            assert_eq!(place.write(b"line\n").0, 1);
            assert_eq!(std::fs::read(&moved).unwrap().len(), 5 * at);
        }
        std::fs::remove_file(&moved).unwrap();
        assert_eq!(place.write(b"line\n").0, 0, "nobody could ever read it");
        std::fs::remove_dir(&path).unwrap();
        for _ in 0..2 {
            assert!(place.follow().is_ok() && place.write(b"line\n").0 == 1, "at once");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), "line\n");
            // As somebody does who makes room on a full disk.
            std::fs::remove_file(&path).unwrap();
        }
    }
}
