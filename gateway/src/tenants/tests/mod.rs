//! Tenants as the gateway meets them: who is let in, what is settled, and what happens while Redis is away.

mod redis_server;
mod same_arithmetic;

use std::sync::Arc;

use futures::FutureExt;
use weir_protocol::{ChatRequest, Denial, EngineError, Event, Message, Role, Usage};

use self::redis_server::RedisServer;
use super::*;
use crate::config::Secret;
use crate::metrics::Scrape;

fn tenant(limits: Limits) -> Tenant {
    Tenant {
        name: "a".into(),
        keys: vec![(key::KeyHash::of(b"key"), None)],
        models: vec!["auto".into()],
        backends: Arc::new([]),
        limits,
        background: false,
        client: None,
    }
}

fn tenants(limits: Limits, store: StoreSettings) -> (Arc<Tenants>, Arc<Tenant>, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::new().unwrap());
    let prices = HashMap::from([("up".to_owned(), Price { input: 1.0, output: 2.0 })]);
    let settings = TenantsSettings { store, tenants: vec![tenant(limits)], prices };
    let tenants = Arc::new(Tenants::new(&settings, None, Arc::clone(&metrics)).unwrap());
    let owner = Arc::clone(tenants.directory().owner(b"key").unwrap());
    (tenants, owner, metrics)
}

fn asks() -> ChatRequest {
    let messages = vec![Message::text(Role::User, "x".repeat(400))];
    ChatRequest { model: "auto".into(), messages, max_tokens: Some(100), ..ChatRequest::default() }
}

async fn admit(tenants: &Arc<Tenants>, tenant: &Arc<Tenant>) -> Result<Charge, EngineError> {
    tenants.admit(tenant, &asks(), &RatesSlot::default()).await
}

fn code(result: &Result<Charge, EngineError>) -> &'static str {
    result.as_ref().err().map_or("in", EngineError::kind)
}

#[tokio::test]
async fn a_new_config_takes_over_what_was_taken() {
    let (tenants, owner, metrics) = tenants(Limits { concurrent: 1, ..Limits::default() }, StoreSettings::Memory);
    let first = admit(&tenants, &owner).await.unwrap();
    let settings = TenantsSettings { tenants: vec![tenant(owner.limits)], ..TenantsSettings::default() };
    let after = Arc::new(Tenants::new(&settings, Some(&tenants), metrics).unwrap());
    drop(tenants);
    let again = Arc::clone(after.directory().owner(b"key").unwrap());
    assert_eq!(after.used(&again).await.unwrap().concurrent, 1);
    assert_eq!(code(&admit(&after, &again).await), "limit_reached");
    drop(first);
    assert_eq!(after.used(&again).await.unwrap().concurrent, 0, "settled with the config it began with");
    assert_eq!(code(&admit(&after, &again).await), "in");
}

