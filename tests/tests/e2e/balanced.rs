//! Two gateways and one Redis behind a real balancer: one account for both, whole streams, and a replica that goes.

use anyhow::{Context, Result};
use serde_json::json;
use weir_tests::asking::{Reply, client, metrics, question, read, with};
use weir_tests::balancer::Balancer;
use weir_tests::binary::Weir;
use weir_tests::fault_upstream::FaultUpstream;
use weir_tests::redis_server::RedisServer;
use weir_tests::wait::until;

use crate::backend;
use crate::shared_limits::{HASH, KEY};

const REPLICA: &str =
    "[tenants]\nstore_env = \"TEST_REDIS\"\nstore_timeout_ms = 5000\non_store_loss = \"fail_closed\"\n\n";

async fn ask(balancer: &Balancer) -> Result<Reply> {
    let body = with(question("up", "Tell me a story."), json!({"stream": true}));
    let request = client()?.post(balancer.url("/v1/chat/completions")).bearer_auth(KEY).json(&body);
    read(request.send().await.context("no response")?).await
}

#[tokio::test]
async fn behind_a_balancer_there_is_one_account_and_a_replica_may_go() -> Result<()> {
    let Some(redis) = RedisServer::start()? else { return Ok(()) };
    let upstream = FaultUpstream::start().await?;
    let tenant = format!("[[tenant]]\nname = \"a\"\nkeys = [{{ hash = \"{HASH}\" }}]\nrequests_per_minute = 6\n");
    let config = [REPLICA, &backend("up", &upstream.base_url("fine")), &tenant].concat();
    let replica = || Weir::start_with(&config, &[("TEST_REDIS", &redis.url())]);
    let (one, other) = (replica()?, replica()?);
    let Some(balancer) = Balancer::start(&[&one, &other]).await? else { return Ok(()) };
    for left in ["5", "4", "3", "2"] {
        let reply = ask(&balancer).await?;
        assert_eq!((reply.status, reply.header("x-ratelimit-remaining-requests")), (200, left), "{}", reply.text);
        assert!(reply.frames().is_complete(), "a stream goes through whole: {}", reply.text);
    }
    for weir in [&one, &other] {
        let answered = metrics(weir).await?.sum("weir_requests_total", &[("outcome", "finished")]);
        assert!(answered > 0.0, "both were asked");
    }
    drop(one);
    for left in ["1", "0"] {
        let survivor = || async { ask(&balancer).await.ok().filter(|reply| reply.status == 200) };
        let reply = until("the other one answers", survivor).await?;
        assert_eq!(reply.header("x-ratelimit-remaining-requests"), left, "the account stays");
    }
    assert_eq!(ask(&balancer).await?.status, 429);
    Ok(())
}
