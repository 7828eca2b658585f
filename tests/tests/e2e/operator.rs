//! What an operator meets: `weir check`, mistakes in the config, counters that add up, a stop that is no crash.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use weir_tests::asking::{ask, client, get, metrics_until, post, question, read, with};
use weir_tests::binary::{Weir, program, run};
use weir_tests::fault_upstream::FaultUpstream;
use weir_tests::trace_collector::TraceCollector;

use crate::{backend, embedded};

/// Runs `weir COMMAND --config` with this config: exit code, standard output, standard error.
fn weir(command: &str, config: &str) -> Result<(Option<i32>, String, String)> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("weir.toml");
    std::fs::write(&file, config)?;
    let output = run(folder.path(), &[command, "--config", &file.display().to_string()])?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((output.status.code(), text(&output.stdout), text(&output.stderr)))
}

#[test]
fn check_says_what_would_run() -> Result<()> {
    let (code, out, err) = weir("check", &backend("cloud", "http://127.0.0.1:9/v1"))?;
    assert_eq!(code, Some(0), "{err}");
    for word in ["diffusion", "ar", "cloud", "cloud-model"] {
        assert!(out.contains(word), "{word}: {out}");
    }
    Ok(())
}

#[test]
fn a_request_log_that_cannot_be_written_is_told_before_the_start() -> Result<()> {
    let config = "[server]\nlisten = \"127.0.0.1:0\"\n[request_log]\nenabled = true\nfile = \"no/such/log\"\n";
    for command in ["check", "serve"] {
        let (code, _, err) = weir(command, config)?;
        assert_eq!(code, Some(1), "{err}");
        assert!(err.contains("`request_log.file`: ") && err.contains("no/such/log"), "{command}: {err}");
    }
    Ok(())
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_finds_no_room_is_an_error_and_no_panic() -> Result<()> {
    for command in [&["policy", "show", "balanced"][..], &["metrics-doc"], &["check"], &["key", "new"]] {
        let full = std::fs::File::create("/dev/full")?;
        let output = Command::new(program()?).args(command).stdout(full).stderr(Stdio::piped()).output()?;
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{command:?}: {err}");
        assert!(err.contains("weir: standard output: ") && !err.contains("panicked"), "{command:?}: {err}");
    }
    Ok(())
}

fn redis_is_away() -> String {
    // Nobody listens on port 1.
    let store = "[tenants]\nstore = \"redis://127.0.0.1:1/0\"\n";
    format!("{store}[[tenant]]\nname = \"a\"\nkeys = [{{ hash = \"{}\" }}]\n", crate::shared_limits::HASH)
}

#[test]
fn doctor_says_what_would_be_used_and_what_to_do_about_a_fault() -> Result<()> {
    let (code, out, err) = weir("doctor", "[server]\nlisten = \"127.0.0.1:0\"\n")?;
    assert_eq!(code, Some(0), "{out}{err}");
    for word in [
        "threads",
        "kernels `",
        "packed models would use",
        "threads for kernels, on whichever cores are free",
        "memory",
        "GPU",
        "policy",
        "engine `diffusion`: weir-nano",
        "is free",
        "no tenants",
        "clock",
    ] {
        assert!(out.contains(word), "no `{word}` in {out}");
    }
    for (config, words) in [
        ("[engine.diffusion]\nthreshold = 7\n", ["PROBLEM", "engine.diffusion.threshold"]),
        ("[engine.ar]\ndevice = \"tpu\"\n", ["engine.ar.device", "write `cpu`"]),
        ("[engine.diffusion]\nrecipe = \"q3\"\n", ["engine.diffusion.recipe", "q3"]),
        ("[engine.diffusion]\nmodel = \"no/such/folder\"\n", ["engine.diffusion.model", "Hugging Face layout"]),
        ("[request_log]\nenabled = true\nfile = \"no/such/folder/log\"\n", ["PROBLEM", "cannot be written"]),
        ("[tracing.otlp]\nendpoint = \"http://127.0.0.1:1\"\n", ["spans would be lost", "port 4318"]),
        (&redis_is_away(), ["nobody listens at its address", "each gateway limits by itself"]),
    ] {
        let (code, out, err) = weir("doctor", &format!("[server]\nlisten = \"127.0.0.1:0\"\n{config}"))?;
        assert_eq!(code, Some(1), "{config}: {out}");
        for word in words {
            assert!(out.contains(word), "{config}: no `{word}` in {out}");
        }
        assert!(err.contains("1 problem"), "{err}");
    }
    Ok(())
}

/// Each kernel thread has one core, of those that the program may use; where it cannot be so, the log and the doctor say it.
#[test]
#[cfg(target_os = "linux")]
fn kernel_threads_stay_on_cores_where_it_is_wanted() -> Result<()> {
    let config = "[engine]\npin_threads = true\n";
    let weir_program = Weir::start(config)?;
    let allowed = |status: &str| -> Option<String> {
        let line = std::fs::read_to_string(status).ok()?;
        let line = line.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?.trim().to_owned();
        Some(line)
    };
    let task = format!("/proc/{}/task", weir_program.id());
    let main = allowed(&format!("{task}/{}/status", weir_program.id())).unwrap_or_default();
    let mut cores = Vec::new();
    for thread in std::fs::read_dir(&task)? {
        let thread = thread?.path().display().to_string();
        if std::fs::read_to_string(format!("{thread}/comm")).is_ok_and(|name| name.starts_with("weir-kernel-")) {
            cores.extend(allowed(&format!("{thread}/status")));
        }
    }
    let (_, said, _) = weir("doctor", &format!("{config}[server]\nlisten = \"127.0.0.1:0\"\n"))?;
    if said.contains("each of them on a core of its own") {
        cores.sort();
        assert!(cores.iter().all(|core| core.parse::<usize>().is_ok()), "{cores:?} of {main}");
        assert!(cores.windows(2).all(|pair| pair[0] != pair[1]), "{cores:?} of {main}");
    } else {
        assert!(said.contains("will not keep them on cores"), "{said}");
        assert!(cores.iter().all(|core| *core == main), "{cores:?} of {main}");
        assert!(weir_program.log().contains("not kept on cores"), "{}", weir_program.log());
    }
    Ok(())
}

#[tokio::test]
async fn doctor_asks_the_upstreams() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let collector = TraceCollector::start().await?;
    let config = "[server]\nlisten = \"127.0.0.1:0\"\n".to_owned()
        + &backend("there", &upstream.base_url("fine"))
        + &backend("gone", &FaultUpstream::refused_url().await?)
        + &backend("ill", &upstream.base_url("fine"))
        + "health = { path = \"/nowhere\" }\n"
        + &format!("[tracing.otlp]\nendpoint = \"{}\"\n", collector.endpoint);
    let (code, out, err) = tokio::task::spawn_blocking(move || weir("doctor", &config)).await??;
    assert_eq!(code, Some(1), "{out}{err}");
    for word in [
        "backend `there`",
        "answers",
        "backend `gone`",
        "nobody listens",
        "backend `ill`: its health check at ",
        "the clock agrees with backend `there`",
        "takes spans",
    ] {
        assert!(out.contains(word), "no `{word}` in {out}");
    }
    assert_eq!((collector.requests().0.len(), collector.requests().1), (1, 0), "no span, in a sound request");
    assert!(upstream.seen().is_empty(), "nothing was generated");
    Ok(())
}

