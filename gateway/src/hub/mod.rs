//! The Hugging Face hub, as far as fetching a model needs it. Own code, because the hf-hub crate (1.0) holds no
//! download against its checksum and brings a second TLS stack; the endpoint and token rules are its own.
//!
//! [`listing`]: which files there are and their digests → [`download`]: one file, resumed and checked. Must never
//! write outside the folder it was given, nor show the token to anybody but the endpoint.

mod digest;
mod download;
mod listing;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode, Url};

use crate::backends::http_client;
use crate::config::is_this_machine;

pub(crate) use listing::RemoteFile;

const ENDPOINT: &str = "https://huggingface.co";
const CONNECT: Duration = Duration::from_secs(15);
/// Longest silence on a connection.
const SILENCE: Duration = Duration::from_secs(60);
const MOST_REDIRECTS: usize = 5;

/// A connection to the hub.
pub(crate) struct Hub {
    client: Client,
    endpoint: Url,
    token: Option<HeaderValue>,
}

impl Hub {
    /// The endpoint of HF_ENDPOINT and the token of HF_TOKEN, HF_TOKEN_PATH, HF_HOME/token or ~/.cache/huggingface.
    pub(crate) fn from_environment() -> Result<Hub> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        let endpoint = Url::parse(&endpoint).with_context(|| format!("HF_ENDPOINT {endpoint} is no URL"))?;
        if !matches!(endpoint.scheme(), "http" | "https") {
            bail!("HF_ENDPOINT must begin with https:// or http://");
        }
        let token = match variable("HF_TOKEN").or_else(token_file) {
            Some(token) if is_safe(&endpoint) => {
                let mut value = HeaderValue::from_str(&format!("Bearer {}", token.trim()))
                    .context("the token holds characters that no header can")?;
                value.set_sensitive(true);
                Some(value)
            }
            Some(_) => bail!("HF_ENDPOINT is plain http to another machine: the token would travel unencrypted"),
            None => None,
        };
        let client = http_client(endpoint.as_str())
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            .redirect(Policy::none())
            .user_agent(concat!("weir/", env!("CARGO_PKG_VERSION")))
            .build()
            .context("the HTTP client")?;
        Ok(Hub { client, endpoint, token })
    }

    /// The endpoint's URL of this path; each part is escaped.
    fn url(&self, parts: &[&str]) -> Result<Url> {
        let mut url = self.endpoint.clone();
        match url.path_segments_mut() {
            Ok(mut path) => path.pop_if_empty().extend(parts.iter().flat_map(|part| part.split('/'))),
            Err(()) => bail!("HF_ENDPOINT cannot have a path"),
        };
        Ok(url)
    }

    /// GET, redirects followed. Gives the answer and the headers of the first one, which name what is behind it. The
    /// token goes to the endpoint's own origin only.
    async fn get(&self, url: Url, headers: HeaderMap) -> Result<(Response, HeaderMap)> {
        let mut at = url;
        let mut first = None;
        for _ in 0..=MOST_REDIRECTS {
            let mut request = self.client.get(at.clone()).headers(headers.clone());
            if let Some(token) = self.token.as_ref().filter(|_| at.origin() == self.endpoint.origin()) {
                request = request.header(AUTHORIZATION, token.clone());
            }
            let response = request.send().await.map_err(reqwest::Error::without_url)?;
            let seen = first.get_or_insert_with(|| response.headers().clone());
            if !response.status().is_redirection() {
                return Ok((response, seen.clone()));
            }
            let place = response.headers().get(LOCATION).and_then(|place| place.to_str().ok());
            at = at.join(place.context("a redirect without a place")?).context("a redirect to no URL")?;
            if at.scheme() != "https" && self.endpoint.scheme() == "https" {
                bail!("a redirect from https to {}", at.scheme());
            }
        }
        bail!("more than {MOST_REDIRECTS} redirects")
    }

    /// What a refusal means for the caller.
    fn refusal(&self, status: StatusCode, what: &str) -> anyhow::Error {
        let help = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if self.token.is_some() => {
                "the token has no right to it (a gated model must be asked for on its page)"
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                "it is private, gated or does not exist; set HF_TOKEN, or log in with `hf auth login`"
            }
            StatusCode::NOT_FOUND => "no such repository, revision or file",
            StatusCode::TOO_MANY_REQUESTS => "too many requests; wait, or set HF_TOKEN",
            _ => "the hub is in trouble; the same command goes on where it was",
        };
        anyhow::anyhow!("{what}: {status}: {help}")
    }
}

/// Whether a token may be sent there: encrypted, or not leaving this machine.
fn is_safe(endpoint: &Url) -> bool {
    endpoint.scheme() == "https" || is_this_machine(endpoint.as_str())
}

fn token_file() -> Option<String> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = || variable("HOME").map(|home| home.join(".cache/huggingface"));
    let file = variable("HF_TOKEN_PATH").or_else(|| Some(variable("HF_HOME").or_else(home)?.join("token")))?;
    std::fs::read_to_string(file).ok().filter(|token| !token.trim().is_empty())
}
