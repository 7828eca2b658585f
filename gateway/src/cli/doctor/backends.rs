//! Whether the upstreams answer, take our key, and have the model they are asked for.

use super::calls::{self, Called, Reached};
use super::{Finding, Level, Subject};
use crate::backends::NO_CLIENT;
use crate::config::wire::BackendKind;
use crate::config::{BackendSettings, Settings, nearest};

pub(super) fn look(subject: &Subject) -> Vec<Finding> {
    let Ok(settings) = &subject.settings else {
        return vec![Finding::note("not looked at: the config comes first")];
    };
    if settings.backends.is_empty() {
        return vec![Finding::note("no upstream: only the built-in engines answer")];
    }
    judged(settings, subject.calls()).map(|(_, finding)| finding).collect()
}

/// Asks the upstreams; of each that cannot answer now its name, and why.
pub(in crate::cli) fn unfit(settings: &Settings) -> Vec<(String, String)> {
    let called = calls::all(settings);
    let problems = judged(settings, &called).filter(|(_, finding)| finding.level == Level::Problem);
    problems.map(|(name, finding)| (name.to_owned(), finding.text)).collect()
}

/// What is to be said of each upstream, by its name.
fn judged<'a>(settings: &'a Settings, called: &'a [Called]) -> impl Iterator<Item = (&'a str, Finding)> {
    settings.backends.iter().map(|backend| {
        let name = backend.name.as_str();
        let finding = match called.iter().find(|called| called.backend == name) {
            Some(called) => match judge(backend, called) {
                worse if worse.level == Level::Problem => worse,
                other => ill(backend, called).unwrap_or(other),
            },
            None => Finding::problem(format!("backend `{name}`: there is no HTTP client")).fix(NO_CLIENT),
        };
        (name, finding)
    })
}

/// It answers, and would not be asked: its health check fails.
fn ill(backend: &BackendSettings, called: &Called) -> Option<Finding> {
    let health = backend.asking.health.as_ref().filter(|_| called.well == Some(false))?;
    let text =
        format!("backend `{}`: its health check at {} fails, so nothing is sent there", backend.name, health.url);
    Some(Finding::problem(text).fix("mend its `health.path`, or leave `health` out"))
}

fn judge(backend: &BackendSettings, called: &Called) -> Finding {
    let (name, url) = (&backend.name, &backend.base_url);
    let wrong = |words: &str| Finding::problem(format!("backend `{name}` at {url} {words}"));
    match &called.reached {
        Reached::Answers(models) => lists(backend, models),
        Reached::Refuses(401 | 403) if backend.api_key.is_none() => {
            wrong("wants a key").fix("put it into an environment variable and name that: `api_key_env`")
        }
        Reached::Refuses(401 | 403) => {
            wrong("refuses the key").fix("look at the variable that `api_key_env` names, and at the account there")
        }
        Reached::Refuses(404 | 405) => Finding::note(format!("backend `{name}` at {url} answers, but lists no models"))
            .fix(match backend.wire.kind {
                BackendKind::Ollama => "if requests fail, too: `base_url` of ollama is its address alone",
                _ => "if requests fail, too: `base_url` mostly ends in `/v1`",
            }),
        Reached::Refuses(429) => Finding::note(format!("backend `{name}` at {url} limits our requests at the moment")),
        Reached::Refuses(status @ 500..) => {
            wrong(&format!("answers {status}")).fix("look into its own log; Weir leaves it alone while it fails")
        }
        Reached::Refuses(status) => Finding::note(format!("backend `{name}` at {url} answers {status}")),
        Reached::NobodyListens => wrong("is not there: nobody listens").fix("start it, or mend `base_url`"),
        Reached::NoSuchHost => wrong("is not found: no host has this name").fix("mend `base_url`, or the DNS"),
        Reached::Silent => {
            wrong("did not answer within 5 s").fix("it may be loading, or a firewall swallows what is sent to it")
        }
        Reached::NoTls => wrong("does not speak TLS that can be trusted")
            .fix("its certificate must be trusted by this system; for plain HTTP write `http://`"),
        // What either makes of the other's first words differs from server to server.
        Reached::Broke => wrong("broke the connection off").fix(match url.starts_with("https:") {
            true => "is it an HTTP server at all? For plain HTTP write `http://`",
            false => "is it an HTTP server at all? For TLS write `https://`",
        }),
    }
}

