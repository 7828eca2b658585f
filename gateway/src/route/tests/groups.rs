//! Backends that are equals: a plan names the group, and whoever stands best is asked.

use weir_router_policies::{BackendFacts, BackendRole, Policy};

use super::*;
use crate::backends::{Backend, Registry};
use crate::route::{Asker, Router, standing::Purpose};

const POLICY: &str = "[pins]\nfallback = []\n[[rule]]\nname = \"all\"\nroute = \"ar\"\nreason = \"test\"\n\
    attempts = [{ backend = \"pool\" }, { backend = \"cloud\" }]\n";

fn member(name: &str, group: Option<&str>, caches_prefixes: bool) -> Backend {
    let asking = AskingSettings { group: group.map(Into::into), caches_prefixes, ..AskingSettings::default() };
    Backend {
        name: name.into(),
        service: backend(vec![text(name), END]),
        models: vec!["m".into()],
        facts: BackendFacts {
            name: name.into(),
            group: asking.group.clone(),
            role: BackendRole::Ar,
            context_tokens: 1000,
            takes_images: false,
            takes_tools: true,
            honours_unsupported: true,
            local: true,
            bytes_per_token: 4.0,
        },
        engine: None,
        server_tools: Default::default(),
        counter: None,
        standing: Standing::new(name, &asking, &AttemptSettings::default().standing),
        asking,
    }
}

fn router(caches_prefixes: bool) -> Router {
    let backends = [("a", Some("pool")), ("cloud", None), ("b", Some("pool")), ("c", Some("pool"))];
    let backends = backends.map(|(name, group)| member(name, group, caches_prefixes));
    let policy = Policy::parse(POLICY, "test").unwrap();
    let metrics = Arc::new(Metrics::new().unwrap());
    Router::new(Registry::of(backends.into()), policy, AttemptSettings::default(), Default::default(), metrics)
}

fn asks(model: &str, text: &str) -> Arc<ChatRequest> {
    let messages = vec![weir_protocol::Message::text(weir_protocol::Role::User, text)];
    Arc::new(ChatRequest { model: model.into(), messages, ..ChatRequest::default() })
}

/// Who is asked, in order.
fn order(router: &Router, request: Arc<ChatRequest>) -> Vec<String> {
    let planned = router.plan(request, Asker::default()).unwrap_or_else(|refusal| panic!("{}", refusal.error));
    planned.plan.steps.iter().map(|step| step.backend.clone()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_plan_a_caller_and_a_model_may_mean_the_group() {
    let router = router(false);
    for (model, last) in [("auto", Some("cloud")), ("pool", None), ("m", None)] {
        let mut order = order(&router, asks(model, "hi"));
        assert_eq!(order.iter().skip(3).map(String::as_str).next(), last, "{model}: {order:?}");
        order.truncate(3);
        order.sort_unstable();
        assert_eq!(order, ["a", "b", "c"], "{model}");
    }
    assert_eq!(order(&router, asks("b", "hi")), ["b"], "a member by its own name is that member");
    assert!(router.backends().models().iter().any(|entry| entry.id == "pool"));
}

#[tokio::test(start_paused = true)]
async fn load_is_spread_and_those_that_are_out_come_last() {
    let router = router(false);
    let firsts = || (0..40).map(|_| order(&router, asks("pool", "hi")).swap_remove(0)).collect::<Vec<_>>();
    let spread = firsts();
    for name in ["a", "b"] {
        assert!(spread.iter().any(|first| first == name), "{spread:?}");
    }
    router.backends().by_name("a").unwrap().standing.checked(false);
    assert!(firsts().iter().all(|first| first != "a"));
    assert_eq!(order(&router, asks("pool", "hi"))[2], "a");
}

#[tokio::test(start_paused = true)]
async fn a_conversation_stays_where_its_prefix_is() {
    let router = router(true);
    let first = |text: &str| order(&router, asks("pool", text)).swap_remove(0);
    let mut seen = std::collections::BTreeSet::new();
    for conversation in 0..30 {
        let text = format!("conversation {conversation}");
        let own = first(&text);
        assert!((0..5).all(|_| first(&text) == own));
        seen.insert(own);
    }
    assert_eq!(seen.len(), 3, "conversations are spread");
}

#[tokio::test(start_paused = true)]
async fn a_member_that_fails_is_replaced_by_an_equal() {
    let router = router(false);
    let busy = router.backends().by_name("b").unwrap();
    let ticket = busy.standing.admit(&Class::new("r", 0), Purpose::First, tokio::time::Instant::now()).unwrap();
    let planned = router.plan(asks("pool", "hi"), Asker::default()).unwrap_or_else(|_| panic!("a plan"));
    assert_ne!(planned.plan.steps[0].backend, "b", "nobody knows b, and it is busy");
    let answer = planned.run().await.unwrap_or_else(|_| panic!("an answer"));
    assert_ne!(answer.report.backend, "b");
    drop(ticket);
    assert_eq!(busy.standing.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_tenant_is_served_by_its_own_backends_only() {
    let router = router(false);
    let asker = |names: &[&str]| Asker {
        backends: names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>().into(),
        ..Asker::default()
    };
    let steps = |model: &str, names: &[&str]| {
        let planned = router.plan(asks(model, "hi"), asker(names));
        planned.map_err(|refusal| refusal.error.kind()).map(|planned| planned.plan.steps.len())
    };
    assert_eq!(steps("auto", &["cloud"]), Ok(1));
    assert_eq!(steps("auto", &["pool"]), Ok(3));
    assert_eq!(steps("m", &["a", "cloud"]), Ok(1), "its own member of the group");
    assert_eq!(steps("cloud", &["pool"]), Err("forbidden"));
    assert_eq!(steps("nobody", &["pool"]), Err("unknown_model"));
}
