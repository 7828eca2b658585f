//! The certificate a client is shown. Must never put a key's bytes into an error.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::certificate;
use crate::config::server::TlsSettings;

/// What is wrong with a certificate or its key.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// No certificate in the file.
    #[error("holds no certificate as PEM")]
    NoCertificate,
    /// No key in the file.
    #[error("holds no private key as PEM")]
    NoKey,
    /// A key, but not this certificate's.
    #[error("not the certificate's key")]
    OtherKey,
    /// rustls does not take them.
    #[error("cannot be used: {0}")]
    Unusable(rustls::Error),
}

impl TlsError {
    /// The key of `[server.tls]` it is about.
    pub fn key(&self) -> &'static str {
        match self {
            TlsError::NoCertificate | TlsError::Unusable(_) => "cert",
            TlsError::NoKey | TlsError::OtherKey => "key",
        }
    }

    /// What to do.
    pub fn help(&self) -> &'static str {
        match self {
            TlsError::NoCertificate => "name the file that begins with `-----BEGIN CERTIFICATE-----`",
            TlsError::NoKey => "name the file that begins with `-----BEGIN PRIVATE KEY-----`",
            TlsError::OtherKey => "the first certificate of `cert` must be the key's own",
            TlsError::Unusable(_) => "RSA from 2048 bits, ECDSA P-256 or P-384, and Ed25519 can be used",
        }
    }
}

/// What a TLS handshake needs.
///
/// # Errors
/// The certificate or the key is none, or they do not belong together.
pub fn server_config(settings: &TlsSettings) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = chain(&settings.cert)?;
    let key = PrivateKeyDer::from_pem_slice(settings.key.expose().as_bytes()).map_err(|_| TlsError::NoKey)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => TlsError::OtherKey,
            other => TlsError::Unusable(other),
        })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// From when to when the certificate is good, in seconds since 1970, if that can be read.
pub fn validity(settings: &TlsSettings) -> Option<(u64, u64)> {
    certificate::validity(chain(&settings.cert).ok()?.first()?)
}

fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|_| TlsError::NoCertificate)?;
    if chain.is_empty() { Err(TlsError::NoCertificate) } else { Ok(chain) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Made for tests: `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 36500 -subj /CN=localhost`.
    pub(crate) const CERT: &str = "-----BEGIN CERTIFICATE-----
MIIBmzCCAUGgAwIBAgIUCyGNUzqF17BWe8UtAtEMa9lps3cwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyOTAxMzQxNFoYDzIxMjYxMTA1
MDEzNDE0WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAATOFsAYcotqPWJqeAnv1GcVEgJ3FgP8DxYNUGi1sQJq6zNDVfvPmATL
aaFrLFG6gODPDVvdiVZDCfWmmMcfMhcLo28wbTAdBgNVHQ4EFgQU+/FBk1r0TIGh
7B921UqkR+aDs0YwHwYDVR0jBBgwFoAU+/FBk1r0TIGh7B921UqkR+aDs0YwDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI
zj0EAwIDSAAwRQIhANgiPG90nzBBeLvVnWq+jAODLlzL3xDpyx/I+LOeKruGAiAl
qjAt2FVl6G9RAyVY82z1F/Y7Hjq7lVM7DMGFFjmsyw==
-----END CERTIFICATE-----
";
    pub(crate) const KEY: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgzDEPv9yo/D9ttf0M
0XrIi8jyxbaplmcS+2mWFWy5bL2hRANCAATOFsAYcotqPWJqeAnv1GcVEgJ3FgP8
DxYNUGi1sQJq6zNDVfvPmATLaaFrLFG6gODPDVvdiVZDCfWmmMcfMhcL
-----END PRIVATE KEY-----
";
    pub(crate) const OTHER_KEY: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgQLz60tLM9q18RfiD
7/ckrimld4fHA9uVURopXLpya92hRANCAATuNxTAm0swus0wHms2bdJ4r5RAJDqJ
bDVZ3tdTPHxa1X2RIgrfDXzwNRnGs0TzuY+i2mqRGG6WRuXeVY4v8WoF
-----END PRIVATE KEY-----
";

    #[test]
    fn a_certificate_tells_how_long_it_is_good() {
        let settings = TlsSettings {
            file: "cert.pem".into(),
            cert: CERT.as_bytes().to_vec(),
            key_file: "key.pem".into(),
            key: crate::config::Secret::new(KEY),
        };
        assert!(server_config(&settings).is_ok());
        // `date -u -d '2026-11-29 01:34:14' +%s`, and 2126-11-05 at the same time
        assert_eq!(validity(&settings), Some((1_795_916_054, 4_949_516_054)));
    }
}
