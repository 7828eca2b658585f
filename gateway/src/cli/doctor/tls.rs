//! The certificate of `[server.tls]`: whether it is good now and for a while. That it can be read and fits its key was seen
//! when the config was read.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{Finding, Subject};
use crate::listener::tls::validity;

const DAY: u64 = 86_400;
/// How long before its end a certificate is worth a word.
const SOON: u64 = 21 * DAY;

pub(super) fn look(subject: &Subject) -> Vec<Finding> {
    let Ok(settings) = &subject.settings else {
        return vec![Finding::note("not looked at: the config comes first")];
    };
    let Some(tls) = &settings.server.tls else {
        return vec![match settings.server.listen.ip().is_loopback() {
            true => Finding::ok("off: plain HTTP on this machine only"),
            false => Finding::note("off: keys and prompts cross the network in clear")
                .fix("set `[server.tls]`, or let a proxy in front of Weir speak TLS"),
        }];
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut findings = vec![judge(&tls.file.display().to_string(), validity(tls), now)];
    #[cfg(unix)]
    if let Ok(about) = std::fs::metadata(&tls.key_file) {
        use std::os::unix::fs::PermissionsExt;
        if about.permissions().mode() & 0o007 != 0 {
            let file = tls.key_file.display();
            findings.push(Finding::note(format!("everybody on this machine may read {file}")).fix("chmod o= on it"));
        }
    }
    findings
}

fn judge(file: &str, validity: Option<(u64, u64)>, now: u64) -> Finding {
    let fix = "put a new certificate and its key in place: a running `weir serve` takes them over by itself";
    match validity {
        None => Finding::note(format!("{file}: how long it is good cannot be read")),
        Some((from, _)) if from > now => {
            Finding::problem(format!("{file} is not good yet")).fix("is the clock of this machine right?")
        }
        Some((_, until)) if until <= now => Finding::problem(format!("{file} has expired")).fix(fix),
        Some((_, until)) if until - now < SOON => {
            Finding::note(format!("{file} is good for {} days more", (until - now) / DAY)).fix(fix)
        }
        Some((_, until)) => Finding::ok(format!("{file} is good for {} days more", (until - now) / DAY)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn a_certificate_is_judged_by_its_days() {
        let level = |validity| judge("cert.pem", validity, 100 * DAY).level;
        assert_eq!(level(Some((0, 200 * DAY))), Level::Ok);
        assert_eq!(level(Some((0, 110 * DAY))), Level::Note);
        assert_eq!(level(Some((0, 100 * DAY))), Level::Problem);
        assert_eq!(level(Some((101 * DAY, 200 * DAY))), Level::Problem);
        assert_eq!(level(None), Level::Note);
    }
}
