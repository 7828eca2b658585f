//! Keys of tenants: made here, shown once, kept as a hash only. A key is 256 random bits, so a plain SHA-256 of it is as
//! good as any slow hash: there is nothing to guess. Must never keep, show or log a key.

use std::fmt;
use std::fmt::Write;

use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use subtle::{Choice, ConstantTimeEq};

/// What keys begin with, so that scanners of repositories and logs know them.
const PREFIX: &str = "weir_";
const SCHEME: &str = "sha256:";
const BYTES: usize = 32;

/// A key as it is stored.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyHash([u8; BYTES]);

impl KeyHash {
    /// Of a key as a caller sends it.
    pub fn of(key: &[u8]) -> Self {
        let mut hash = [0; BYTES];
        hash.copy_from_slice(digest(&SHA256, key).as_ref());
        KeyHash(hash)
    }

    /// From `sha256:` and 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(SCHEME)?.as_bytes();
        let mut hash = [0; BYTES];
        if digits.len() != 2 * BYTES {
            return None;
        }
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |at: usize| char::from(pair[at]).to_digit(16);
            *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
        }
        Some(KeyHash(hash))
    }

    /// Takes as long whether they are equal or not.
    pub(crate) fn matches(&self, other: &KeyHash) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SCHEME)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(…)")
    }
}

/// A new key, as text to hand over, and what to store of it.
///
/// # Errors
/// The system has no randomness.
pub fn fresh() -> Result<(String, KeyHash), ring::error::Unspecified> {
    let mut bytes = [0; BYTES];
    SystemRandom::new().fill(&mut bytes)?;
    let mut key = String::from(PREFIX);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(key, "{byte:02x}");
    }
    let hash = KeyHash::of(key.as_bytes());
    Ok((key, hash))
}

/// The end of a day, `YYYY-MM-DD` in UTC, in seconds since 1970; `None` if there is no such day.
pub fn end_of_day(date: &str) -> Option<u64> {
    let mut parts = date.split('-');
    let mut number = |width: usize| {
        let part = parts.next().filter(|part| part.len() == width && part.bytes().all(|byte| byte.is_ascii_digit()))?;
        part.parse::<u64>().ok()
    };
    let (year, month, day) = (number(4)?, number(2)?, number(2)?);
    if parts.next().is_some() || year < 1970 {
        return None;
    }
    let leap = |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let length = |month: u64| match month {
        2 => 28 + u64::from(leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if !(1..=12).contains(&month) || !(1..=length(month)).contains(&day) {
        return None;
    }
    let days = (1970..year).map(|year| 365 + u64::from(leap(year))).sum::<u64>();
    let days = days + (1..month).map(length).sum::<u64>() + day;
    Some(days * 86_400)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_and_match_only_their_own_hash() {
        let ((one, hash), (other, other_hash)) = (fresh().unwrap(), fresh().unwrap());
        assert!(one != other && one.starts_with("weir_") && one.len() == 69);
        let matches = |hash: &KeyHash, key: &str| bool::from(hash.matches(&KeyHash::of(key.as_bytes())));
        assert!(matches(&hash, &one) && matches(&other_hash, &other) && !matches(&hash, &other));
        assert_eq!(KeyHash::parse(&hash.to_string()), Some(hash));
        assert!(!hash.to_string().contains(&one[5..]) && !format!("{hash:?}").contains(&hash.to_string()[8..]));
    }

    #[test]
    fn only_a_whole_hash_is_one() {
        // `printf abc | sha256sum`
        let abc = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(KeyHash::parse(abc), Some(KeyHash::of(b"abc")));
        for wrong in ["", "sha256:", &abc[7..], &abc[..70], &abc.replace("ba", "zz"), &format!("{abc}0"), "sha256:é"] {
            assert_eq!(KeyHash::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn days_end_at_midnight() {
        // `date -u -d '2027-01-01' +%s` and so on
        for (date, end) in [
            ("1970-01-01", Some(86_400)),
            ("2026-12-31", Some(1_798_761_600)),
            ("2028-02-29", Some(1_835_481_600)),
            ("2027-02-29", None),
            ("2026-13-01", None),
            ("2026-00-01", None),
            ("2026-1-1", None),
            ("2026-01-01T00:00:00Z", None),
            ("never", None),
        ] {
            assert_eq!(end_of_day(date), end, "{date}");
        }
    }
}