fn lists(backend: &BackendSettings, models: &[String]) -> Finding {
    let (name, url) = (&backend.name, &backend.base_url);
    // Ollama adds the tag that was left out.
    let has =
        |wanted: &str| models.iter().any(|model| model == wanted || model.strip_suffix(":latest") == Some(wanted));
    let missing = std::iter::once(&backend.model).chain(&backend.models).find(|model| !has(model));
    match missing {
        Some(missing) if !models.is_empty() => {
            let near = nearest(missing, models.iter().map(String::as_str));
            let help = near.map_or_else(|| "mend `model`".to_owned(), |near| format!("did you mean `{near}`?"));
            Finding::note(format!("backend `{name}` at {url} answers, but does not list the model `{missing}`"))
                .fix(help)
        }
        _ => Finding::ok(format!("backend `{name}` at {url} answers")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Inputs, load};

    fn backend(rest: &str) -> BackendSettings {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("weir.toml");
        let base = if rest.contains("ollama") { "http://h" } else { "http://h/v1" };
        let text = format!("[[backend]]\nname = \"gpu\"\nbase_url = \"{base}\"\nmodel = \"qwen3-8b\"\n{rest}");
        std::fs::write(&file, text).unwrap();
        let env = vec![("KEY".to_owned(), "k".to_owned())];
        load(&Inputs { file: Some(file), env, ..Inputs::default() }).unwrap().backends.remove(0)
    }

    #[track_caller]
    fn check(rest: &str, reached: Reached, level: Level, word: &str) {
        let finding = judge(&backend(rest), &Called { backend: "gpu".into(), reached, well: None, date: None });
        assert_eq!(finding.level, level, "{finding:?}");
        let text = format!("{} {}", finding.text, finding.fix.unwrap_or_default());
        assert!(text.contains(word), "{text}");
    }

    #[test]
    fn each_way_to_fail_has_its_words() {
        let list = |ids: &[&str]| Reached::Answers(ids.iter().map(ToString::to_string).collect());
        check("", list(&["qwen3-8b"]), Level::Ok, "answers");
        check("", list(&[]), Level::Ok, "answers");
        check("", list(&["qwen3-8b:latest"]), Level::Ok, "answers");
        check("", list(&["qwen3-8b-it"]), Level::Note, "did you mean `qwen3-8b-it`?");
        check("", Reached::Refuses(401), Level::Problem, "wants a key");
        check("api_key_env = \"KEY\"", Reached::Refuses(401), Level::Problem, "refuses the key");
        check("", Reached::Refuses(404), Level::Note, "/v1");
        check("kind = \"ollama\"", Reached::Refuses(404), Level::Note, "its address alone");
        check("", Reached::Refuses(503), Level::Problem, "503");
        check("", Reached::NobodyListens, Level::Problem, "nobody listens");
        check("", Reached::Silent, Level::Problem, "firewall");
        check("", Reached::Broke, Level::Problem, "For TLS write `https://`");
    }

    #[test]
    fn a_health_check_that_fails_is_a_problem_of_a_backend_that_answers() {
        let told = |rest: &str, well: Option<bool>| {
            let called = Called { backend: "gpu".into(), reached: Reached::Answers(Vec::new()), well, date: None };
            ill(&backend(rest), &called)
        };
        let check = "health = { path = \"/health\" }";
        assert_eq!((told("", None), told(check, Some(true))), (None, None));
        let finding = told(check, Some(false)).unwrap();
        assert_eq!(finding.level, Level::Problem);
        assert!(finding.text.contains("its health check at http://h/health fails"), "{}", finding.text);
    }
}
