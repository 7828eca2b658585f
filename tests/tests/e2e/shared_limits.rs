//! Two gateways, one Redis: the same limits hold across both, and what happens while it is away.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use weir_tests::asking::{Reply, client, metrics, question, read, with};
use weir_tests::binary::Weir;
use weir_tests::certificate::Certificate;
use weir_tests::fault_upstream::FaultUpstream;
use weir_tests::redis_server::RedisServer;
use weir_tests::wait::until;

use crate::backend;

pub(crate) const KEY: &str = "weir_plugh-0123456789-0123456789";
/// `printf '%s' "$KEY" | sha256sum`
pub(crate) const HASH: &str = "sha256:947d84cc1fbcd87110576ad9d43096a2c1a99157669894f9d84fc82c59225b49";

fn gateway(upstream: &FaultUpstream, redis: &RedisServer, on_loss: &str) -> Result<Weir> {
    gateway_with(upstream, redis, on_loss, &[])
}

fn gateway_with(upstream: &FaultUpstream, redis: &RedisServer, on_loss: &str, env: &[(&str, &str)]) -> Result<Weir> {
    // Patient, for a busy machine.
    let store = "store_env = \"TEST_REDIS\"\nstore_timeout_ms = 5000";
    let tenants = format!("[tenants]\n{store}\non_store_loss = \"{on_loss}\"\n\n");
    let tenant = format!("[[tenant]]\nname = \"a\"\nkeys = [{{ hash = \"{HASH}\" }}]\nrequests_per_minute = 3\n");
    let config = tenants + &backend("up", &upstream.base_url("fine")) + &tenant;
    let url = redis.url();
    Weir::start_with(&config, &[&[("TEST_REDIS", url.as_str())], env].concat())
}

async fn ask(weir: &Weir) -> Result<Reply> {
    let body = with(question("up", "Tell me a story."), json!({"stream": true}));
    let request = client()?.post(weir.url("/v1/chat/completions")).bearer_auth(KEY).json(&body);
    read(request.send().await.context("no response")?).await
}

#[tokio::test]
async fn limits_hold_across_gateways_while_redis_is_there() -> Result<()> {
    let Some(redis) = RedisServer::start()? else { return Ok(()) };
    let upstream = FaultUpstream::start().await?;
    let (open, closed) = (gateway(&upstream, &redis, "fail_open")?, gateway(&upstream, &redis, "fail_closed")?);
    for (weir, left) in [(&open, "2"), (&closed, "1"), (&open, "0")] {
        let reply = ask(weir).await?;
        assert_eq!((reply.status, reply.header("x-ratelimit-remaining-requests")), (200, left), "{}", reply.text);
    }
    assert_eq!((ask(&open).await?.status, ask(&closed).await?.status), (429, 429));

    let port = redis.port();
    drop(redis);
    let reply = ask(&closed).await?;
    assert_eq!((reply.status, reply.json()["error"]["code"].as_str()), (503, Some("limits_unchecked")));
    assert_eq!(reply.header("retry-after"), "1");
    for status in [200, 200, 200, 429] {
        assert_eq!(ask(&open).await?.status, status, "by its own count");
    }
    assert!(metrics(&open).await?.sum("weir_limit_store_lost_total", &[("then", "fail_open")]) >= 4.0);

    let Some(_redis) = RedisServer::start_at(port)? else { return Ok(()) };
    let back = || async { ask(&closed).await.ok().filter(|reply| reply.status == 200) };
    until("it is found again", back).await?;
    Ok(())
}

#[tokio::test]
async fn a_redis_that_closed_the_connection_meanwhile_is_not_away() -> Result<()> {
    let Some(redis) = RedisServer::start()? else { return Ok(()) };
    let upstream = FaultUpstream::start().await?;
    let weir = gateway(&upstream, &redis, "fail_closed")?;
    for left in ["2", "1", "0"] {
        let reply = ask(&weir).await?;
        assert_eq!((reply.status, reply.header("x-ratelimit-remaining-requests")), (200, left), "{}", reply.text);
        redis.hangs_up()?;
    }
    Ok(())
}

#[tokio::test]
async fn limits_hold_over_tls_with_a_redis_whose_certificate_is_trusted() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (own, other) = (Certificate::new()?, Certificate::new()?);
    for (name, text) in [("cert.pem", &own.cert), ("key.pem", &own.key), ("other.pem", &other.cert)] {
        std::fs::write(folder.path().join(name), text)?;
    }
    let Some(redis) = RedisServer::start_tls(folder.path())? else { return Ok(()) };
    let upstream = FaultUpstream::start().await?;
    let trusting = |name: &str| {
        let roots = folder.path().join(name).display().to_string();
        gateway_with(&upstream, &redis, "fail_closed", &[("SSL_CERT_FILE", &roots)])
    };
    let (first, second, stranger) = (trusting("cert.pem")?, trusting("cert.pem")?, trusting("other.pem")?);
    for (weir, left) in [(&first, "2"), (&second, "1")] {
        let reply = ask(weir).await?;
        assert_eq!((reply.status, reply.header("x-ratelimit-remaining-requests")), (200, left), "{}", reply.text);
    }
    assert_eq!(ask(&stranger).await?.status, 503, "not this Redis");
    Ok(())
}

/// One request at once.
fn one_at_once(upstream: &FaultUpstream, redis: &RedisServer, fault: &str) -> Result<Weir> {
    let server = "[server]\nshutdown_grace_ms = 1\n";
    let tenants = "[tenants]\nstore_env = \"TEST_REDIS\"\nstore_timeout_ms = 5000\non_store_loss = \"fail_closed\"\n\n";
    let tenant = format!("[[tenant]]\nname = \"a\"\nkeys = [{{ hash = \"{HASH}\" }}]\nconcurrent = 1\n");
    let config = [server, tenants, &backend("up", &upstream.base_url(fault)), &tenant].concat();
    Weir::start_with(&config, &[("TEST_REDIS", &redis.url())])
}

#[tokio::test]
async fn a_redis_may_take_as_long_as_the_config_says() -> Result<()> {
    let Some(redis) = RedisServer::start()? else { return Ok(()) };
    let upstream = FaultUpstream::start().await?;
    let weir = one_at_once(&upstream, &redis, "fine")?;
    redis.stands_still_for(Duration::from_millis(1500))?;
    let reply = ask(&weir).await?;
    assert_eq!(reply.status, 200, "{}", reply.text);
    Ok(())
}

#[tokio::test]
async fn a_gateway_that_stops_gives_back_the_places_of_its_last_requests() -> Result<()> {
    let Some(redis) = RedisServer::start()? else { return Ok(()) };
    let upstream = FaultUpstream::start().await?;
    let (one, other) = (one_at_once(&upstream, &redis, "hang")?, one_at_once(&upstream, &redis, "fine")?);
    let body = with(question("up", "Tell me a story."), json!({"stream": true}));
    let request = client()?.post(one.url("/v1/chat/completions")).bearer_auth(KEY).json(&body);
    let under_way = request.send().await.context("no response")?;
    assert_eq!((under_way.status().as_u16(), ask(&other).await?.status), (200, 429));
    redis.stands_still_for(Duration::from_millis(500))?;
    assert_eq!(one.terminate()?, Some(0));
    assert!(under_way.text().await?.contains("the gateway is stopping"));
    let reply = ask(&other).await?;
    assert_eq!(reply.status, 200, "{}", reply.text);
    Ok(())
}
