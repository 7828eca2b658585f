//! A certificate for `localhost` and 127.0.0.1, made on the spot: whoever trusts it trusts nothing else. Good from 2000 to
//! 2100, so that no test depends on the clock.

use anyhow::{Result, anyhow};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};

/// A certificate and its private key, as PEM.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The certificate.
    pub cert: String,
    /// The key.
    pub key: String,
}

/// ecdsa-with-SHA256, id-ecPublicKey, prime256v1, commonName, subjectAltName.
const SIGNED_BY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
const PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const CURVE: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 0x11];

impl Certificate {
    /// With a key of its own.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn new() -> Result<Self> {
        let random = SystemRandom::new();
        let failed = |_| anyhow!("no randomness");
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).map_err(failed)?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref(), &random)
            .map_err(|error| anyhow!("the key just made: {error}"))?;
        let algorithm = sequence(&[oid(SIGNED_BY)]);
        let name = sequence(&[value(0x31, &sequence(&[oid(COMMON_NAME), value(0x0c, b"localhost")]))]);
        let validity = sequence(&[value(0x17, b"000101000000Z"), value(0x18, b"21000101000000Z")]);
        let public = sequence(&[sequence(&[oid(PUBLIC_KEY), oid(CURVE)]), bits(pair.public_key().as_ref())]);
        let names = sequence(&[value(0x82, b"localhost"), value(0x87, &[127, 0, 0, 1])]);
        let extensions = value(0xa3, &sequence(&[sequence(&[oid(ALTERNATIVE_NAME), value(0x04, &names)])]));
        let version = value(0xa0, &value(0x02, &[2]));
        let serial = value(0x02, &[1]);
        let to_sign = sequence(&[version, serial, algorithm.clone(), name.clone(), validity, name, public, extensions]);
        let signature = pair.sign(&random, &to_sign).map_err(failed)?;
        let cert = sequence(&[to_sign, algorithm, bits(signature.as_ref())]);
        Ok(Certificate { cert: pem("CERTIFICATE", &cert), key: pem("PRIVATE KEY", pkcs8.as_ref()) })
    }
}

fn value(tag: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes();
    match length {
        [0, short @ 0..=0x7f] => out.push(short),
        [0, long] => out.extend([0x81, long]),
        [high, low] => out.extend([0x82, high, low]),
    }
    out.extend(bytes);
    out
}

fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    value(0x30, &parts.concat())
}

fn oid(bytes: &[u8]) -> Vec<u8> {
    value(0x06, bytes)
}

fn bits(bytes: &[u8]) -> Vec<u8> {
    value(0x03, &[&[0], bytes].concat())
}

fn pem(label: &str, der: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in der.chunks(3) {
        let number = three.iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for place in 0..4 {
            let letter = LETTERS[(number >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= three.len() { char::from(letter) } else { '=' });
        }
    }
    let lines: Vec<&str> = (0..text.len()).step_by(64).map(|at| &text[at..text.len().min(at + 64)]).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
