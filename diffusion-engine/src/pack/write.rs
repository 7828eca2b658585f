//! Writes a planned file: `NAME.partial` grows tensor by tensor, beside it a list of SHA-256 sums, one line for each
//! tensor that is whole. A later call checks what the list names and goes on behind it. All get their names at the end.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use weir_kernels::packed::{PackedWeights, STRIP};

use crate::checkpoint::source::{self, hex};
use crate::checkpoint::tensors::Weights;

use super::plan::{Item, Plan};
use super::{PackError, PackProgress};

/// Numbers that are read, packed and written at a time, by each thread.
const PIECE: usize = 1 << 20;

/// Writes all of `file` and its sums but their names.
pub(super) fn write(
    plan: &Plan,
    weights: &mut Weights,
    file: &Path,
    progress: &mut dyn FnMut(PackProgress<'_>),
) -> Result<Output, PackError> {
    let mut output = Output::open(plan, file)?;
    let total = plan.total();
    let mut done = plan.header.len() as u64;
    for item in plan.items.iter().take(output.kept) {
        done += item.bytes as u64;
        progress(PackProgress { tensor: &item.name, done, total, kept: true });
    }
    for item in plan.items.iter().skip(output.kept) {
        output.put(item, weights)?;
        done += item.bytes as u64;
        progress(PackProgress { tensor: &item.name, done, total, kept: false });
    }
    Ok(output)
}

pub(super) struct Output {
    file: PathBuf,
    /// Data and sums under their names of the meantime.
    partial: [PathBuf; 2],
    data: File,
    sums: File,
    /// What else is written under such names, by its own.
    beside: Vec<PathBuf>,
    /// Tensors that were there already.
    kept: usize,
}

impl Output {
    /// Opens both files and finds out what of them can stay.
    fn open(plan: &Plan, file: &Path) -> Result<Output, PackError> {
        let partial = [appended(file, ".partial"), appended(&source::sums_of(file), ".partial")];
        let mut open = OpenOptions::new();
        open.read(true).write(true).create(true).truncate(false);
        let mut data = open_at(&open, &partial[0])?;
        hold(&data, &partial[0]).map_err(write_error(&partial[0]))?;
        let mut sums = open_at(&open, &partial[1])?;
        let (kept, end, sums_end) = whole(plan, &mut data, &mut sums).map_err(write_error(&partial[0]))?;
        restart(&mut data, &mut sums, &plan.header, end, sums_end).map_err(write_error(&partial[0]))?;
        Ok(Output { file: file.to_path_buf(), partial, data, sums, beside: Vec::new(), kept })
    }

    /// Appends one tensor.
    fn put(&mut self, item: &Item, weights: &mut Weights) -> Result<(), PackError> {
        let (name, shape, part) = &item.source;
        let mut sum = Sha256::new();
        let (n, k) = match *item.shape.as_slice() {
            [n, k] => (n, k),
            _ => (1, item.shape.iter().product()),
        };
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let each = (PIECE / k.max(1)).next_multiple_of(STRIP);
        for first in (0..n).step_by(each * threads) {
            let rows = first..n.min(first + each * threads);
            let values = weights.rows(name, shape, *part, rows)?;
            let bytes = match item.format {
                None => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
                Some(format) => packed(&values, k, each, |rows, values| {
                    let mut bytes = vec![0; format.bytes(rows, k).unwrap_or_default()];
                    PackedWeights::pack_into(format, values, rows, k, &mut bytes)
                        .map_err(|cause| PackError::Number { tensor: name.clone(), cause })?;
                    Ok(bytes)
                })?,
            };
            sum.update(&bytes);
            self.data.write_all(&bytes).map_err(write_error(&self.partial[0]))?;
        }
        let line = format!("{}  {}\n", hex(&sum.finalize()), item.name);
        self.sums.write_all(line.as_bytes()).map_err(write_error(&self.partial[1]))
    }

    /// Writes a small file that belongs beside the data.
    pub(super) fn put_beside(&mut self, name: &str, bytes: &[u8]) -> Result<(), PackError> {
        let file = self.file.with_file_name(name);
        let partial = appended(&file, ".partial");
        let written = File::create(&partial).and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
        written.map_err(write_error(&partial))?;
        self.beside.push(file);
        Ok(())
    }

    /// Gives all files their names; until then, what is there from another checkpoint stays whole. The sums come before
    /// the data: whoever sees it finds them.
    pub(super) fn finish(self) -> Result<(), PackError> {
        self.sums.sync_all().map_err(write_error(&self.partial[1]))?;
        self.data.sync_all().map_err(write_error(&self.partial[0]))?;
        for file in &self.beside {
            std::fs::rename(appended(file, ".partial"), file).map_err(write_error(file))?;
        }
        let [data, sums] = &self.partial;
        std::fs::rename(sums, source::sums_of(&self.file)).map_err(write_error(sums))?;
        std::fs::rename(data, &self.file).map_err(write_error(data))
    }
}

/// Cuts off what is not whole; without anything, begins with the header.
fn restart(data: &mut File, sums: &mut File, header: &[u8], end: u64, sums_end: u64) -> std::io::Result<()> {
    sums.set_len(sums_end)?;
    sums.seek(SeekFrom::Start(sums_end))?;
    data.set_len(end)?;
    data.seek(SeekFrom::Start(end))?;
    if end == 0 { data.write_all(header) } else { Ok(()) }
}

/// Packs pieces of `each` rows on a thread each, in order.
fn packed(
    values: &[f32],
    k: usize,
    each: usize,
    pack: impl Fn(usize, &[f32]) -> Result<Vec<u8>, PackError> + Sync,
) -> Result<Vec<u8>, PackError> {
    let pieces: Vec<Result<Vec<u8>, PackError>> = std::thread::scope(|scope| {
        let pack = &pack;
        let pieces = values.chunks((each * k).max(1));
        let threads: Vec<_> = pieces.map(|piece| scope.spawn(move || pack(piece.len() / k.max(1), piece))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    Ok(pieces.into_iter().collect::<Result<Vec<_>, _>>()?.concat())
}

/// Tensors that are whole, and where they and their lines end; all zero when the file was begun for another plan.
fn whole(plan: &Plan, data: &mut File, sums: &mut File) -> std::io::Result<(usize, u64, u64)> {
    let mut header = vec![0; plan.header.len()];
    if data.metadata()?.len() < header.len() as u64 {
        return Ok((0, 0, 0));
    }
    data.read_exact(&mut header)?;
    if header != plan.header {
        return Ok((0, 0, 0));
    }
    let mut lines = Vec::new();
    sums.read_to_end(&mut lines)?;
    let lines = String::from_utf8_lossy(&lines);
    let (mut kept, mut end, mut sums_end) = (0, header.len() as u64, 0);
    for (line, item) in lines.split_inclusive('\n').zip(&plan.items) {
        let sum = line.strip_suffix('\n').and_then(|line| line.split_once("  "));
        let Some((sum, _)) = sum.filter(|(_, name)| *name == item.name) else { break };
        if sum_of(data, item.bytes as u64)?.as_deref() != Some(sum) {
            break;
        }
        kept += 1;
        end += item.bytes as u64;
        sums_end += line.len() as u64;
    }
    Ok((kept, end, sums_end))
}

/// The sum of the next `length` bytes, if there are so many.
fn sum_of(data: &mut File, length: u64) -> std::io::Result<Option<String>> {
    let mut sum = Sha256::new();
    let (mut rest, mut buffer) = (length, vec![0; 1 << 16]);
    while rest > 0 {
        let read = data.read(&mut buffer[..rest.min(1 << 16) as usize])?;
        if read == 0 {
            return Ok(None);
        }
        sum.update(&buffer[..read]);
        rest -= read as u64;
    }
    Ok(Some(hex(&sum.finalize())))
}

/// Keeps others from writing `file` until it is closed, which the system does for a call that is killed.
fn hold(file: &File, path: &Path) -> std::io::Result<()> {
    let held = || std::io::Error::other("another `weir model pack` is writing it");
    file.try_lock().map_err(|cause| match cause {
        TryLockError::WouldBlock => held(),
        TryLockError::Error(cause) => cause,
    })?;
    // Who held it may have given it its final name between the opening and the lock: it is whole then, and not ours.
    if is_at(file, path)? { Ok(()) } else { Err(held()) }
}

/// Whether `path` still names this file.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> std::io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let (own, there) = (file.metadata()?, std::fs::metadata(path));
    Ok(there.is_ok_and(|there| (there.dev(), there.ino()) == (own.dev(), own.ino())))
}

#[cfg(not(unix))]
fn is_at(_: &File, path: &Path) -> std::io::Result<bool> {
    path.try_exists()
}

fn appended(file: &Path, end: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(end);
    name.into()
}

fn open_at(options: &OpenOptions, file: &Path) -> Result<File, PackError> {
    options.open(file).map_err(write_error(file))
}

pub(super) fn write_error(file: &Path) -> impl FnOnce(std::io::Error) -> PackError {
    let file = file.to_path_buf();
    move |cause| PackError::Write { file, cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_got_its_name_before_the_lock_is_not_written_to() {
        let folder = tempfile::tempdir().expect("folder");
        let [partial, whole] = ["model.weir.partial", "model.weir"].map(|name| folder.path().join(name));
        let late = File::create(&partial).expect("writable");
        hold(&late, &partial).expect("alone");
        late.unlock().expect("unlocked");
        std::fs::rename(&partial, &whole).expect("renamed");
        assert!(hold(&late, &partial).is_err(), "nothing is there");
        let _next = File::create(&partial).expect("writable");
        assert!(hold(&late, &partial).is_err(), "a third call's is there");
    }
}