#[test]
fn mistakes_are_explained_with_the_nearest_key() -> Result<()> {
    for (config, words) in [
        ("[server]\nlistn = \"127.0.0.1:0\"\n", vec!["listn", "listen"]),
        ("[engine.difusion]\nenabled = true\n", vec!["difusion", "diffusion"]),
        ("[engine.diffusion]\ntreshold = 0.5\n", vec!["treshold", "threshold"]),
        ("[engine.diffusion]\nthreshold = 7\n", vec!["threshold"]),
        ("[server]\nlisten = \"nowhere\"\n", vec!["listen"]),
        ("[server\n", vec!["weir.toml"]),
        ("[policy]\nfile = \"missing.toml\"\n", vec!["missing.toml"]),
        ("[[backend]]\nname = \"x\"\n", vec!["base_url"]),
        ("[[backend]]\nname = \"x\"\nbase_url = \"ftp://127.0.0.1\"\nmodel = \"m\"\n", vec!["base_url"]),
    ] {
        for command in ["check", "serve"] {
            let (code, _, err) = weir(command, config)?;
            assert_eq!(code, Some(1), "{command}: {config}: {err}");
            for word in &words {
                assert!(err.contains(word), "{command}: {config}: no `{word}` in {err}");
            }
            assert!(!err.contains("panick"), "{err}");
        }
    }
    Ok(())
}

#[test]
fn a_policy_that_names_nobody_is_refused_with_its_place() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let policy = folder.path().join("rules.toml");
    std::fs::write(
        &policy,
        "[[rule]]\nname = \"a\"\nroute = \"ar\"\nreason = \"r\"\nattempts = [{ backend = \"clod\" }]\n",
    )?;
    let config =
        format!("[policy]\nfile = {:?}\n{}", policy.display().to_string(), backend("cloud", "http://127.0.0.1:9/v1"));
    let (code, _, err) = weir("check", &config)?;
    assert_eq!(code, Some(1), "{err}");
    for word in ["rules.toml", "clod", "cloud"] {
        assert!(err.contains(word), "{word}: {err}");
    }
    Ok(())
}

