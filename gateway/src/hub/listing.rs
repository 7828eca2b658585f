//! What a repository holds: names, sizes and digests of its files. A name that would leave the folder it is written to
//! refuses the whole listing. Must never trust the hub with a path.

use std::path::{Component, Path};

use anyhow::{Context, Result, bail};
use reqwest::header::HeaderMap;
use serde::Deserialize;

use super::Hub;
use super::digest::Digest;

/// Most bytes of a listing; a repository of 10,000 files has about 3 MB.
const MOST_BYTES: usize = 64 << 20;
const MOST_FILES: usize = 100_000;

/// A repository at one commit.
pub(crate) struct Listing {
    pub(crate) commit: String,
    pub(crate) files: Vec<RemoteFile>,
}

/// One file; size and digest where the hub names them.
#[derive(Debug)]
pub(crate) struct RemoteFile {
    /// Path in the repository: plain parts joined by `/`.
    pub(crate) name: String,
    pub(crate) size: Option<u64>,
    pub(crate) digest: Option<Digest>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: Option<String>,
    size: Option<u64>,
}

impl Hub {
    /// The files of `repo` at `revision`.
    pub(crate) async fn list(&self, repo: &str, revision: &str) -> Result<Listing> {
        let plain =
            |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        let parts: Vec<&str> = repo.split('/').collect();
        if parts.len() > 2 || !parts.iter().all(|part| plain(part) && !part.trim_matches('.').is_empty()) {
            bail!("`{repo}` is no repository; expected OWNER/NAME");
        }
        if revision.is_empty() || revision.split('/').any(|part| part == "." || part == "..") {
            bail!("`{revision}` is no revision");
        }
        // A branch name's slash must not become a path's.
        let mut url = self.url(&["api/models", repo, "revision"])?;
        url.path_segments_mut().map_err(|()| anyhow::anyhow!("HF_ENDPOINT cannot have a path"))?.push(revision);
        url.set_query(Some("blobs=true"));
        let what = format!("{repo} at {revision}");
        let (mut response, _) = self.get(url, HeaderMap::new()).await.with_context(|| what.clone())?;
        if !response.status().is_success() {
            return Err(self.refusal(response.status(), &what));
        }
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(reqwest::Error::without_url)? {
            body.extend_from_slice(&piece);
            if body.len() > MOST_BYTES {
                bail!("{what}: a listing of more than {MOST_BYTES} bytes");
            }
        }
        parse(&body).with_context(|| what)
    }
}

fn parse(body: &[u8]) -> Result<Listing> {
    let written: Written = serde_json::from_slice(body).context("the hub's listing")?;
    if written.sha.is_empty() || !written.sha.chars().all(|c| c.is_ascii_alphanumeric()) {
        bail!("the hub names no commit");
    }
    if written.siblings.len() > MOST_FILES {
        bail!("{} files, at most {MOST_FILES}", written.siblings.len());
    }
    let file = |sibling: Sibling| {
        check_name(&sibling.rfilename)?;
        let (sha256, size) = sibling.lfs.map_or((None, None), |lfs| (lfs.sha256, lfs.size));
        let digest = match (sha256, sibling.blob_id) {
            (Some(sha256), _) => Some(Digest::sha256(&sha256).context("`lfs.sha256` is no SHA-256")?),
            (None, Some(blob)) => Digest::from_etag(&blob),
            (None, None) => None,
        };
        Ok(RemoteFile { name: sibling.rfilename, size: size.or(sibling.size), digest })
    };
    Ok(Listing { commit: written.sha, files: written.siblings.into_iter().map(file).collect::<Result<_>>()? })
}

/// Plain parts only: nothing absolute, no `..`, nothing another system would read as a separator.
fn check_name(name: &str) -> Result<()> {
    let bad_part = |part: &str| part.is_empty() || part == "." || part == "..";
    let bad_character = |c: char| c.is_control() || matches!(c, '\\' | ':');
    let plain = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    if !plain || name.split('/').any(bad_part) || name.chars().any(bad_character) || name.ends_with(".part") {
        bail!("the hub names a file {name:?}, which could be written outside the folder; nothing was fetched");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_the_folder_are_refused() {
        for name in ["../x", "a/../../x", "/etc/x", "", ".", "a//b", "a\\..\\b", "C:x", "a\nb", "a/./b", "x.part"] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        for name in ["config.json", "model-00001-of-00002.safetensors", "sub/dir/file", "..json", ".gitattributes"] {
            assert!(check_name(name).is_ok(), "{name:?}");
        }
    }
}