#[tokio::test]
async fn places_are_given_back_when_the_charge_is_dropped() {
    let (tenants, owner, metrics) = tenants(Limits { concurrent: 1, ..Limits::default() }, StoreSettings::Memory);
    let first = admit(&tenants, &owner).await;
    assert_eq!((code(&first), code(&admit(&tenants, &owner).await)), ("in", "limit_reached"));
    drop(first);
    assert_eq!(code(&admit(&tenants, &owner).await), "in");
    let page = metrics.render(&Scrape::default()).unwrap();
    assert!(page.contains(r#"weir_denied_total{by="concurrent",tenant="a"} 1"#), "{page}");
}

#[tokio::test]
async fn the_real_usage_takes_the_place_of_the_estimate() {
    let limits = Limits { tokens_per_minute: 1000, money_per_day: 100_000, ..Limits::default() };
    let (tenants, owner, metrics) = tenants(limits, StoreSettings::Memory);
    let mut charge = admit(&tenants, &owner).await.ok().unwrap();
    charge.saw(&Event::TextDelta("hi".into()), "up");
    let usage = Usage { prompt_tokens: 30, completion_tokens: 20, ..Usage::default() };
    charge.saw(&Event::Usage(usage), "up");
    drop(charge);
    let left = RatesSlot::default();
    // 200 more are charged while this one runs; of the first only 50 stayed, of the 1,000.
    let running = tenants.admit(&owner, &asks(), &left).await;
    let remaining = left.get().unwrap().tokens.0;
    assert!((750..800).contains(&remaining), "{remaining}");
    assert!(metrics.render(&Scrape::default()).unwrap().contains(r#"weir_tenant_tokens_total{tenant="a"} 50"#));
    drop(running);
    let spent = tenants.accounts.of(&owner, |account| format!("{account:?}"));
    // 30 at 1 and 20 at 2 for a million; the second brought nothing, so its prompt counts, at no backend's price.
    assert!(spent.contains("day_money: 70,"), "{spent}");
}

#[tokio::test]
async fn an_answer_that_another_went_on_with_costs_both_parts() {
    let (tenants, owner, metrics) = tenants(Limits::default(), StoreSettings::Memory);
    let mut charge = admit(&tenants, &owner).await.ok().unwrap();
    charge.saw(&Event::TextDelta("x".repeat(40)), "up");
    charge.saw(&Event::Continued { backend: "other".into() }, "other");
    charge.saw(&Event::TextDelta("x".repeat(80)), "other");
    drop(charge);
    // 100 and 10 by the first, then 110 and 20.
    assert!(metrics.render(&Scrape::default()).unwrap().contains(r#"weir_tenant_tokens_total{tenant="a"} 240"#));
    let spent = tenants.accounts.of(&owner, |account| format!("{account:?}"));
    assert!(spent.contains("day_money: 120,"), "the first's price for the first part: {spent}");
}

#[tokio::test]
async fn an_answer_that_another_took_over_from_costs_what_it_took() {
    let (tenants, owner, metrics) = tenants(Limits::default(), StoreSettings::Memory);
    let mut charge = admit(&tenants, &owner).await.ok().unwrap();
    charge.saw(&Event::Usage(Usage { prompt_tokens: 10, completion_tokens: 2, ..Usage::default() }), "other");
    charge.spent("up", &Usage { prompt_tokens: 30, completion_tokens: 1, ..Usage::default() });
    drop(charge);
    assert!(metrics.render(&Scrape::default()).unwrap().contains(r#"weir_tenant_tokens_total{tenant="a"} 43"#));
    let spent = tenants.accounts.of(&owner, |account| format!("{account:?}"));
    assert!(spent.contains("day_money: 32,"), "by its own price: {spent}");
}

#[tokio::test]
async fn a_prompt_that_was_not_counted_is_not_free() {
    let (tenants, owner, metrics) = tenants(Limits::default(), StoreSettings::Memory);
    let mut charge = admit(&tenants, &owner).await.ok().unwrap();
    charge.saw(&Event::Usage(Usage { prompt_tokens: 0, completion_tokens: 20, ..Usage::default() }), "up");
    // Nor is that of an empty answer.
    charge.spent("up", &Usage { prompt_tokens: 0, completion_tokens: 3, ..Usage::default() });
    drop(charge);
    assert!(metrics.render(&Scrape::default()).unwrap().contains(r#"weir_tenant_tokens_total{tenant="a"} 223"#));
}

#[tokio::test]
async fn many_at_once_do_not_spend_more_than_there_is() {
    // 100 tokens at 1 and 100 at 2 for a million each.
    let limits = Limits { money_per_day: 500, ..Limits::default() };
    let (tenants, owner, _) = tenants(limits, StoreSettings::Memory);
    let running = [admit(&tenants, &owner).await, admit(&tenants, &owner).await, admit(&tenants, &owner).await];
    assert_eq!(running.each_ref().map(code), ["in", "in", "limit_reached"]);
    drop(running);
    assert_eq!(code(&admit(&tenants, &owner).await), "in", "it was only put aside");
}

#[tokio::test]
async fn what_failed_without_an_answer_is_free_and_what_was_left_is_not() {
    let (tenants, owner, metrics) = tenants(Limits::default(), StoreSettings::Memory);
    let mut failed = admit(&tenants, &owner).await.ok().unwrap();
    failed.failed();
    drop(failed);
    assert!(metrics.render(&Scrape::default()).unwrap().contains(r#"weir_tenant_tokens_total{tenant="a"} 0"#));
    let mut cut = admit(&tenants, &owner).await.ok().unwrap();
    cut.saw(&Event::TextDelta("x".repeat(40)), "up");
    drop(cut);
    assert!(metrics.render(&Scrape::default()).unwrap().contains(r#"weir_tenant_tokens_total{tenant="a"} 110"#));
}

#[tokio::test]
async fn only_models_of_the_list_may_be_named() {
    let (tenants, owner, _) = tenants(Limits::default(), StoreSettings::Memory);
    let other = ChatRequest { model: "my secret".into(), ..asks() };
    let error = tenants.admit(&owner, &other, &RatesSlot::default()).await.err().unwrap();
    assert!(matches!(&error, EngineError::Denied { denial: Denial::Forbidden, .. }));
    assert!(!error.to_string().contains("secret"));
}

#[tokio::test]
async fn questions_have_an_account_of_their_own() {
    let limits = Limits { requests_per_minute: 2, concurrent: 1, tokens_per_day: 1000, ..Limits::default() };
    let (tenants, owner, metrics) = tenants(limits, StoreSettings::Memory);
    let running = admit(&tenants, &owner).await;
    for _ in 0..2 {
        let left = RatesSlot::default();
        assert!(tenants.question(&owner, &asks(), &left).await.is_ok(), "beside the request that runs");
        assert_eq!(left.get().unwrap().limits, Limits { requests_per_minute: 2, ..Limits::default() });
    }
    let left = RatesSlot::default();
    let refused = tenants.question(&owner, &asks(), &left).await.unwrap_err();
    assert!(matches!(refused, EngineError::Denied { denial: Denial::Limited, retry_after: Some(_), .. }));
    assert_eq!(left.get().unwrap().requests.0, 0);
    drop(running);
    assert_eq!(code(&admit(&tenants, &owner).await), "in", "they cost no request");
    assert!(metrics.render(&Scrape::default()).unwrap().contains(r#"weir_denied_total{by="questions",tenant="a"} 1"#));
    let other = ChatRequest { model: "another".into(), ..asks() };
    let refused = tenants.question(&owner, &other, &RatesSlot::default()).await;
    assert!(matches!(refused, Err(EngineError::Denied { denial: Denial::Forbidden, .. })));
}

#[tokio::test]
async fn questions_are_counted_in_redis_without_leaving_anything_to_settle() {
    let Some(server) = RedisServer::start() else { return };
    let limits = Limits { requests_per_minute: 2, ..Limits::default() };
    let ask = async |tenants: &Arc<Tenants>, owner| tenants.question(owner, &asks(), &RatesSlot::default()).await;
    let (one, owner, _) = tenants(limits, in_redis(server.url(), OnStoreLoss::FailClosed));
    let (other, _, _) = tenants(limits, in_redis(server.url(), OnStoreLoss::FailClosed));
    assert!(ask(&one, &owner).await.is_ok() && ask(&other, &owner).await.is_ok());
    assert!(ask(&one, &owner).await.is_err(), "two a minute, of all gateways");
    let mut connection = ::redis::Client::open(server.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let keys: Vec<String> = ::redis::cmd("KEYS").arg("*").query_async(&mut connection).await.unwrap();
    assert_eq!(keys, ["test:{a:questions}:account"]);
}

fn in_redis(url: &str, on_loss: OnStoreLoss) -> StoreSettings {
    let (url, timeout) = (Secret::new(url), Duration::from_secs(10));
    StoreSettings::Redis { url, prefix: "test".into(), timeout, on_loss }
}

#[tokio::test]
async fn gateways_share_limits_through_redis() {
    let Some(server) = RedisServer::start() else { return };
    let limits = Limits { requests_per_minute: 3, concurrent: 2, ..Limits::default() };
    let (one, owner, _) = tenants(limits, in_redis(server.url(), OnStoreLoss::FailClosed));
    let (other, _, _) = tenants(limits, in_redis(server.url(), OnStoreLoss::FailClosed));
    let (first, second) = (admit(&one, &owner).await, admit(&other, &owner).await);
    assert_eq!((code(&first), code(&second)), ("in", "in"));
    assert_eq!(code(&admit(&one, &owner).await), "limit_reached", "two at once");
    drop((first, second));
    // Settled in the background: the place is free in the end.
    let mut third = admit(&other, &owner).await;
    while third.is_err() {
        tokio::task::yield_now().await;
        third = admit(&other, &owner).await;
    }
    drop(third);
    let left = RatesSlot::default();
    let mut refused = one.admit(&owner, &asks(), &left).await;
    while refused.as_ref().err().is_none_or(|error| !error.to_string().contains("requests_per_minute")) {
        tokio::task::yield_now().await;
        refused = one.admit(&owner, &asks(), &RatesSlot::default()).await;
    }
    let Err(EngineError::Denied { retry_after: Some(wait), .. }) = refused else { panic!("a wait") };
    assert!(wait <= Duration::from_secs(20) && wait > Duration::from_secs(5), "{wait:?}");
}

#[tokio::test]
async fn without_redis_gateways_limit_by_themselves_or_let_nobody_in() {
    let nowhere = "redis+unix:///nowhere/redis.sock";
    let limits = Limits { requests_per_minute: 1, ..Limits::default() };
    let (open, owner, metrics) = tenants(limits, in_redis(nowhere, OnStoreLoss::FailOpen));
    assert_eq!(code(&admit(&open, &owner).await), "in");
    assert_eq!(code(&admit(&open, &owner).await), "limit_reached", "its own count");
    let page = metrics.render(&Scrape::default()).unwrap();
    assert!(page.contains(r#"weir_limit_store_lost_total{then="fail_open"} 2"#), "{page}");

    let (closed, owner, metrics) = tenants(limits, in_redis(nowhere, OnStoreLoss::FailClosed));
    assert_eq!(code(&admit(&closed, &owner).await), "limits_unchecked");
    let page = metrics.render(&Scrape::default()).unwrap();
    assert!(page.contains(r#"weir_limit_store_lost_total{then="fail_closed"} 1"#), "{page}");
    assert!(page.contains(r#"weir_denied_total{by="store",tenant="a"} 1"#), "{page}");
}

#[tokio::test]
async fn an_account_that_is_broken_keeps_nobody_else_out() {
    let Some(server) = RedisServer::start() else { return };
    let (tenants, owner, _) = tenants(Limits::default(), in_redis(server.url(), OnStoreLoss::FailClosed));
    let other = Arc::new(Tenant { name: "b".into(), ..tenant(Limits::default()) });
    let mut connection = ::redis::Client::open(server.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    for broken in [["SET", "test:{a}:account", "x"].as_slice(), &["HSET", "test:{a}:account", "requests", "x"]] {
        let () = ::redis::cmd("DEL").arg("test:{a}:account").query_async(&mut connection).await.unwrap();
        let () = ::redis::cmd(broken[0]).arg(&broken[1..]).query_async(&mut connection).await.unwrap();
        for _ in 0..2 {
            assert_eq!(code(&admit(&tenants, &owner).await), "limits_unchecked", "{broken:?}");
            assert!(tenants.used(&owner).await.is_err());
            assert_eq!(code(&admit(&tenants, &other).await), "in", "{broken:?}");
            assert!(tenants.used(&other).await.is_ok());
        }
    }
}

#[tokio::test]
async fn a_redis_that_takes_no_changes_is_found_out_without_a_request() {
    let Some(server) = RedisServer::start() else { return };
    let (tenants, owner, _) = tenants(Limits::default(), in_redis(server.url(), OnStoreLoss::FailClosed));
    assert_eq!(tenants.take_changes().await, Ok(()));
    let mut connection = ::redis::Client::open(server.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let () = ::redis::cmd("REPLICAOF").arg(&["127.0.0.1", "1"]).query_async(&mut connection).await.unwrap();
    assert!(tenants.used(&owner).await.is_ok(), "it can be read");
    assert_eq!(tenants.take_changes().await, Err("it is a replica, which takes no changes"));
    let () = ::redis::cmd("REPLICAOF").arg(&["NO", "ONE"]).query_async(&mut connection).await.unwrap();
    let () = ::redis::cmd("CONFIG").arg(&["SET", "maxmemory", "1"]).query_async(&mut connection).await.unwrap();
    let (full, _, _) = super::tests::tenants(Limits::default(), in_redis(server.url(), OnStoreLoss::FailClosed));
    let why = full.take_changes().await.unwrap_err();
    assert!(why.starts_with("its memory is full"), "{why}");
}

#[tokio::test]
async fn a_place_is_given_back_to_a_redis_that_was_away_meanwhile() {
    let Some(server) = RedisServer::start() else { return };
    let limits = Limits { concurrent: 1, ..Limits::default() };
    let (tenants, owner, _) = tenants(limits, in_redis(server.url(), OnStoreLoss::FailClosed));
    let first = admit(&tenants, &owner).await;
    assert_eq!(code(&first), "in");
    server.goes_away().await;
    drop(first);
    while tenants.used(&owner).await.is_ok() {
        tokio::task::yield_now().await;
    }
    server.comes_back();
    let again = async {
        while admit(&tenants, &owner).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), again).await.expect("long before its lease ends");
}

#[tokio::test]
async fn a_request_under_way_is_one_that_redis_has_not_heard_the_end_of() {
    let Some(server) = RedisServer::start() else { return };
    let limits = Limits { concurrent: 1, ..Limits::default() };
    let (tenants, owner, _) = tenants(limits, in_redis(server.url(), OnStoreLoss::FailClosed));
    let running = admit(&tenants, &owner).await;
    assert_eq!(code(&running), "in");
    assert!(tenants.settled().now_or_never().is_none(), "its caller may be about to be cut");
    drop(running);
    tenants.settled().await;
    assert_eq!(tenants.used(&owner).await.unwrap().concurrent, 0);
}

#[tokio::test]
async fn a_caller_that_leaves_while_redis_is_asked_keeps_no_place() {
    let Some(server) = RedisServer::start() else { return };
    let limits = Limits { concurrent: 1, ..Limits::default() };
    let (tenants, owner, _) = tenants(limits, in_redis(server.url(), OnStoreLoss::FailClosed));
    let mut connection = ::redis::Client::open(server.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    // So that the next is asked at once: the connection is there, and Redis knows the script.
    drop(admit(&tenants, &owner).await);
    tenants.settled().await;
    let mut asking = Box::pin(admit(&tenants, &owner));
    assert!(asking.as_mut().now_or_never().is_none(), "Redis is asked");
    let let_in = async {
        let count = ::redis::cmd("ZCARD").arg("test:{a}:leases").to_owned();
        while count.query_async::<usize>(&mut connection).await.unwrap() == 0 {}
    };
    tokio::time::timeout(Duration::from_secs(60), let_in).await.expect("Redis lets it in, and nobody hears it");
    drop(asking);
    tenants.settled().await;
    assert_eq!(tenants.used(&owner).await.unwrap().concurrent, 0);
}
