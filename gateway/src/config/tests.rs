//! Each mistake an operator may make, and what Weir says to it; and that no text makes it panic.

use std::io::Write;

use proptest::prelude::*;

use super::written::Written;
use super::*;

fn load_text(text: &str) -> Result<Settings, String> {
    load_with(text, &[], None)
}

fn load_with(text: &str, env: &[(&str, &str)], listen: Option<&str>) -> Result<Settings, String> {
    let mut file = tempfile::Builder::new().prefix("weir").suffix(".toml").tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let inputs = Inputs {
        file: Some(file.path().to_owned()),
        env: env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        listen: listen.map(str::to_owned),
        asks_nobody: false,
    };
    let name = file.path().display().to_string();
    load(&inputs).map_err(|errors| errors.to_string().replace(&name, "FILE"))
}

/// The lines taken out: most tests are about the words.
fn without_lines(text: &str) -> String {
    let one = |line: &str| match line.strip_prefix("FILE:") {
        Some(rest) => format!("FILE:{}", rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ':')),
        None => line.to_owned(),
    };
    text.lines().map(one).collect::<Vec<_>>().join("\n")
}

#[track_caller]
pub(super) fn check_error(text: &str, expect: &str) {
    assert_eq!(without_lines(&load_text(text).unwrap_err()), expect);
}

#[test]
fn mistakes_have_their_lines() {
    let text = "# a comment\n[server]\nlisten = \"127.0.0.1:1\"\nmax_in_flight = 0\n\n[[backend]]\nname = \"a\"\n\
                base_url = \"http://h\"\nmodel = \"m\"\n\n[[backend]]\nname = \"b\"\nmodel = \"m2\"\nprice = { input = -1.0 }\n\
                [backend.health]\nfailures = 0\n[engine]\nar.step_tokens = 0\n";
    let error = load_text(text).unwrap_err();
    for (line, key) in [
        (4, "server.max_in_flight"),
        (18, "engine.ar.step_tokens"),
        (11, "backend[1].base_url"),
        (14, "backend[1].price.input"),
        (16, "backend[1].health.failures"),
    ] {
        assert!(error.contains(&format!("FILE:{line}: `{key}`: ")), "{key}: {error}");
    }
    assert!(load_text("\n\n[server]\n\nlisen = 1").unwrap_err().starts_with("FILE:5: `server.lisen`"));
}

#[test]
fn what_is_no_utf8_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("weir.toml");
    std::fs::write(&file, b"# a\n# f\xfcr\n").unwrap();
    let error = load(&Inputs { file: Some(file), ..Inputs::default() }).unwrap_err().to_string();
    assert!(error.contains("cannot be read: line 2 is not UTF-8"), "{error}");
}

#[test]
fn a_setting_that_does_nothing_by_itself_is_told() {
    for (text, key) in [
        ("[policy.shadow]\nsample = 0.1", "policy.shadow.sample"),
        ("[policy.canary]\nshare = 0.1", "policy.canary.share"),
        ("[attempts]\nhedge_after_ms = 100", "attempts.hedge_after_ms"),
        ("[request_log]\nfile = \"log\"", "request_log.file"),
        ("[request_log]\ncontent = true", "request_log.content"),
        ("[tracing.otlp]\nsample = 0.5", "tracing.otlp.sample"),
    ] {
        let error = load_text(text).unwrap_err();
        assert!(error.contains(&format!("FILE:2: `{key}`: does nothing")), "{error}");
    }
    // Who says that it is off may leave the rest for the day on which it is on again.
    for text in [
        "[policy.shadow]\npolicy = \"\"\nsample = 0.1",
        "[attempts]\nhedge = false\nhedge_after_ms = 100",
        "[request_log]\nenabled = false\nfile = \"log\"",
    ] {
        load_text(text).unwrap();
    }
}

#[test]
fn a_wait_longer_than_the_whole_is_told() {
    let backend = |rest: &str| format!("[[backend]]\nname = \"a\"\nbase_url = \"http://h\"\nmodel = \"m\"\n{rest}");
    for wait in ["first_content_timeout_ms", "headers_timeout_ms", "idle_timeout_ms", "connect_timeout_ms"] {
        let error = load_text(&backend(&format!("total_timeout_ms = 50\n{wait} = 51"))).unwrap_err();
        assert!(error.starts_with(&format!("FILE:6: `backend[0].{wait}`: never ends a wait")), "{error}");
    }
    load_text(&backend("total_timeout_ms = 50")).unwrap();
    load_text(&backend("total_timeout_ms = 50\nheaders_timeout_ms = 60000")).unwrap();
    load_text(&backend("total_timeout_ms = 50\nidle_timeout_ms = 50")).unwrap();
}

