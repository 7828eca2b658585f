"""Generator of tool-call chat turns: nine household functions, many wordings each.

Every free-text value is copied verbatim out of the request, so that each
request has exactly one right answer.
"""

import json

import banks
from text import dress, fill


def _schema(name, description, required, **props):
    return {
        "type": "function",
        "function": {
            "name": name,
            "description": description,
            "parameters": {"type": "object", "properties": props, "required": required},
        },
    }


def _p(kind, description):
    return {"type": kind, "description": description}


TOOLS = {
    t["function"]["name"]: t
    for t in [
        _schema("set_light", "Switch the lights of a room on or off.", ["room", "on"],
                room=_p("string", "room"), on=_p("boolean", "true for on")),
        _schema("set_thermostat", "Set the temperature of a room.", ["room", "celsius"],
                room=_p("string", "room"), celsius=_p("integer", "degrees Celsius")),
        _schema("set_timer", "Start a countdown.", ["minutes"],
                minutes=_p("integer", "minutes"), label=_p("string", "what it is for")),
        _schema("set_alarm", "Set a wake-up alarm.", ["time", "day"],
                time=_p("string", "clock time"), day=_p("string", "day")),
        _schema("create_reminder", "Remind the user of something.", ["text", "when"],
                text=_p("string", "what"), when=_p("string", "when")),
        _schema("play_music", "Play music by artist or genre.", [],
                artist=_p("string", "artist"), genre=_p("string", "genre")),
        _schema("get_weather", "Look up the weather.", ["city", "day"],
                city=_p("string", "city"), day=_p("string", "day")),
        _schema("add_to_list", "Add an item to a list.", ["list", "item"],
                list=_p("string", "name of the list"), item=_p("string", "item")),
        _schema("send_message", "Send a text message.", ["to", "text"],
                to=_p("string", "recipient"), text=_p("string", "message")),
    ]
}

# Names that only ever appear in the offered list, never as the right call.
DECOYS = (
    "search_web read_file run_code get_stock_price translate_text open_door book_flight "
    "create_event send_email get_news order_food start_vacuum"
).split()

