//! Whether the collector of traces takes spans from here. Sends it none.

use super::calls::{self, Reached};
use super::{Finding, Subject};

pub(super) fn look(subject: &Subject) -> Vec<Finding> {
    let Ok(settings) = &subject.settings else {
        return vec![Finding::note("not looked at: the config comes first")];
    };
    vec![match &settings.telemetry.otlp {
        None => Finding::ok("no collector: spans are not recorded"),
        Some(otlp) => match calls::collector(otlp) {
            Some(reached) => judge(&otlp.endpoint, !otlp.headers.is_empty(), &reached),
            None => Finding::problem("the collector cannot be asked: there is no HTTP client"),
        },
    }]
}

fn judge(endpoint: &str, sends_headers: bool, reached: &Reached) -> Finding {
    // Spans are lost then, and requests go on: nothing that keeps `weir serve` from its work.
    let lost = |words: &str| Finding::problem(format!("the collector at {endpoint} {words}: spans would be lost"));
    match reached {
        Reached::Answers(_) => Finding::ok(format!("the collector at {endpoint} takes spans")),
        Reached::Refuses(401 | 403) if sends_headers => {
            lost("refuses our headers").fix("look at the variable that `tracing.otlp.headers_env` names")
        }
        Reached::Refuses(401 | 403) => lost("wants to know who sends")
            .fix("put its headers into a variable and name that: `tracing.otlp.headers_env`"),
        Reached::Refuses(404 | 405) => lost("has no such path")
            .fix("name the one that takes OTLP over HTTP; without a path `tracing.otlp.endpoint` means /v1/traces"),
        Reached::Refuses(415) => lost("does not take protobuf").fix("Weir sends OTLP as protobuf: allow that there"),
        Reached::Refuses(status) => lost(&format!("answers {status}")).fix("look into its own log"),
        Reached::NobodyListens => {
            lost("is not there").fix("start it, or mend `tracing.otlp.endpoint`; OTLP over HTTP is mostly port 4318")
        }
        Reached::NoSuchHost => lost("is not found").fix("mend `tracing.otlp.endpoint`, or the DNS"),
        Reached::Silent => lost("did not answer within 5 s").fix("a firewall may swallow what is sent to it"),
        Reached::NoTls => lost("does not speak TLS that can be trusted").fix("for plain HTTP write `http://`"),
        Reached::Broke => lost("broke the connection off").fix("port 4317 is mostly gRPC; OTLP over HTTP is port 4318"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn each_way_to_lose_spans_has_its_words() {
        let said = |headers, reached: &Reached| {
            let finding = judge("http://c/v1/traces", headers, reached);
            (finding.level, format!("{} {}", finding.text, finding.fix.unwrap_or_default()))
        };
        assert_eq!(said(false, &Reached::Answers(Vec::new())).0, Level::Ok);
        for (headers, reached, word) in [
            (true, Reached::Refuses(401), "refuses our headers"),
            (false, Reached::Refuses(403), "headers_env"),
            (false, Reached::Refuses(404), "/v1/traces"),
            (false, Reached::Refuses(503), "503"),
            (false, Reached::NobodyListens, "4318"),
            (false, Reached::Broke, "gRPC"),
        ] {
            let (level, text) = said(headers, &reached);
            assert!(level == Level::Problem && text.contains(word), "{text}");
        }
    }
}