#[test]
fn the_embedded_file_says_the_same_as_the_types() {
    let from_file: Written =
        figment::Figment::from(<figment::providers::Toml as figment::providers::Format>::string(embedded::CONFIG))
            .extract()
            .unwrap();
    assert_eq!(from_file, Written::default());
}

#[test]
fn later_layers_win() {
    let file = "[server]\nlisten = \"127.0.0.1:1\"\nmax_in_flight = 7\nkeep_alive_ms = 5";
    let env = [("WEIR_SERVER__LISTEN", "127.0.0.1:2"), ("WEIR_SERVER__MAX_IN_FLIGHT", "8"), ("WEIR_BIN", "ignored")];
    let settings = load_with(file, &env, Some("127.0.0.1:3")).unwrap();
    assert_eq!(settings.server.listen.port(), 3);
    assert_eq!(settings.server.max_in_flight, 8);
    assert_eq!(settings.server.keep_alive.as_millis(), 5);
    assert_eq!(settings.server.hold_headers.as_millis(), 1000);
    assert_eq!(settings.origins.len(), 4);
}

#[test]
fn unknown_keys_name_the_nearest() {
    check_error("[server]\nlisen = \"x\"", "FILE: `server.lisen`: unknown key\n  help: did you mean `listen`?");
    check_error(
        "listen = \"127.0.0.1:1\"",
        "FILE: `listen`: unknown key\n  help: did you mean `server.listen` (environment: `WEIR_SERVER__LISTEN`)?",
    );
    check_error(
        "[[backend]]\nbase_ur = 1",
        "FILE: `backend[0].base_ur`: unknown key\n  help: did you mean `base_url`?",
    );
    check_error(
        "[zzz]",
        "FILE: `zzz`: unknown key\n  help: known here: server, admin, engine, backend, policy, tenants, tenant, attempts, exhausted, latency, request_log, tracing",
    );
}

#[test]
fn what_belongs_into_a_policy_file_is_told_so() {
    for written in ["[[rule]]", "[condense]", "[[test]]"] {
        let said = load_with(written, &[], None).unwrap_err();
        assert!(said.contains("it stands in a policy file, which `[policy] file` names"), "{said}");
    }
}

#[test]
fn environment_mistakes_are_shown_as_variables() {
    assert_eq!(
        load_with("", &[("WEIR_SERVER__LISEN", "x"), ("WEIR_SERVER_LISTEN", "x")], None).unwrap_err(),
        "environment: `WEIR_SERVER__LISEN`: unknown key\n  help: did you mean `listen`?\n\
         environment: `WEIR_SERVER_LISTEN`: unknown key\n  \
         help: did you mean `server.listen` (environment: `WEIR_SERVER__LISTEN`)?"
    );
    assert_eq!(
        load_with("", &[("WEIR_ENGINE__DIFFUSION__THRESHOLD", "2")], None).unwrap_err(),
        "environment: `WEIR_ENGINE__DIFFUSION__THRESHOLD`: must be from 0 to 1"
    );
    assert_eq!(
        load_with("", &[], Some("nonsense")).unwrap_err(),
        "flag: `--listen`: not an address and port\n  help: write it like `127.0.0.1:8787`"
    );
}

#[test]
fn variables_of_others_are_left_alone() {
    // README's own name for the admin's key; Kubernetes' words for services of these names; nobody's.
    let services = ["BACKEND", "SERVER", "ADMIN", "ENGINE", "TENANTS", "POLICY", "REQUEST_LOG"].map(|service| {
        ["SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT", "PORT_80_TCP", "PORT_80_TCP_ADDR"]
            .map(|word| format!("WEIR_{service}_{word}"))
    });
    let mut names: Vec<String> = services.into_iter().flatten().collect();
    names.extend(["WEIR_ADMIN_KEY", "WEIR_REDIS_URL", "WEIR_API_KEY", "WEIR_BIN", "WEIR_ENGINE"].map(str::to_owned));
    let env: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "tcp://10.0.0.1:80")).collect();
    assert!(load_with("", &env, None).is_ok_and(|settings| settings.origins.len() == 2));
}

