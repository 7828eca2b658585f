//! Reads one thing out of an X.509 certificate (RFC 5280): from when to when it is good. Whether it can be trusted is the
//! clients' business. Any bytes may come: reads nothing beyond them.

/// Tags of DER.
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// Both ends, in seconds since 1970; `None` where the bytes are no certificate.
pub(super) fn validity(der: &[u8]) -> Option<(u64, u64)> {
    let (certificate, _) = value(der, SEQUENCE)?;
    let (signed, _) = value(certificate, SEQUENCE)?;
    // Version (may be left out), serial number, signature's algorithm, issuer.
    let rest = if signed.first() == Some(&VERSION) { any(signed)?.2 } else { signed };
    let rest = (0..3).try_fold(rest, |rest, _| any(rest).map(|(_, _, rest)| rest))?;
    let (validity, _) = value(rest, SEQUENCE)?;
    let (tag, from, rest) = any(validity)?;
    let (until_tag, until, _) = any(rest)?;
    Some((seconds(tag, from)?, seconds(until_tag, until)?))
}

/// The next value's tag and bytes, and what comes after it.
fn any(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x83 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (value, rest) = rest.split_at_checked(length)?;
    Some((tag, value, rest))
}

fn value(der: &[u8], wanted: u8) -> Option<(&[u8], &[u8])> {
    any(der).filter(|(tag, ..)| *tag == wanted).map(|(_, value, rest)| (value, rest))
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`.
fn seconds(tag: u8, text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z').filter(|text| text.is_ascii())?;
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = text.split_at_checked(2)?;
            let year: u64 = year.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = text.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    if rest.len() != 10 {
        return None;
    }
    let part = |at: usize| rest.get(at..at + 2)?.parse::<u64>().ok();
    let day_after = crate::tenants::key::end_of_day(&format!("{year:04}-{:02}-{:02}", part(0)?, part(2)?))?;
    Some(day_after - 86_400 + part(4)? * 3600 + part(6)? * 60 + part(8)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_both_forms() {
        assert_eq!(seconds(UTC_TIME, b"700101000001Z"), Some(1));
        assert_eq!(seconds(GENERALIZED_TIME, b"20261129013414Z"), Some(1_795_916_054));
        for wrong in ["", "Z", "20261129013414", "20261329013414Z", "2026112901Z"] {
            assert_eq!(seconds(GENERALIZED_TIME, wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn no_bytes_are_too_few() {
        let whole = [SEQUENCE, 4, SEQUENCE, 2, 2, 0];
        for end in 0..whole.len() {
            assert_eq!(validity(&whole[..end]), None);
        }
        assert_eq!(validity(&[SEQUENCE, 0x83, 0xff, 0xff, 0xff, 0]), None);
    }
}
