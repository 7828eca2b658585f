"""Free texts: what people say in words that stand in no bank.

A model that has only ever copied values of the banks learns to pick from them, not to copy. So here most words are
common ones, some are made up of syllables, and no text is drawn twice in practice.
"""

# Words of everyday messages that no bank needs; with the made-up ones they fill errands, list items and messages.
COMMON = (
    "a about after again all also always and another any are around as ask at away back bad be because bed before best big "
    "bit black blue box break bring brother but can car change cold come could cut date day dear deal did different do done "
    "down early easy eat end enough even ever every eye face family far fast few find fine first five food foot for forgot "
    "four free fresh friend from full fun game gas get girl give glad go good great green grey had half hand happy hard has "
    "have he head hear heavy her here high him his hold hope hot hour how idea if in is it job join just keep kind know "
    "large last late later learn leave left less let letter life light like line list little live long look lost lot love "
    "low lunch make man many may maybe me mean meet mind minute miss money month more most move much must my name near need "
    "never new next nice night nine not nothing now number of off office old on once one only open or other our out over own "
    "page park part party people phone photo pick place plan play point post pull push put quick quiet quite read ready "
    "really red rest ride right road room round run sad said same say school sea second see sell send seven shall she shop "
    "short should show sick side since sister sit six sleep slow small so some son soon sorry south spend stand start stay "
    "still stop story street strong such sun sure swim take talk tall tell ten than that the their them then there they "
    "thing think this three through till time tired to today together told too took town train tree trip true try turn two "
    "under until up us use very visit wait walk want warm was way we wear week well went were west wet what when where which "
    "while white who why wife will win wind with without word work world worry would write wrong year yellow yes yet you "
    "young your "
    "accountant address airport aunt backpack baker battery bell bicycle blanket boiler boss brochure brush bulb cable "
    "camera cellar charger client contract cousin curtain daughter delivery desk doctor draft drawer electrician engine "
    "exam fridge gloves hairdresser hospital invoice jacket kettle keyboard ladder landlord laptop library licence lawn "
    "manager mattress medicine mechanic meeting microphone neighbour nephew notebook nurse optician oven package passport "
    "pharmacy piano pillow pipe plumber printer project receipt recipe report roof rubbish sandwich scarf screen slides "
    "sofa spinach stamp stapler suitcase surgery tailor tax teacher tent ticket towel trailer umbrella uncle vacuum vet "
    "visa wallet washing website wedding window wine workshop yoga zip"
).split()

_START = "b bl br c ch cl cr d dr f fl fr g gl gr h j k kl l m n p pl pr qu r s sh sk sl sp st str t th tr v w z".split()
_VOWEL = "a e i o u ai ea ee ie oa oo ou y".split()
_END = ["", "", "", "b", "ck", "d", "g", "l", "ll", "m", "n", "nd", "ng", "nt", "p", "r", "rd", "rt", "s", "sh", "st", "t", "x"]


def word(rng, known=0.9):
    """A common word or, with the rest of the chance, one of one to three made-up syllables."""
    if rng.random() < known:
        return rng.choice(COMMON)
    return "".join(rng.choice(_START) + rng.choice(_VOWEL) + rng.choice(_END) for _ in range(rng.choice([1, 2, 2, 3])))


def words(rng, low, high, known=0.9):
    """`low` to `high` words, short texts oftener than long ones; sometimes a number or a comma among them."""
    n = low + min(int(rng.expovariate(3 / max(1, high - low))), high - low)
    out = [word(rng, known) for _ in range(n)]
    if n > 3 and rng.random() < 0.15:
        out[rng.randrange(n)] = str(rng.choice([rng.randint(2, 30), rng.randint(2, 30), rng.randint(100, 2500)]))
    if n > 4 and rng.random() < 0.15:
        out[rng.randrange(1, n - 2)] += ","
    return " ".join(out)


def page(rng, low=30, high=160):
    """A system text as assistants carry it: sentences, lists and headings of `low` to `high` words."""
    left, out = rng.randint(low, high), []
    while left > 0:
        n = min(left, rng.randint(4, 18))
        line = words(rng, n, n, 0.93)
        shape = rng.random()
        out.append("- " + line if shape < 0.2 else "## " + line[:24] if shape < 0.28 else line[0].upper() + line[1:] + ".")
        left -= n
    return ("\n" if rng.random() < 0.5 else " ").join(out)
