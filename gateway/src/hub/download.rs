//! One file: fetched into a partial file beside its place, resumed by range, held against size and checksum, and only
//! then given its name. Must never leave a file under its name that is not what the hub says it is.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use reqwest::header::{ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, RANGE};
use reqwest::{Response, StatusCode};

use super::digest::{Digest, Sum};
use super::{Hub, RemoteFile};

const LINKED_ETAG: &str = "x-linked-etag";
const LINKED_SIZE: &str = "x-linked-size";

/// What became of a file.
pub(crate) struct Fetched {
    pub(crate) bytes: u64,
    /// For people: fetched or already there, and how it was checked.
    pub(crate) how: &'static str,
}

/// A partial file and the sum over its bytes.
struct Part {
    file: File,
    length: u64,
}

impl Hub {
    /// Brings `file` of `repo` at `commit` into `dir`. `told` hears how many of its bytes are there.
    pub(crate) async fn fetch(
        &self,
        repo: &str,
        commit: &str,
        file: &RemoteFile,
        dir: &Path,
        told: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Fetched> {
        let place = dir.join(&file.name);
        if let Some(fetched) = already_there(&place, file, told)? {
            return Ok(fetched);
        }
        if let Some(folder) = place.parent() {
            std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        let part_path = part_path(&place, file);
        let mut digest = file.digest.clone();
        let mut size = file.size;
        let mut part = Part::open(&part_path, digest.is_some())?;
        loop {
            if size == Some(part.length) && part.length > 0 {
                break;
            }
            let before = part.length;
            let url = self.url(&[repo, "resolve", commit, &file.name])?;
            let (response, first) = self.get(url, range(before)).await.with_context(|| kept(before))?;
            digest = digest.or_else(|| etag(&first));
            size = size.or_else(|| number(&first, LINKED_SIZE));
            if response.status() == StatusCode::RANGE_NOT_SATISFIABLE && before > 0 {
                part.restart()?;
                continue;
            }
            if !response.status().is_success() {
                return Err(self.refusal(response.status(), "fetching"));
            }
            size = size.or_else(|| whole_size(&response));
            let end = receive(response, &mut part, size, told).await?;
            match (end, size) {
                (None, None) => break,
                (None, Some(size)) if part.length >= size => break,
                // Cut, but further than before: go on at once.
                (_, Some(_)) if part.length > before => {}
                (cut, _) => {
                    let cause = cut.map_or("the connection ended early".into(), |cut| cut.to_string());
                    bail!("{}: {cause}", kept(part.length))
                }
            }
        }
        finish(part, &part_path, &place, size, digest.as_ref())
    }
}

/// For errors: what a next pull need not fetch.
fn kept(length: u64) -> String {
    format!("cut; {length} bytes are kept, the same command goes on from there")
}

/// The file under its own name, if it is what the hub says it is.
fn already_there(place: &Path, file: &RemoteFile, told: &mut (dyn FnMut(u64) + Send)) -> Result<Option<Fetched>> {
    let Ok(mut own) = File::open(place) else { return Ok(None) };
    let length = own.metadata().with_context(|| place.display().to_string())?.len();
    if file.size.is_some_and(|size| size != length) {
        return Ok(None);
    }
    let Some(digest) = &file.digest else { return Ok(None) };
    if sum_of(&mut own, digest, length)? != *digest {
        return Ok(None);
    }
    told(length);
    Ok(Some(Fetched { bytes: length, how: "already there, checksum right" }))
}

/// Beside the place and named after the content, so that another revision does not continue it.
fn part_path(place: &Path, file: &RemoteFile) -> PathBuf {
    let name = place.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let content = file.digest.as_ref().map_or("unknown", Digest::short);
    place.with_file_name(format!("{name}.{content}.part"))
}

impl Part {
    /// The partial file; kept bytes count only where a checksum will judge them.
    fn open(path: &Path, resume: bool) -> Result<Part> {
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(!resume).open(path);
        let mut file = options.with_context(|| path.display().to_string())?;
        let length = file.seek(SeekFrom::End(0)).with_context(|| path.display().to_string())?;
        Ok(Part { file, length })
    }

    fn restart(&mut self) -> Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.length = 0;
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes)?;
        self.length += bytes.len() as u64;
        Ok(())
    }
}