LIGHT = [
    "(turn|switch) {state} the {room} (lights|light|lamp)",
    "(turn|switch) the {room} (lights|light|lamp) {state}",
    "(turn|switch) the (lights|light) in the {room} {state}",
    "(turn|switch) {state} the (lights|light) in the {room}",
    "(could|can) you (turn|switch) the (lights|light) in the {room} {state}",
    "(could|can|would) you (turn|switch) {state} the {room} (lights|light)",
    "{room} (lights|light|lamp) {state}",
    "lights {state} in the {room}",
    "(I want|I would like) the {room} lights {state}",
    "the {room} (lights|light) should be {state}",
    "put the {room} (lights|light) {state}",
    "make sure the {room} lights are {state}",
    "set the {room} (lights|light) to {state}",
    "lights in the {room} {state}",
    "{state} with the (lights|light) in the {room}",
    "get the {room} lights {state} for me",
]
THERMOSTAT = [
    "set the {room} to {n} degrees", "set the (thermostat|temperature) in the {room} to {n}( degrees|)",
    "(make|heat|warm) the {room} (to |up to |){n} degrees", "{room} (to|at) {n} degrees",
    "(could|can) you set the {room} (thermostat|temperature|heating) to {n}( degrees|)",
    "(turn|put) the {room} (heating|thermostat) to {n}( degrees|)", "I want {n} degrees in the {room}",
    "I would like the {room} at {n} degrees", "{n} degrees in the {room}",
    "change the (temperature|thermostat) in the {room} to {n}( degrees|)",
    "the {room} should be {n} degrees", "adjust the {room} (thermostat|temperature) to {n}( degrees|)",
    "bring the {room} to {n} degrees", "keep the {room} at {n} degrees",
    "set {n} degrees (in|for) the {room}", "(thermostat|heating) in the {room} to {n}",
]
TIMER = [
    "set a timer for {n} minutes", "start a {n} minute timer", "set a {n} minute timer", "timer {n} minutes",
    "(could|can) you set a timer for {n} minutes", "(could|can) you time {n} minutes",
    "start a timer for {n} minutes", "count down {n} minutes", "{n} minute timer", "timer for {n} minutes",
    "I need a timer for {n} minutes", "I need a {n} minute timer", "give me {n} minutes on the timer",
    "put {n} minutes on the timer", "start the timer, {n} minutes", "set the timer to {n} minutes",
]
TIMER_LABEL = [
    "set a timer for {n} minutes( for the {label}|, label {label}| called {label})",
    "set a {label} timer for {n} minutes", "start a {n} minute timer for the {label}", "{n} minutes for the {label}",
    "{n} minute {label} timer", "(could|can) you set a {label} timer for {n} minutes",
    "I need a {n} minute timer for the {label}", "{label} timer, {n} minutes",
    "start a timer for the {label}, {n} minutes", "time the {label} for {n} minutes",
    "timer for the {label}, {n} minutes",
]
ALARM = [
    "wake me (up |)at {time} {day}", "set an alarm for {time} {day}", "{day} wake me at {time}",
    "alarm {day} at {time}", "alarm at {time} {day}", "(could|can) you wake me (up |){day} at {time}",
    "set (an|the) alarm {day} at {time}", "I need to get up at {time} {day}", "I have to be up at {time} {day}",
    "get me up at {time} {day}", "I need an alarm for {time} {day}", "(could|can) you set an alarm for {time} {day}",
    "{time} alarm for {day}", "{day} alarm at {time}", "put the alarm on {time} for {day}", "wake up call at {time} {day}",
]
REMINDER = [
    "remind me to {text} {when}", "remind me {when} to {text}", "{when} remind me to {text}",
    "set a reminder to {text} {when}", "create a reminder to {text} {when}",
    "(could|can) you remind me to {text} {when}", "(could|can) you remind me {when} to {text}",
    "don't let me forget to {text} {when}", "I need to {text} {when}, remind me",
    "I have to {text} {when}, remind me", "make a reminder to {text} {when}", "reminder: {text} {when}",
    "add a reminder to {text} {when}", "I need a reminder to {text} {when}",
    "I want to be reminded to {text} {when}", "help me remember to {text} {when}", "{when} I have to {text}, remind me",
]
MUSIC = [
    "play {m}", "play (some|me some) {m}", "play music by {m}", "put on (some |){m}", "put {m} on",
    "(could|can) you play (some |){m}", "I want to (hear|listen to) {m}", "I would like to hear {m}",
    "start (some |){m}", "let me hear {m}", "let's (hear|listen to) {m}", "play songs by {m}",
    "some {m} (now|)", "give me some {m}", "(could|can) you put on {m}", "I feel like {m}", "{m} music",
]
GENRE_ONLY = ["play {m} music", "play a {m} playlist", "some {m} music", "put on {m} music", "I want {m} music"]
WEATHER = [
    "what's the weather (in|for) {city}{day}", "what is the weather (like |)in {city}{day}", "weather in {city}{day}",
    "{city} weather{day}", "how is the weather in {city}{day}", "how's the weather in {city}{day}",
    "tell me the weather in {city}{day}", "(could|can) you check the weather in {city}{day}",
    "check the weather (in|for) {city}{day}", "weather forecast for {city}{day}", "will it rain in {city}{day}",
    "is it (cold|warm|sunny) in {city}{day}", "do I need an umbrella in {city}{day}", "forecast for {city}{day}",
    "give me the weather for {city}{day}", "show me the forecast for {city}{day}", "what will the weather be in {city}{day}",
]
LIST = [
    "add {item} to (the|my) {list} list", "put {item} on (the|my) {list} list",
    "(could|can) you add {item} to (the|my) {list} list", "(could|can) you put {item} on (the|my) {list} list",
    "{item} on the {list} list", "add {item} to {list}", "I need {item} on my {list} list",
    "write {item} on the {list} list", "put {item} down on the {list} list", "{list} list: {item}",
    "we need {item} on the {list} list", "my {list} list needs {item}", "add to the {list} list: {item}",
    "include {item} in the {list} list", "(the|my) {list} list should have {item}", "{item} should go on the {list} list",
]
MESSAGE = [
    "send a message to {to}: {text}", "text {to}: {text}", "message {to}: {text}", "tell {to} {text}",
    "send {to} a (text|message): {text}", "(could|can) you tell {to} {text}", "let {to} know {text}",
    "write to {to}: {text}", "send {to} the message: {text}", "text {to} {text}", "message {to} {text}",
    "(could|can) you text {to}: {text}", "say to {to}: {text}", "send a text to {to}: {text}",
    "(could|can) you send {to} a message: {text}", "write {to} a message: {text}", "tell {to} that {text}", "let {to} know that {text}",
]