#[tokio::test]
async fn requests_in_are_outcomes_out() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let urls = ["fine", "500", "cut-600"].map(|fault| upstream.base_url(fault));
    let weir = Weir::start(&format!("{}{}{}", backend("a", &urls[0]), backend("b", &urls[1]), backend("c", &urls[2])))?;
    let mut sent = 0.0;
    for stream in [true, false] {
        for model in ["a", "b", "c", "ar", "diffusion", "auto", "nobody"] {
            ask(
                &weir,
                &with(question(model, "Sort these words: tea, fox"), json!({"stream": stream, "max_tokens": 16})),
            )
            .await?;
            sent += 1.0;
        }
        post(&weir, "{").await?;
        sent += 1.0;
    }
    let page = metrics_until(&weir, "all are counted", |page| page.sum("weir_requests_total", &[]) >= sent).await?;
    assert_eq!(page.sum("weir_requests_total", &[]), sent, "each once");
    assert_eq!(page.sum("weir_in_flight", &[]), 0.0);
    let finished = page.sum("weir_requests_total", &[("outcome", "finished")]);
    assert!(finished >= 8.0 && finished < sent, "{finished} of {sent}");
    assert!(page.sum("weir_tokens_total", &[("direction", "output"), ("backend", "diffusion")]) > 0.0);
    assert!(page.sum("weir_denoise_steps_total", &[]) > 0.0);
    assert!(page.sum("weir_tokens_per_forward_count", &[]) > 0.0);
    for name in [
        "gen_ai_server_time_to_first_token_seconds_count",
        "gen_ai_server_request_duration_seconds_count",
        "weir_queue_depth",
    ] {
        assert!(page.has(name), "{name}");
    }
    assert_eq!(page.sum("weir_queue_depth", &[]), 0.0);
    Ok(())
}

#[tokio::test]
async fn environment_and_flags_win_over_the_file() -> Result<()> {
    let limit = [("WEIR_SERVER__MAX_BODY_BYTES", "1024")];
    let weir = Weir::start_with("[server]\nmax_body_bytes = 1048576\nlisten = \"127.0.0.1:1\"\n", &limit)?;
    assert_eq!(post(&weir, vec![b' '; 2048]).await?.status, 413);
    Ok(())
}

/// A log service that restarts, or a parent that died: neither stops who is asked something.
#[tokio::test]
async fn nobody_has_to_read_what_it_says() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut command = Command::new(program()?);
    command.args(["serve", "--listen", "127.0.0.1:0"]).current_dir(folder.path()).env("RUST_LOG", "trace");
    let mut weir = Ended(command.stderr(Stdio::piped()).spawn()?);
    let mut said = BufReader::new(weir.0.stderr.take().context("its standard error")?);
    let mut lines = (&mut said).lines().map_while(Result::ok);
    let base = lines.find_map(|line| Some(line.split_once("listens on ")?.1.trim().to_owned()));
    let base = base.context("an address")?;
    let client = client()?;
    // Far more than a pipe holds.
    for _ in 0..200 {
        let body = with(question("ar", "hello"), json!({"max_tokens": 1}));
        let asked = client.post(format!("{base}/v1/chat/completions")).json(&body).send();
        assert_eq!(asked.await.context("while nobody reads")?.status(), 200);
    }
    drop(said);
    for path in ["/nowhere", "/nowhere", "/healthz"] {
        client.get(format!("{base}{path}")).send().await.context("when nobody is left who could")?;
    }
    ensure!(Command::new("kill").arg(weir.0.id().to_string()).status()?.success());
    let ended = tokio::task::spawn_blocking(move || weir.0.wait()).await??;
    assert_eq!(ended.code(), Some(0));
    Ok(())
}

/// A gateway that goes on loading until what comes second is closed: its policy is read from there.
#[cfg(unix)]
fn loading(folder: &Path) -> Result<(Ended, std::fs::File)> {
    let rules = folder.join("rules.toml");
    std::fs::write(folder.join("weir.toml"), "[policy]\nfile = \"rules.toml\"\n[server]\nwatch_ms = 0\n")?;
    ensure!(Command::new("mkfifo").arg(&rules).status()?.success());
    let mut command = Command::new(program()?);
    command.args(["serve", "--listen", "127.0.0.1:0"]).current_dir(folder);
    let weir = Ended(command.stderr(Stdio::piped()).spawn()?);
    // Opens when it reads there.
    Ok((weir, std::fs::OpenOptions::new().write(true).open(&rules)?))
}

