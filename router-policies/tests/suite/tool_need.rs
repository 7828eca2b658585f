//! Tools needed, not tools offered.

use weir_protocol::{Tool, ToolChoice};
use weir_router_policies::Features;

use crate::openclaw::{self, tool};

/// The household functions of the nano models, without descriptions, as they are trained.
fn household() -> Vec<Tool> {
    [
        ("set_light", &["room", "on"][..]),
        ("set_thermostat", &["room", "celsius"]),
        ("set_timer", &["minutes", "label"]),
        ("create_reminder", &["text", "when"]),
        ("play_music", &["query"]),
        ("get_weather", &["city", "day"]),
        ("add_to_list", &["list", "item"]),
        ("send_message", &["to", "text"]),
        ("set_device", &["device", "on"]),
    ]
    .map(|(name, parameters)| tool(name, "", parameters))
    .into()
}

fn needed(text: &str, tools: Vec<Tool>) -> bool {
    let mut request = openclaw::plain(text);
    request.tools = tools;
    Features::of(&request).tool_needed
}

#[test]
fn household_requests_need_a_tool() {
    for text in [
        "turn off the kitchen lights",
        "Could you switch the lights in the hall on?",
        "bedroom lights off",
        "the living room lights should be on",
        "set the bathroom to 22 degrees",
        "I want 21 degrees in the office",
        "warm the bedroom to 19 please",
        "set a timer for 10 minutes",
        "15 minute timer",
        "please time 5 minutes",
        "remind me to call mum tomorrow at 6pm",
        "set a reminder to pay the rent",
        "don't let me forget to water the plants on friday",
        "play some jazz",
        "music by abba",
        "what is the weather in oslo tomorrow",
        "will it rain in paris today?",
        "weather in berlin",
        "add milk to the shopping list",
        "put eggs on my grocery list",
        "send anna a message: i am late",
        "text peter that dinner is ready",
        "message dad: the door is open",
        "turn the fan on",
        "switch off the tv",
    ] {
        assert!(needed(text, household()), "{text:?} needs a tool");
    }
}

#[test]
fn talk_needs_none() {
    for text in [
        "hi",
        "Hello, how are you?",
        "thanks!",
        "tell me a joke",
        "write a poem about the sea",
        "why is the light in the kitchen so warm",
        "what is the capital of france",
        "list the planets",
        "explain monads to me",
        "how do i write a message to my boss?",
        "I had a long day and I am tired",
        "translate good morning into french",
        "what is a timer?",
        "Mike plays ping pong for 40 minutes. In the first 20 minutes he scores 4 points. How many in total?",
        "A switch is used to stop the current in the kitchen light",
        "Write a function to find the largest item of a list.",
        "If I run for a long time, I run the risk of what?",
        "",
        "你好",
        "schalte das licht in der küche aus",
    ] {
        assert!(!needed(text, household()), "{text:?} needs no household tool");
        assert!(!needed(text, openclaw::tools()), "{text:?} needs no agent tool");
    }
}

#[test]
fn agent_requests_need_a_tool() {
    for text in [
        "read notes.md",
        "write a file called todo.txt with three lines",
        "run the command ls -la",
        "search the web for cheap flights to rome",
        "send a message to anna: done",
        "fetch the page https://example.org/a",
    ] {
        assert!(needed(text, openclaw::tools()), "{text:?} needs a tool");
    }
}

#[test]
fn a_tool_that_is_not_offered_is_not_needed() {
    assert!(!needed("turn off the kitchen lights", Vec::new()));
    assert!(!needed("turn off the kitchen lights", openclaw::tools()));
    assert!(!needed("weather in berlin", vec![tool("send_message", "", &["to", "text"])]));
}

#[test]
fn the_callers_choice_is_stronger_than_words() {
    let mut request = openclaw::plain("hi");
    request.tools = household();
    request.tool_choice = ToolChoice::Required;
    let features = Features::of(&request);
    assert!(features.tool_needed && features.structure_demanded);
    request = openclaw::plain("turn off the kitchen lights");
    request.tools = household();
    request.tool_choice = ToolChoice::None;
    assert!(!Features::of(&request).tool_needed);
}

#[test]
fn a_list_of_lamps_is_a_list() {
    let mut request = openclaw::plain("sort these words: light, kitchen, on, switch");
    request.tools = household();
    let features = Features::of(&request);
    assert!(features.transform_shape && !features.tool_needed);
}
