//! The operator's API: who gets in, what it shows, what it orders, and what it never shows.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use weir_tests::asking::{Reply, ask, client, get, metrics_until, question, read, with};
use weir_tests::binary::{Weir, run};
use weir_tests::fault_upstream::FaultUpstream;

use crate::backend;

const KEY: &str = "weir_plugh-0123456789-0123456789";
/// `printf '%s' "$KEY" | sha256sum`
const HASH: &str = "sha256:947d84cc1fbcd87110576ad9d43096a2c1a99157669894f9d84fc82c59225b49";
const OTHER: &str = "weir_xyzzy-9876543210-9876543210";
const OTHER_HASH: &str = "sha256:ad53ea1fa07f9f23343f8eccb56b4fa953e6c1c4ccc68e507fe6d072a1e0c3ae";

fn admin() -> String {
    format!("[admin]\nlisten = \"127.0.0.1:0\"\nkey_hash = \"{HASH}\"\n")
}

async fn order(weir: &Weir, method: &str, path: &str, key: &str) -> Result<Reply> {
    let url = weir.admin_url(path).await?;
    let request = client()?.request(method.parse().context("a method")?, url).bearer_auth(key);
    read(request.send().await.context("no response")?).await
}

async fn shown(weir: &Weir, path: &str) -> Result<Value> {
    Ok(order(weir, "GET", path, KEY).await?.json())
}

#[test]
fn it_does_not_start_without_a_key() -> Result<()> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("weir.toml"), "[admin]\nlisten = \"127.0.0.1:0\"\n")?;
    let ended = run(folder.path(), &["serve", "--listen", "127.0.0.1:0"])?;
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("admin.listen") && said.contains("weir key new"), "{said}");
    Ok(())
}

#[tokio::test]
async fn what_is_counted_can_be_kept_from_callers() -> Result<()> {
    let weir = Weir::start(&format!("{}[server]\npublic_metrics = false\n", admin()))?;
    assert_eq!(get(&weir, "/metrics").await?.status, 404);
    let reply = order(&weir, "GET", "/admin/metrics", KEY).await?;
    assert!(reply.status == 200 && reply.text.contains("weir_connections{"), "{}", reply.text);
    Ok(())
}

#[tokio::test]
async fn nothing_of_it_is_where_callers_are_and_nobody_gets_in_without_the_key() -> Result<()> {
    let weir = Weir::start(&admin())?;
    let paths = [
        ("GET", "/admin/config"),
        ("GET", "/admin/metrics"),
        ("GET", "/admin/backends"),
        ("GET", "/admin/tenants"),
        ("POST", "/admin/reload"),
        ("POST", "/admin/drain"),
        ("POST", "/admin/backends/ar/drain"),
    ];
    for (method, path) in paths {
        let request = client()?.request(method.parse()?, weir.url(path)).bearer_auth(KEY);
        assert_eq!(read(request.send().await?).await?.status, 404, "{path} on the public side");
        for key in ["", OTHER, HASH] {
            assert_eq!(order(&weir, method, path, key).await?.status, 401, "{path} with a wrong key");
        }
        assert_eq!(order(&weir, method, path, KEY).await?.status, 200, "{path}");
    }
    assert_eq!(order(&weir, "GET", "/v1/models", KEY).await?.status, 404, "and nothing public is there");
    Ok(())
}

#[tokio::test]
async fn no_secret_is_shown() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let config = admin()
        + &backend("up", &upstream.base_url("fine"))
            .replace("\n\n", "\napi_key_env = \"UP_KEY\"\nheaders = { x-token = \"frotz-header\" }\n\n")
        + &format!("[[tenant]]\nname = \"a\"\nkeys = [{{ hash = \"{OTHER_HASH}\" }}]\n");
    let weir = Weir::start_with(&config, &[("UP_KEY", "frotz-upstream-key")])?;
    let body = question("up", "hi").to_string();
    let request = client()?.post(weir.url("/v1/chat/completions")).bearer_auth(OTHER).body(body);
    assert_eq!(read(request.send().await?).await?.status, 200);
    weir.configure(&format!("{config}\n[server]\nlistn = \"{OTHER}\"\n"))?;
    let mut text = order(&weir, "POST", "/admin/reload", KEY).await?.text;
    for path in ["/admin/config", "/admin/backends", "/admin/tenants"] {
        text += &order(&weir, "GET", path, KEY).await?.text;
    }
    assert!(text.contains("UP_KEY") && text.contains("x-token") && text.contains("listn"), "{text}");
    for secret in ["frotz", "plugh", "xyzzy", &HASH[7..], &OTHER_HASH[7..]] {
        assert!(!text.contains(secret), "{secret}: {text}");
        assert!(!weir.log().contains(secret), "{secret}: {}", weir.log());
    }
    let config = shown(&weir, "/admin/config").await?;
    assert_eq!(config["settings"]["server"]["listen"]["from"], "flag", "{config}");
    assert_eq!(config["settings"]["server"]["max_in_flight"]["from"], "the embedded default");
    assert_eq!(config["last_reload"]["outcome"], "invalid");
    Ok(())
}