#[cfg(unix)]
#[test]
fn a_hangup_while_it_loads_does_not_end_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (mut weir, mut rules) = loading(folder.path())?;
    ensure!(Command::new("kill").args(["-HUP", &weir.0.id().to_string()]).status()?.success());
    rules.write_all(include_bytes!("../../../config/policies/balanced.toml"))?;
    drop(rules);
    let said = BufReader::new(weir.0.stderr.take().context("its standard error")?);
    ensure!(said.lines().map_while(Result::ok).any(|line| line.contains("listens on")), "it has ended");
    Ok(())
}

#[cfg(unix)]
#[test]
fn a_stop_while_it_loads_is_heard() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (mut weir, _rules) = loading(folder.path())?;
    ensure!(Command::new("kill").arg(weir.0.id().to_string()).status()?.success());
    let said = BufReader::new(weir.0.stderr.take().context("its standard error")?);
    ensure!(said.lines().map_while(Result::ok).any(|line| line.contains("stopping before it has started")));
    // By itself: the signal's own way would pass over a container's first process.
    assert_eq!(weir.0.wait()?.code(), Some(0));
    Ok(())
}

#[test]
fn a_folder_in_the_place_of_the_config_is_told() -> Result<()> {
    let folder = tempfile::tempdir()?;
    std::fs::create_dir(folder.path().join("weir.toml"))?;
    let output = run(folder.path(), &["check"])?;
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains("weir.toml: cannot be read: ") && err.contains("a container's runtime"), "{err}");
    Ok(())
}

#[cfg(target_os = "linux")]
#[test]
fn it_opens_as_many_files_as_it_may() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let start = format!("ulimit -Sn 64; exec {:?} serve --listen 127.0.0.1:0", program()?);
    let mut weir = Command::new("sh");
    weir.args(["-c", &start]).current_dir(folder.path()).stderr(Stdio::piped());
    let mut weir = Ended(weir.spawn()?);
    let said = BufReader::new(weir.0.stderr.take().context("its standard error")?);
    ensure!(said.lines().map_while(Result::ok).any(|line| line.contains("listens on")), "it has ended");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", weir.0.id()))?;
    let limit = limits.lines().find_map(|line| line.strip_prefix("Max open files")).context("a limit")?;
    let figures: Vec<&str> = limit.split_whitespace().take(2).collect();
    assert_eq!(figures.first(), figures.last(), "the shell's 64 and what may be had");
    Ok(())
}

/// A process that does not outlive its test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_stop_is_clean() -> Result<()> {
    let weir = embedded()?;
    assert_eq!(get(&weir, "/readyz").await?.status, 200);
    assert_eq!(weir.terminate()?, Some(0));
    Ok(())
}

#[tokio::test]
async fn a_warmed_prefix_and_a_callers_own_are_found_again() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let system = "You keep a house: lights, blinds, heating, doors and the garden. ".repeat(8);
    let file = folder.path().join("house.json");
    let body = json!({"messages": [{"role": "system", "content": system}]});
    std::fs::write(&file, body.to_string())?;
    let file = file.display().to_string();
    // The small model has nothing to say to so long a prompt, and here it is to be its own answer.
    let keep = "[attempts]\non_empty = \"keep\"\n";
    let weir = Weir::start(&format!("{keep}[[engine.diffusion.warm]]\nname = \"house\"\nfile = {file:?}\n"))?;
    let asked = |system: &str| {
        let messages = json!([{"role": "system", "content": system}, {"role": "user", "content": "Sort: tea, fox"}]);
        json!({"model": "diffusion", "messages": messages, "max_tokens": 16})
    };
    let cached = async |key: &str, system: &str| -> Result<u64> {
        let request = client()?.post(weir.url("/v1/chat/completions")).bearer_auth(key).body(asked(system).to_string());
        let reply = read(request.send().await?).await?;
        anyhow::ensure!(reply.status == 200, "{}", reply.text);
        Ok(reply.json()["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap_or_default())
    };
    assert!(cached("key-a", &system).await? >= 64, "warmed for everybody");
    let own = format!("Mine. {system}");
    assert_eq!(cached("key-a", &own).await?, 0);
    assert!(cached("key-a", &own).await? >= 64, "its own");
    assert_eq!(cached("key-b", &own).await?, 0, "and nobody else's");
    let page =
        metrics_until(&weir, "cached tokens are counted", |page| page.sum("weir_cached_tokens_total", &[]) >= 128.0);
    assert!(page.await?.sum("weir_kv_pages", &[("backend", "diffusion"), ("state", "shared")]) >= 4.0);
    let wrong = "[[engine.diffusion.warm]]\nname = \"x\"\nfile = \"missing.json\"\n";
    let (code, _, err) = self::weir("check", wrong)?;
    assert!(code == Some(1) && err.contains("missing.json"), "{err}");
    Ok(())
}
