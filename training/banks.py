"""Word banks from which the task generators draw their values.

Everything here is plain everyday English. The banks are kept small on purpose:
each entry should be one token of the nano tokenizer, so a copied value costs
the model one position rather than a spelling exercise.
"""

# Items of the list transforms (sort, reverse, deduplicate): one word each.
WORDS = (
    "acorn amber anchor apple arrow banana barn basket beach bell bird boat book bottle "
    "bread bridge brush bucket butter cake camel candle carrot castle cat chair cheese "
    "cherry clock cloud coat coin copper corn cup daisy desk dog door dragon drum eagle "
    "earth egg engine feather fence fig fish flag flower forest fork fox garden ghost "
    "glass glove goat grape hammer hat hill honey horse house ink iron island jacket jam "
    "jelly kettle key kite ladder lake lamp leaf lemon lion map melon milk mirror moon "
    "mouse needle nest nut ocean olive onion orange owl"
).split()

NAMES = (
    "Anna Ben Carla David Elena Felix Grace Hugo Ines Jonas Kate Leo Maria Nora Oscar "
    "Paula Rosa Sam Tom Vera"
).split()
PEOPLE = NAMES + ["mum", "dad", "grandma"]
CITIES = (
    "Athens Berlin Boston Cairo Dublin Geneva Lima Lisbon London Madrid Milan Oslo "
    "Paris Prague Rome Seattle Sydney Tokyo Vienna Zurich"
).split()
JOBS = "teacher nurse baker pilot painter farmer lawyer doctor singer driver".split()

ROOMS = (
    "kitchen bedroom bathroom office hallway garage attic basement nursery "
    "study balcony"
).split() + ["living room", "dining room"]

DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
WEATHER_DAYS = ["today", "tomorrow", "tonight"] + DAYS
CLOCK = [f"{h}{p}" for h in range(1, 13) for p in ("am", "pm")] + [
    f"{h}:{m}" for h in range(6, 23) for m in (15, 30, 45)
]

ARTISTS = [
    "Queen", "Abba", "Adele", "Nina Simone", "Miles Davis", "Bob Dylan", "Pink Floyd",
    "David Bowie", "Johnny Cash", "The Beatles", "Coldplay", "Radiohead", "Madonna", "Prince",
]
GENRES = "jazz rock pop blues techno folk soul reggae punk classical disco country".split()

LIST_NAMES = ["shopping", "grocery", "packing", "todo", "wish", "party"]
LIST_ITEMS = (
    "apples bananas bread butter cheese coffee eggs flour honey milk onions pasta rice "
    "salt soap sugar tea tomatoes towels batteries candles socks sunscreen toothpaste "
    "water yoghurt"
).split() + ["olive oil", "orange juice", "dog food", "light bulbs"]

# Reminder texts are verb + object (+ tail); every verb goes with every object of its row.
ERRANDS = [
    ("call text visit email", PEOPLE + ["the dentist", "the bank", "the plumber", "the school"]),
    ("water feed wash check", ["the plants", "the dog", "the cat", "the garden", "the car", "the fish"]),
    ("buy order collect return", ["milk", "bread", "a present", "the tickets", "the parcel",
                                  "the keys", "the books", "some flowers", "stamps"]),
    ("pay book cancel renew", ["the rent", "the bill", "the hotel", "the flight",
                               "the insurance", "the lesson", "the table"]),
    ("clean fix paint close", ["the oven", "the window", "the fence", "the bike", "the door",
                               "the garage", "the kitchen"]),
]

# Message texts: two halves that combine freely.
MESSAGE_HEADS = [
    "I am running late", "I will be home soon", "dinner is ready", "the train is delayed",
    "I forgot my keys", "happy birthday", "see you at the station", "the meeting is cancelled",
    "I love you", "thanks for the help", "good luck", "we are on our way", "I am at the office",
    "the parcel has arrived", "please call me", "I bought milk", "the dog is fine", "we need bread",
]
MESSAGE_TAILS = [
    "", "", "", "today", "tomorrow", "tonight", "this evening", "at 6pm", "at 8pm", "on Friday", "on Sunday",
    "in ten minutes", "again",
]

TIMER_LABELS = "pasta tea eggs pizza laundry bread rice nap workout cake".split()

# Short system prompts as clients send them (the models must not be thrown off by one).
SYSTEM_PROMPTS = [
    "You are a helpful assistant.", "You are a home assistant.", "Be brief.",
    "You are a helpful AI assistant that can call tools.", "Answer in English.",
    "Use the tools when they help.", "You control a smart home.", "Be concise and correct.",
    "You are a friendly assistant for a family.", "Reply with the answer only.",
    "You are an assistant. Today is {day}.", "The user's name is {name}.",
    "The user {name} lives in {city}.", "You are Weir.", "Follow the user's instructions.",
    "You are an expert at lists and puzzles.", "Never explain your answer.",
]