#[tokio::test]
async fn backends_are_shown_as_they_stand_and_can_be_taken_out() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let config = admin()
        + "[engine.diffusion]\nenabled = false\n[attempts]\nretries = 0\nbreaker_failures = 1\n"
        + &backend("good", &upstream.base_url("fine"))
        + &backend("bad", &upstream.base_url("500"));
    let weir = Weir::start(&config)?;
    ask(&weir, &question("bad", "hi")).await?;
    let all = shown(&weir, "/admin/backends").await?["backends"].clone();
    let of =
        |name: &str| all.as_array().into_iter().flatten().find(|one| one["name"] == name).cloned().unwrap_or_default();
    assert_eq!(
        (of("bad")["breaker"].as_str(), of("good")["breaker"].as_str()),
        (Some("open"), Some("closed")),
        "{all}"
    );
    assert_eq!((of("good")["in_flight"].as_u64(), of("ar")["kind"].as_str()), (Some(0), Some("built_in")), "{all}");
    assert_eq!(ask(&weir, &question("good", "hi")).await?.status, 200);
    let asked = || upstream.seen().iter().filter(|seen| seen.fault == "fine").count();
    let before = asked();
    assert_eq!(order(&weir, "POST", "/admin/backends/good/drain", KEY).await?.json()["drained"], true);
    let replaced = ask(&weir, &with(question("good", "hi"), json!({"max_tokens": 4}))).await?;
    assert_eq!((replaced.status, replaced.header("x-weir-backend")), (200, "ar"), "{}", replaced.text);
    assert_eq!(asked(), before, "it was not asked");
    order(&weir, "POST", "/admin/backends/good/undrain", KEY).await?;
    assert_eq!(ask(&weir, &question("good", "hi")).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn draining_is_seen_by_who_sends_traffic_and_can_be_undone() -> Result<()> {
    let weir = Weir::start(&admin())?;
    assert_eq!(get(&weir, "/readyz").await?.status, 200);
    order(&weir, "POST", "/admin/drain", KEY).await?;
    assert_eq!((get(&weir, "/readyz").await?.status, get(&weir, "/healthz").await?.status), (503, 200));
    let reply = ask(&weir, &with(question("ar", "hello"), json!({"max_tokens": 4}))).await?;
    assert_eq!(reply.status, 200, "what comes is answered: {}", reply.text);
    order(&weir, "POST", "/admin/undrain", KEY).await?;
    assert_eq!(get(&weir, "/readyz").await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn tenants_are_shown_with_what_they_took() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let config = admin()
        + &backend("up", &upstream.base_url("fine"))
        + &format!("[[tenant]]\nname = \"a\"\nkeys = [{{ hash = \"{OTHER_HASH}\" }}]\nrequests_per_minute = 5\n");
    let weir = Weir::start(&config)?;
    let body = question("up", "hi").to_string();
    let request = client()?.post(weir.url("/v1/chat/completions")).bearer_auth(OTHER).body(body);
    assert_eq!(read(request.send().await?).await?.status, 200);
    metrics_until(&weir, "it was charged", |page| page.sum("weir_tenant_requests_total", &[]) == 1.0).await?;
    let tenant = shown(&weir, "/admin/tenants").await?["tenants"][0].clone();
    assert_eq!((tenant["name"].as_str(), tenant["limits"]["requests_per_minute"].as_u64()), (Some("a"), Some(5)));
    assert_eq!((tenant["used"]["requests_left"].as_u64(), tenant["used"]["concurrent"].as_u64()), (Some(4), Some(0)));
    assert!(tenant["used"]["tokens_today"].as_u64() > Some(0), "{tenant}");
    Ok(())
}