#[test]
fn settings_with_one_underscore_too_few_are_refused() {
    for name in ["WEIR_SERVER_LISTEN", "WEIR_REQUEST_LOG_ENABLED", "WEIR_TRACING_OTLP_ENDPOINT", "WEIR_POLICY_PROFLE"] {
        let error = load_with("", &[(name, "x")], None).unwrap_err();
        assert!(error.starts_with(&format!("environment: `{name}`: unknown key")), "{error}");
    }
}

#[test]
fn a_folder_of_gguf_files_is_told_which_name_to_give() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a-Q4_0.gguf");
    std::fs::write(&file, "GGUF").unwrap();
    let error = load_text(&format!("[engine.ar]\nmodel = {:?}", folder.path())).unwrap_err();
    assert!(error.contains(&format!("help: name the file: `{}`", file.display())), "{error}");
}

#[test]
fn wrong_types_name_field_and_fix() {
    check_error(
        "[server]\nmax_in_flight = \"many\"",
        "FILE: `server.max_in_flight`: a text where a whole number from 0 up belongs\n  help: write it like `max_in_flight = 1024`",
    );
    check_error(
        "server = 3",
        "FILE: `server`: a number where a table belongs\n  help: write it as a section: `[server]`",
    );
    check_error(
        "[engine.diffusion]\ndecoder = \"jont\"",
        "FILE: `engine.diffusion.decoder`: not one of threshold, joint, levenshtein, multi_block, hierarchy, credit\n  help: write it like `decoder = \"auto\"`",
    );
    check_error(
        "[engine.diffusion]\nblock_length = 24\nmax_steps = 25\nmulti_block_window = 5\nrepeat_penalty = -1.0",
        "FILE: `engine.diffusion.block_length`: must be a power of two from 1 to 256\n\
         FILE: `engine.diffusion.max_steps`: must be from 1 to 24\n\
         FILE: `engine.diffusion.multi_block_window`: must be from 2 to 4\n\
         FILE: `engine.diffusion.repeat_penalty`: must be from 0 to 10",
    );
    check_error(
        "[engine.diffusion]\nthreshold = \"high\"",
        "FILE: `engine.diffusion.threshold`: a text where `\"auto\"` or one of its values belongs\n  help: write it like `threshold = \"auto\"`",
    );
}

#[test]
fn what_is_written_in_another_shape_is_shown_its_own() {
    let backend = |rest: &str| format!("[[backend]]\nname = \"gpu\"\nmodel = \"m\"\n{rest}");
    for (text, help) in [
        ("[[tenants]]\nname = \"a\"".to_owned(), "a tenant is a `[[tenant]]`"),
        ("[tenant]\nname = \"a\"".to_owned(), "one of several is written `[[tenant]]`"),
        ("[backend]\nname = \"a\"".to_owned(), "one of several is written `[[backend]]`"),
        (
            "[[tenant]]\nkeys = [{ hash = \"h\", expires = 2026-12-31 }]".to_owned(),
            "write it in quotes: `expires = \"…\"`",
        ),
        ("[[tenant]]\nmodels = \"auto\"".to_owned(), "write it like `models = [\"…\"]`"),
        (backend("base_url = \"http://h/v1/chat/completions/\""), "leave that out: it mostly ends in `/v1`"),
        (backend("kind = \"ollama\"\nbase_url = \"http://h/v1/\""), "leave it out, or set `kind = \"openai-chat\"`"),
        (backend("price = 3.0"), "write it as a section: `[backend.price]`, below its `[[backend]]`"),
        (backend("health = \"/health\""), "write it as a section: `[backend.health]`, below its `[[backend]]`"),
        ("[[tenant]]\nkeys = [\"weir_1\"]".to_owned(), "write it like `keys = [{ hash = \"…\", expires = \"…\" }]`"),
        ("[engine.ar]\nwarm = [\"a.json\"]".to_owned(), "write it like `warm = [{ name = \"…\", file = \"…\" }]`"),
        ("backend = [\"gpu\"]".to_owned(), "one of several is written `[[backend]]`"),
        ("[engine.diffusion]\nthreshold = \"0.5\"".to_owned(), "write numbers without quotes: `threshold = 0.5`"),
        ("[server]\nwatch_ms = \"7\"".to_owned(), "write numbers without quotes: `watch_ms = 7`"),
        ("[admin]\nkey = \"secret\"".to_owned(), "known here: listen, key_env, key_hash"),
        (
            "[tracing]\nendpoint = \"x\"".to_owned(),
            "did you mean `tracing.otlp.endpoint` (environment: `WEIR_TRACING__",
        ),
        ("base_url = \"x\"".to_owned(), "did you mean `backend.base_url`? It stands in the file, in a `[[backend]]`"),
    ] {
        let error = load_text(&text).unwrap_err();
        assert!(error.contains(help), "{error}");
    }
}

