"""What the demo model knows: a world of a few hundred words' worth of pictures, and how to speak of it.

A `Scene` is everything that a picture shows. Its caption says all of it but small chances: where a
shape stands to within a hundredth of the picture, and its size to within 3 %. So that a
caption decides its picture almost wholly, the paths from noise to pictures are almost straight, and
a few steps are enough.
"""

import dataclasses
import math
import random

# sRGB. Far enough apart that a reader of pictures can tell them by the nearest.
COLOURS = {
    "red": (214, 40, 40),
    "orange": (247, 127, 0),
    "yellow": (255, 214, 51),
    "green": (56, 158, 76),
    "blue": (38, 98, 217),
    "purple": (128, 66, 181),
    "pink": (247, 140, 188),
    "brown": (121, 76, 46),
    "black": (28, 28, 34),
    "white": (250, 250, 248),
    "gray": (145, 148, 155),
    "teal": (38, 180, 170),
}
SHAPES = ("circle", "square", "triangle", "star", "ring", "heart", "crescent", "diamond", "cross", "house")
# Radius of the circle around a shape, of the picture's side.
SIZES = {"small": 0.10, "": 0.155, "large": 0.22}
PLACES = {
    "in the top left corner": (0.25, 0.25),
    "at the top": (0.5, 0.25),
    "in the top right corner": (0.75, 0.25),
    "on the left": (0.25, 0.5),
    "in the center": (0.5, 0.5),
    "on the right": (0.75, 0.5),
    "in the bottom left corner": (0.25, 0.75),
    "at the bottom": (0.5, 0.75),
    "in the bottom right corner": (0.75, 0.75),
}
# The first shape's place, then the second's.
RELATIONS = {
    "above": ((0.5, 0.27), (0.5, 0.73)),
    "below": ((0.5, 0.73), (0.5, 0.27)),
    "to the left of": ((0.27, 0.5), (0.73, 0.5)),
    "to the right of": ((0.73, 0.5), (0.27, 0.5)),
}
COUNTS = {2: "two", 3: "three"}
# Colours that a shape on such a background must not have.
LANDSCAPES = {
    "night sky": ("black", "blue", "purple", "brown"),
    "sea": ("blue", "teal", "white", "gray"),
    "field": ("green", "teal", "white", "blue"),
}
LANDSCAPE_WORDS = {
    "night sky": ("in the night sky", "in a starry night sky"),
    "sea": ("over the sea", "at sea, with the horizon"),
    "field": ("on a green field", "over a green field"),
}
# Other words for the same, said now and then.
SYNONYMS = {"large": "big", "small": "little", "gray": "grey", "center": "middle", "below": "under"}
# The background of a picture whose caption names none.
UNSAID = "white"
# Neighbours on the wheel of colours, or near black, white and gray.
ALIKE = {
    frozenset(pair)
    for pair in (
        ("red", "orange"), ("orange", "yellow"), ("orange", "brown"), ("red", "brown"), ("green", "teal"),
        ("blue", "purple"), ("pink", "red"), ("pink", "purple"), ("black", "brown"), ("white", "yellow"),
        ("white", "gray"), ("gray", "teal"), ("blue", "teal"), ("pink", "white"), ("gray", "brown"),
        ("gray", "pink"), ("pink", "orange"), ("gray", "purple"), ("gray", "blue"), ("gray", "green"),
    )
}


@dataclasses.dataclass(frozen=True)
class Thing:
    """A shape in a picture. Lengths are of the picture's side, angles do not occur."""

    shape: str
    colour: str
    size: str
    x: float
    y: float
    radius: float


@dataclasses.dataclass(frozen=True)
class Scene:
    # ("plain", colour), ("gradient", top, bottom), ("stripes", colour, colour), or (landscape,)
    background: tuple
    things: tuple
    caption: str
    # Drawn apart from all others, so that no training has seen its words together.
    held_out: bool


def make(rng: random.Random) -> Scene:
    """A scene by chance."""
    background = make_background(rng)
    kind = rng.choices(("one", "several", "two"), (5, 2, 5))[0]
    specs, words = {"one": one, "several": several, "two": two}[kind](rng, background)
    things = tuple(place(rng, *spec) for spec in specs)
    if background != ("plain", UNSAID) or rng.random() < 0.5:
        words = f"{words} {background_words(rng, background)}"
    return Scene(background, things, spoken(rng, words), is_held_out(background, things))


def spoken(rng, words):
    """The same, as people happen to type it."""
    said = " ".join(SYNONYMS.get(word, word) if rng.random() < 0.08 else word for word in words.split())
    said = said[0].upper() + said[1:] if rng.random() < 0.08 else said
    return said + "." if rng.random() < 0.05 else said