def when(rng):
    day = rng.choice(["tomorrow", "tomorrow", "today", "on " + rng.choice(banks.DAYS)])
    clock = "at " + rng.choice(banks.CLOCK)
    part = rng.choice(["morning", "afternoon", "evening"])
    return rng.choice([
        day, f"{day} {clock}", f"{day} {clock}", f"{day} {clock}", clock, "tonight", f"tonight {clock}", f"tomorrow {part}",
        f"this {part}", f"on {rng.choice(banks.DAYS)} {part}", f"in {rng.randint(2, 59)} minutes",
        f"in {rng.randint(2, 12)} hours", "next week", "this weekend",
    ])


def call_text(name, arguments):
    """The assistant text of one call, in the template's Hermes-like form."""
    body = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return f"<tool_call>\n{body}\n</tool_call>"


def maybe_lower(value, rng):
    """One in eight users does not capitalise names; the answer still does."""
    return value.lower() if rng.random() < 0.12 else value


def draw(rng, name=None):
    """One request: (function name, user text, arguments)."""
    name = name or rng.choice(list(TOOLS))
    question = False
    if name == "set_light":
        room, on = rng.choice(banks.ROOMS), rng.random() < 0.5
        text = fill(rng.choice(LIGHT), {"room": room, "state": "on" if on else "off"}, rng)
        args = {"room": room, "on": on}
    elif name == "set_thermostat":
        room, n = rng.choice(banks.ROOMS), rng.randint(14, 28)
        text = fill(rng.choice(THERMOSTAT), {"room": room, "n": str(n)}, rng)
        args = {"room": room, "celsius": n}
    elif name == "set_timer":
        n = rng.choice([rng.randint(2, 60), rng.randint(2, 60), rng.choice([5, 10, 15, 20, 90, 120])])
        args = {"minutes": n}
        if rng.random() < 0.5:
            args["label"] = rng.choice(banks.TIMER_LABELS)
            text = fill(rng.choice(TIMER_LABEL), {"n": str(n), "label": args["label"]}, rng)
        else:
            text = fill(rng.choice(TIMER), {"n": str(n)}, rng)
    elif name == "set_alarm":
        day = rng.choice(["today", "tomorrow", "tomorrow", "tomorrow"] + banks.DAYS)
        time = rng.choice(banks.CLOCK)
        pattern = rng.choice(ALARM)
        spoken = day
        if day in banks.DAYS and not pattern.startswith("{day}") and "for {day}" not in pattern and rng.random() < 0.7:
            spoken = "on " + day
        text = fill(pattern, {"day": spoken, "time": time}, rng)
        args = {"time": time, "day": day}
    elif name == "create_reminder":
        verbs, objects = rng.choice(banks.ERRANDS)
        what, due = f"{rng.choice(verbs.split())} {rng.choice(objects)}", when(rng)
        text = fill(rng.choice(REMINDER), {"text": what, "when": due}, rng)
        args = {"text": what, "when": due}
    elif name == "play_music":
        if rng.random() < 0.5:
            m = rng.choice(banks.ARTISTS)
            patterns, args = MUSIC[:-1], {"artist": m}
        else:
            m = rng.choice(banks.GENRES)
            patterns, args = [p for p in MUSIC if " by " not in p] + GENRE_ONLY, {"genre": m}
        text = fill(rng.choice(patterns), {"m": m}, rng)
    elif name == "get_weather":
        city, day = rng.choice(banks.CITIES), rng.choice(banks.WEATHER_DAYS)
        spoken = " " + ("on " if day in banks.DAYS else "") + day
        if day == "today" and rng.random() < 0.6:
            spoken = ""
        pattern = rng.choice(WEATHER)
        question = pattern.split()[0] in ("what's", "what", "how", "how's", "will", "is", "do")
        text = fill(pattern, {"city": maybe_lower(city, rng), "day": spoken}, rng)
        args = {"city": city, "day": day}
    elif name == "add_to_list":
        args = {"list": rng.choice(banks.LIST_NAMES), "item": rng.choice(banks.LIST_ITEMS)}
        text = fill(rng.choice(LIST), args, rng)
    else:
        to = rng.choice(banks.PEOPLE)
        body = f"{rng.choice(banks.MESSAGE_HEADS)} {rng.choice(banks.MESSAGE_TAILS)}".strip()
        pattern = rng.choice(MESSAGE)
        text = fill(pattern, {"to": maybe_lower(to, rng), "text": body}, rng)
        # a message ends where the request ends: no trailing politeness or full stop
        text = text[0].upper() + text[1:] if rng.random() < 0.5 else text
        return name, text, {"to": to, "text": body}
    return name, dress(text, rng, question), args
