"""The work of one image by FLUX.1-schnell: products, attention and convolutions, and how many of each."""

from collections import Counter
from dataclasses import dataclass

TEXT_TOKENS = 256
WIDTH, HEADS, HEAD_WIDTH = 3072, 24, 128
DOUBLE_BLOCKS, SINGLE_BLOCKS = 19, 38
T5_WIDTH, T5_HIDDEN, T5_LAYERS = 4096, 10240, 24
# The transformer's modulation: bf16 weights that every image reads once.
MODULATION_BYTES = 2 * WIDTH * WIDTH * (DOUBLE_BLOCKS * 12 + SINGLE_BLOCKS * 3)


@dataclass(frozen=True)
class Product:
    """x (rows, inputs) by a weight (outputs, inputs)."""

    name: str
    rows: int
    inputs: int
    outputs: int
    # Of the transformer's forward pass, or of the text encoder's.
    count: int
    # What follows it: "bias", "gelu" or "gated residual".
    then: str = "bias"

    @property
    def operations(self):
        return 2 * self.rows * self.inputs * self.outputs


def image_tokens(size):
    """Tokens of an image of (width, height) pixels."""
    width, height = size
    return width // 16 * (height // 16)


def products(size=(1024, 1024), steps=4):
    """The twelve shapes of the transformer's linear layers."""
    image = image_tokens(size)
    joint, hidden = TEXT_TOKENS + image, 4 * WIDTH

    def stream(name, rows):
        return [
            Product(f"{name}.qkv", rows, WIDTH, 3 * WIDTH, DOUBLE_BLOCKS),
            Product(f"{name}.out", rows, WIDTH, WIDTH, DOUBLE_BLOCKS, "gated residual"),
            Product(f"{name}.fc1", rows, WIDTH, hidden, DOUBLE_BLOCKS, "gelu"),
            Product(f"{name}.fc2", rows, hidden, WIDTH, DOUBLE_BLOCKS, "gated residual"),
        ]

    return [
        Product("single.qkv", joint, WIDTH, 3 * WIDTH, SINGLE_BLOCKS),
        Product("single.mlp", joint, WIDTH, hidden, SINGLE_BLOCKS, "gelu"),
        Product("single.out", joint, WIDTH + hidden, WIDTH, SINGLE_BLOCKS, "gated residual"),
        *stream("image", image),
        *stream("text", TEXT_TOKENS),
        # Once an image, for all of its steps.
        Product("modulation", steps, WIDTH, 6 * WIDTH, 0),
    ]


def text_encoder_products():
    """T5's linear layers."""
    return [
        Product("t5.qkv", TEXT_TOKENS, T5_WIDTH, 3 * T5_WIDTH, T5_LAYERS),
        Product("t5.out", TEXT_TOKENS, T5_WIDTH, T5_WIDTH, T5_LAYERS),
        Product("t5.wi", TEXT_TOKENS, T5_WIDTH, 2 * T5_HIDDEN, T5_LAYERS),
        Product("t5.wo", TEXT_TOKENS, T5_HIDDEN, T5_WIDTH, T5_LAYERS),
    ]


def attention(size=(1024, 1024)):
    """(heads, tokens, width of a head), and how many of the transformer's forward pass."""
    return (HEADS, TEXT_TOKENS + image_tokens(size), HEAD_WIDTH), DOUBLE_BLOCKS + SINGLE_BLOCKS


def attention_operations(shape):
    heads, tokens, width = shape
    return 4 * tokens * tokens * heads * width


def convolutions(size=(1024, 1024)):
    """{(height, width, inputs, outputs): count} of the decoder's 3x3 convolutions."""
    width, height = size
    found = Counter()

    def add(scale, inputs, outputs, count=1):
        found[height // 8 * scale, width // 8 * scale, inputs, outputs] += count

    add(1, 16, 512)
    # Two residual blocks in the middle.
    add(1, 512, 512, 4)
    scale, inputs = 1, 512
    for level, outputs in enumerate((512, 512, 256, 128)):
        for block in range(3):
            add(scale, inputs if block == 0 else outputs, outputs)
            add(scale, outputs, outputs)
        if level < 3:
            scale *= 2
            add(scale, outputs, outputs)
        inputs = outputs
    add(scale, 128, 3)
    return dict(found)


def convolution_operations(shape):
    height, width, inputs, outputs = shape
    return 18 * height * width * inputs * outputs


def parse_size(text):
    width, height = (int(side) for side in text.split("x"))
    return width, height
