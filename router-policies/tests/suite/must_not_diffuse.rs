//! Requests that no diffusion engine must get: images, parameters it would ignore, a tool's result at the end, more than
//! its window. The bar is one in a hundred; facts are rules, so it is none, whatever was asked and whatever the policy.

use weir_protocol::{ChatRequest, Message, Part, Role, ToolCall};
use weir_router_policies::{BackendFacts, BackendRole, Policy};

use crate::openclaw;

const ASKS: [&str; 8] = [
    "turn off the kitchen lights",
    "sort these: pear, fig, plum",
    "Give me JSON with name and age for this text: Ann is 5.",
    "Solve this sudoku:\n1 . . 4\n. . 1 .\n. 1 . .\n4 . . 1",
    "Write a Python function that adds two numbers",
    "SELECT all orders without a customer, in SQL",
    "hello",
    "Schedule three talks: A before B, C must not overlap with A, at most two rooms",
];

fn backend(name: &str, role: BackendRole, context_tokens: u64, everything: bool) -> BackendFacts {
    BackendFacts {
        name: name.to_owned(),
        group: None,
        role,
        context_tokens,
        takes_images: everything,
        takes_tools: true,
        honours_unsupported: everything,
        local: true,
        bytes_per_token: 4.0,
    }
}

fn forbidden(ask: &str, shape: usize, wrapped: bool) -> ChatRequest {
    let mut request = if wrapped { openclaw::request(ask) } else { openclaw::plain(ask) };
    match shape {
        0 => request.messages[0].content.push(Part::image("data:image/png;base64,AA")),
        1 => request.unsupported = vec!["n"],
        2 => request.messages[0].content.push(Part::Other { kind: "input_audio".into() }),
        3 => {
            let call = ToolCall { id: "1".into(), name: "read".into(), arguments: "{}".into() };
            request.messages.push(Message { tool_calls: vec![call], ..Message::empty(Role::Assistant) });
            let result = Message { tool_call_id: Some("1".into()), ..Message::text(Role::Tool, "done") };
            request.messages.push(result);
        }
        _ => request.messages.insert(0, Message::text(Role::System, "x ".repeat(20_000))),
    }
    request
}

#[test]
fn a_diffusion_engine_gets_none_of_them() {
    let backends = [
        backend("diffusion", BackendRole::Diffusion, 4096, false),
        backend("ar", BackendRole::Ar, 200_000, true),
        backend("far", BackendRole::Diffusion, 8192, false),
    ];
    let shipped = include_str!("../../../config/policies/balanced.toml");
    let diffusion_first = include_str!("../../../config/policies/diffusion-first.toml");
    let eager = "[pins]\nfallback = []\n[[rule]]\nname = \"all\"\nroute = \"diffusion\"\nreason = \"all of it\"\n\
                 attempts = [{ backend = \"role:diffusion\" }, { backend = \"ar\" }]";
    let (mut all, mut wrong) = (0, 0);
    for text in [shipped, diffusion_first, eager] {
        let policy = Policy::parse(text, "test").unwrap();
        for (at, ask) in ASKS.iter().cycle().take(ASKS.len() * 10).enumerate() {
            let request = forbidden(ask, at % 5, at % 2 == 0);
            let plan = policy.plan(&request, &backends);
            all += 1;
            wrong += usize::from(plan.attempts.iter().any(|attempt| attempt.backend != "ar"));
        }
    }
    assert_eq!((wrong, all), (0, 240));
}