/// Takes the body into the part. `Some` is how it was cut.
async fn receive(
    mut response: Response,
    part: &mut Part,
    size: Option<u64>,
    told: &mut (dyn FnMut(u64) + Send),
) -> Result<Option<reqwest::Error>> {
    if response.status() == StatusCode::PARTIAL_CONTENT {
        let start = response.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok()).and_then(range_start);
        if start != Some(part.length) {
            bail!("the hub sent another range than the one asked for");
        }
    } else if part.length > 0 {
        part.restart()?;
    }
    loop {
        match response.chunk().await.map_err(reqwest::Error::without_url) {
            Ok(Some(bytes)) => {
                part.write(&bytes)?;
                if size.is_some_and(|size| part.length > size) {
                    part.restart()?;
                    bail!("the hub sent more than the {} bytes it named", size.unwrap_or(0));
                }
                told(part.length);
            }
            Ok(None) => return Ok(None),
            Err(cut) => return Ok(Some(cut)),
        }
    }
}

/// Size and checksum, then the name.
fn finish(mut part: Part, from: &Path, place: &Path, size: Option<u64>, digest: Option<&Digest>) -> Result<Fetched> {
    let remove = || {
        // It would be continued otherwise; if it cannot be removed the next pull says why.
        let _ = std::fs::remove_file(from);
    };
    if let Some(size) = size.filter(|size| *size != part.length) {
        remove();
        bail!("{} bytes came, the hub names {size}; what came was removed", part.length);
    }
    let how = match digest {
        None => "size checked; the hub gives no checksum",
        Some(digest) => {
            part.file.seek(SeekFrom::Start(0))?;
            let got = sum_of(&mut part.file, digest, part.length)?;
            if got != *digest {
                remove();
                bail!("checksum is {got:?} where the hub says {digest:?}; what came was removed, pull again");
            }
            "checksum right"
        }
    };
    part.file.sync_all().with_context(|| from.display().to_string())?;
    let bytes = part.length;
    drop(part);
    std::fs::rename(from, place).with_context(|| format!("cannot name {}", place.display()))?;
    Ok(Fetched { bytes, how })
}

fn sum_of(file: &mut File, digest: &Digest, length: u64) -> Result<Digest> {
    let mut sum: Sum = digest.start(length);
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece).context("reading back")? {
            0 => return Ok(sum.finish()),
            count => sum.update(piece.get(..count).unwrap_or_default()),
        }
    }
}

/// The bytes as they are stored, from `start` on.
fn range(start: u64) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if start > 0
        && let Ok(range) = HeaderValue::from_str(&format!("bytes={start}-"))
    {
        headers.insert(RANGE, range);
    }
    headers
}

/// `bytes 5-9/10` → 5.
fn range_start(range: &str) -> Option<u64> {
    range.strip_prefix("bytes ")?.split_once('-')?.0.trim().parse().ok()
}

/// The whole file's size as an answer tells it.
fn whole_size(response: &Response) -> Option<u64> {
    match response.status() {
        StatusCode::PARTIAL_CONTENT => {
            let range = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
            range.rsplit_once('/')?.1.parse().ok()
        }
        _ => number(response.headers(), CONTENT_LENGTH.as_str()),
    }
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

/// The digest behind the first answer: of the stored file where it is large, else of the answer.
fn etag(first: &HeaderMap) -> Option<Digest> {
    let named = first.get(LINKED_ETAG).or_else(|| first.get(ETAG))?;
    Digest::from_etag(named.to_str().ok()?)
}