#[test]
fn who_asks_nobody_needs_no_keys() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("weir.toml");
    let text = "[admin]\nlisten = \"127.0.0.1:0\"\nkey_env = \"A\"\n[tenants]\nstore_env = \"S\"\n[tracing.otlp]\n\
                endpoint = \"http://h\"\nheaders_env = \"H\"\n[[backend]]\nname = \"gpu\"\nbase_url = \"http://h/v1\"\n\
                model = \"m\"\napi_key_env = \"K\"";
    std::fs::write(&file, text).unwrap();
    let inputs = Inputs { file: Some(file), ..Inputs::default() };
    assert_eq!(load(&inputs).unwrap_err().0.len(), 4);
    let settings = load(&Inputs { asks_nobody: true, ..inputs }).unwrap();
    assert!(settings.backends[0].api_key.is_none() && settings.admin.is_none());
}

#[test]
fn a_backend_is_checked_whole() {
    let good =
        "[[backend]]\nname = \"gpu\"\nbase_url = \"http://127.0.0.1:8000/v1/\"\nmodel = \"m\"\napi_key_env = \"K\"";
    let settings = load_with(good, &[("K", "sk-secret")], None).unwrap();
    assert_eq!(settings.backends[0].base_url, "http://127.0.0.1:8000/v1");
    assert!(!format!("{settings:?}").contains("sk-secret"));
    check_error(
        good,
        "FILE: `backend[0].api_key_env`: no such environment variable\n  \
         help: this key names the variable; the secret itself never stands in a file",
    );
    check_error(
        "[[backend]]\nname = \"auto\"\nbase_url = \"ftp://x\"\nmodel = \"m\"\nidle_timeout_ms = 0",
        "FILE: `backend[0].name`: this name is Weir's own\n  help: take another\n\
         FILE: `backend[0].base_url`: not an http or https address\n  help: write it like `http://127.0.0.1:8000/v1`\n\
         FILE: `backend[0].idle_timeout_ms`: must not be 0",
    );
}

#[test]
fn another_weir_may_be_asked_for_its_own_choice() {
    let far = "[[backend]]\nname = \"far\"\nbase_url = \"http://h/v1\"\nmodel = \"auto\"\n";
    let settings = load_text(&format!("{far}models = [\"m\"]")).unwrap();
    assert_eq!(settings.backends[0].ids().collect::<Vec<_>>(), ["m"], "callers mean this one by `auto`");
    check_error(
        &format!("{far}models = [\"ar\"]"),
        "FILE: `backend[0].models`: `ar` is the name of a backend or one of Weir's own ids\n  \
         help: callers could not tell them apart: leave it out of one",
    );
}

#[test]
fn paths_are_relative_to_the_file_that_names_them() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("rules.toml"), "# rules").unwrap();
    std::fs::write(dir.path().join("weir.toml"), "[policy]\nfile = \"rules.toml\"").unwrap();
    let inputs = Inputs { file: Some(dir.path().join("weir.toml")), ..Inputs::default() };
    assert_eq!(load(&inputs).unwrap().policy.text, "# rules");
}

#[test]
fn somebody_must_be_able_to_answer() {
    let error = load_text("[engine.diffusion]\nenabled = false\n[engine.ar]\nenabled = false").unwrap_err();
    assert!(error.contains("nobody could answer"), "{error}");
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        let _ = load_text(&text);
    }

    #[test]
    fn no_toml_panics(
        key in "(server|engine|backend|policy|engine.diffusion|engine.ar|backend.headers|[a-z.]{1,8})",
        inner in "(listen|model|name|headers|base_url|keep_alive_ms|threshold|[a-z_]{1,8})",
        value in "(true|-1|0|1.5e300|nan|\"\"|\"x\"|\\[\\]|\\[1, \"a\"\\]|\\{ a = 1 \\}|1979-05-27|99999999999999999)",
        list in any::<bool>(),
    ) {
        let text = if list { format!("[[{key}]]\n{inner} = {value}") } else { format!("[{key}]\n{inner} = {value}") };
        let _ = load_text(&text);
    }
}
