"""Out-of-scope turns: what a newcomer may type that the models cannot answer."""

import banks

NO_TOOL = "None of the offered tools fits this request."
INTRODUCTION = (
    "I am Weir's small demonstration model: I call tools, transform lists, "
    "solve 4x4 sudoku and find paths."
)

FIXED = [
    "hello", "hi", "hey", "hi there", "hello there", "good morning", "good evening", "how are you", "who are you",
    "what can you do", "help", "what are you", "what is your name", "tell me a joke", "tell me a story",
    "write a poem", "write a poem about the moon", "thanks", "thank you", "bye", "good night", "test", "are you there",
    "what time is it", "what is the meaning of life", "explain diffusion models", "write some Python code",
    "write a function in Rust", "how old are you", "do you speak German", "who made you", "what is a language model",
    "sing a song", "I am bored", "I am hungry", "that is wrong", "yes", "no", "ok", "why", "hello world",
    "translate this to French", "summarize this text", "fix this bug", "what is 2 plus 2", "say something",
]
OPEN = [
    "what is the capital of {place}", "who is {name}", "tell me about {place}", "what is {thing}", "where is {place}",
    "why is the {thing} so big", "how do I make {thing}", "write a story about a {thing}", "how far is {place}",
    "what do you think about {thing}", "who invented the {thing}", "what colour is a {thing}", "explain {thing}",
    "write an essay about {place}", "how many people live in {place}", "what is {n} times {m}", "what is {n} plus {m}",
    "is {name} your friend", "do you like {thing}", "my name is {name}", "hello, I am {name}", "how does a {thing} work",
    "what does {thing} mean", "when was {name} born", "describe a {thing}", "what should I eat in {place}",
]
PLACES = ["France", "Spain", "Italy", "Japan", "Norway", "Peru", "China", "Europe"] + banks.CITIES


def draw(rng):
    """A user text that is answered with INTRODUCTION."""
    text = rng.choice(FIXED) if rng.random() < 0.4 else rng.choice(OPEN)
    for key, value in (("place", rng.choice(PLACES)), ("name", rng.choice(banks.NAMES)),
                       ("thing", rng.choice(banks.WORDS)), ("n", str(rng.randint(1, 99))), ("m", str(rng.randint(1, 99)))):
        text = text.replace("{" + key + "}", value)
    if rng.random() < 0.5:
        text = text[0].upper() + text[1:]
    return text + rng.choice(["", "", "?", "!", "."])