def is_held_out(background, things):
    """One in sixteen of what can be drawn, by its shapes, colours and background."""
    key = "|".join([*background, *(f"{thing.colour} {thing.shape}" for thing in things)])
    value = 0
    for byte in key.encode():
        value = (value * 131 + byte) % 1_000_003
    return value % 16 == 0


def make_background(rng):
    kind = rng.choices(("plain", "gradient", "stripes", "landscape"), (5, 2, 2, 3))[0]
    first, second = different(rng, 2)
    return {
        # What goes without saying is shown more often than its share.
        "plain": ("plain", UNSAID if rng.random() < 0.12 else first),
        "gradient": ("gradient", first, second),
        "stripes": ("stripes", first, second),
        "landscape": (rng.choice(tuple(LANDSCAPES)),),
    }[kind]


def background_words(rng, background):
    kind, *colours = background
    if kind == "plain":
        return f"on {with_article(colours[0])} background"
    if kind == "gradient":
        return f"on a gradient from {colours[0]} to {colours[1]}"
    if kind == "stripes":
        return f"on {colours[0]} and {colours[1]} stripes"
    return rng.choice(LANDSCAPE_WORDS[kind])


def colour_on(rng, background, *others):
    """A colour that can be told from the background's."""
    kind, *taken = background
    taken = LANDSCAPES.get(kind, taken)
    free = [c for c in COLOURS if c not in taken and not any(frozenset((c, t)) in ALIKE for t in taken)]
    if kind == "gradient":
        free = [c for c in free if from_mixes(c, *taken) > 90] or free
    free = [c for c in free if c not in others] or free
    return rng.choice(free or [c for c in COLOURS if c not in taken])


def from_mixes(colour, top, bottom):
    """How far a colour is from the nearest one of a gradient's, in sRGB's 255ths."""
    start, end, at = (COLOURS[name] for name in (top, bottom, colour))
    along = [b - a for a, b in zip(start, end)]
    share = sum((p - a) * d for p, a, d in zip(at, start, along)) / sum(d * d for d in along)
    share = min(1, max(0, share))
    return math.dist(at, [a + share * d for a, d in zip(start, along)])


def different(rng, count):
    colours = rng.sample(tuple(COLOURS), count)
    while count == 2 and frozenset(colours) in ALIKE:
        colours = rng.sample(tuple(COLOURS), count)
    return colours


def a_size(rng):
    return rng.choices(("small", "", "large"), (2, 3, 2))[0]


def named(size, colour, shape):
    return with_article(" ".join(word for word in (size, colour, shape) if word))


def with_article(words):
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def one(rng, background):
    shape, colour, size = rng.choice(SHAPES), colour_on(rng, background), a_size(rng)
    words, centre = named(size, colour, shape), (0.5, 0.5)
    if rng.random() < 0.6:
        where, centre = rng.choice(tuple(PLACES.items()))
        words = f"{words} {where}"
    return [(shape, colour, size, centre)], words


def several(rng, background):
    shape, colour, count = rng.choice(SHAPES), colour_on(rng, background), rng.choice((2, 3))
    size = "" if count == 2 else "small"
    spots = {2: (0.3, 0.7), 3: (0.2, 0.5, 0.8)}[count]
    plural = {"cross": "crosses"}.get(shape, f"{shape}s")
    specs = [(shape, colour, size, (x, 0.5)) for x in spots]
    return specs, f"{COUNTS[count]} {colour} {plural}"


def two(rng, background):
    colours = [colour_on(rng, background)]
    colours.append(colour_on(rng, background, *colours))
    shapes = [rng.choice(SHAPES) for _ in colours]
    sizes = [rng.choices(("small", "", "large"), (1, 3, 1))[0] for _ in colours]
    relation, centres = rng.choice(tuple(RELATIONS.items()))
    if relation == "to the left of" and rng.random() < 0.3:
        relation = "and"
    first, second = (named(*words) for words in zip(sizes, colours, shapes))
    specs = list(zip(shapes, colours, sizes, centres))
    return specs, f"{first} {relation} {second}"


def place(rng, shape, colour, size, centre):
    x, y = (value + rng.uniform(-0.008, 0.008) for value in centre)
    radius = SIZES[size] * rng.uniform(0.97, 1.03)
    return Thing(shape, colour, size, x, y, radius)


def corpus(count=4000):
    """Captions that show every word often, and every letter, for tokenizers to learn from."""
    rng = random.Random(0)
    captions = [make(rng).caption for _ in range(count)]
    words = sorted({word.strip(".,").lower() for caption in captions for word in caption.split()})
    # What follows a word must differ for sentencepiece to think of the word as a piece.
    followed = [f"{word}{end}" for word in words for end in (".", ",", "-", "'s")]
    return captions + followed * 3 + list("abcdefghijklmnopqrstuvwxyz0123456789.,;:!?'-") * 5
