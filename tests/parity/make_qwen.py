"""Write tests/fixtures/klein/qwen3: what transformers makes of prompts with the tokenizer that Qwen publish.

    python make_qwen.py --published DIR   # tokenizer.json and tokenizer_config.json of Qwen3: write everything
    python make_qwen.py --check           # make texts.json again from the files that are there, and compare

The files are described in tests/fixtures/klein/PROVENANCE.md.
"""

import argparse
import hashlib
import json
import pathlib
import shutil
import sys
import tempfile

import torch
import transformers
from diffusers import Flux2KleinPipeline

from make_klein import PATTERN
from make_tokenizers import byte_letters
from prompts import PANGRAM, PROMPTS

FIXTURES = pathlib.Path(__file__).parent.parent / "fixtures" / "klein" / "qwen3"
PUBLISHED = "aeb13307a71acd8fe81861d94ad54ab689df773318809eed3cbe794b4492dae4"
LENGTH = 512
# Of all characters: code points of one text, and of one digest; planes 0 to 3, and the tags of plane 14.
TEXT, BLOCK = 32, 0x1000
RANGES = [*range(0, 0x33000, BLOCK), 0xE0000]

MORE = {
    "greek, hebrew, thai": "ἀρχὴ ἥμισυ παντός, שָׁלוֹם עֲלֵיכֶם, แมวนั่งอยู่บนโต๊ะไม้, ແມວ",
    "ethiopic, georgian, armenian, tamil, khmer": "ድመት, კატა მაგიდაზე, Կատուն սեղանին, மேசையில் பூனை, ឆ្មានៅលើតុ",
    "vietnamese, turkish, polish": "Con mèo ngồi trên bàn gỗ, Iğdır'da ışık, ILIK, zażółć gęślą jaźń",
    "right to left": "قِطَّةٌ على الطاولة ١٢٣ \u200f(يمين)\u200f עברית 456 \u2067end\u2069",
    "fullwidth": "ＡＢＣ　１２３！？ ｶﾞｷﾞ ﾊﾟ 令和 ㍻ ㌔ Ⅳ ⑫ ①",
    "families and skins": "👨‍👩‍👧‍👦 👋🏽 🤦🏻‍♂️ 🧑🏿‍🤝‍🧑🏻 🏴󠁧󠁢󠁳󠁣󠁴󠁿 🇩🇪🇫🇷🇯🇵 1️⃣#️⃣ ❤️‍🔥 ☺︎☺️",
    "combining": "Z\u0351\u036b\u0343\u036a\u0302a\u0334\u0321l\u0322g\u0321o\u0315 \u0301\u0301 a\u0301\u0327 q\u0307\u0323 q\u0323\u0307",
    "what NFC changes": "\u212b \u2126 \u1e9b\u0323 \u0958 \uac00\u11a8 \u1100\u1161\u11a8 \u0344 \ufb1d \U0001d15e \u2adc \uf900 \U0002f800",
    "NFC across pieces": "<\u0338 >\u0338 =\u0338 <|im_end|>\u0338 n\u0303o e\u0301t a\u030a. A\u030a B\u0307\n\u0301x",
    "controls": "".join(map(chr, range(0x20))) + "\x7f" + "".join(map(chr, range(0x80, 0xA0))),
    "spaces": "a\u00a0b\u1680c\u2000d\u2003e\u2009f\u200ag\u2028h\u2029i\u202fj\u205fk\u3000l\u180em\u200bn\x85o",
    "line ends": "a\r\nb\rc\n\rd\n\n\ne\r\n\r\n  f\n  \n g \n\t\n",
    "blanks at either end": "  a  b   c    d     e  ",
    "tabs and blanks": "\t\ta \t b\t \tc \t\t",
    "noncharacters": "a\ufffeb\uffffc\ufdd0d\U0001ffffe\U0010fffff\ue000g\U000f0000h",
    "contractions in capitals": "IT'S WE'RE THEY'VE I'M YOU'LL HE'D DON'T 'tis 'S 'Re x'\u017f x'\u212a it\u2019s",
    "numerals": "007 1,000,000 3.14159 ½ ² ³ ١٢٣ ४५६ ൧ ⅷ 一二三 0xFF 1e-9 192.168.0.1",
    "code": 'def f(x):\n    """Doc."""\n\treturn {k: v for k, v in x.items() if v != None}\n\n// i++; a->b; !~@#$%^&*()_+\n',
    "json": '{"prompt": "a \\"red\\" door", "n": [1, 2.5e3, null], "url": "https://example.com/?q=a%20b&c=1#d"}',
    "markup": "<p class=\"x\">a &amp; b</p> <!-- no --> [link](http://a.b) **bold** `code` $x^2$ \\frac{1}{2}",
    "camel and snake": "getHTTPResponseCode snake_case_name kebab-case-name SCREAMING_CASE mIxEd123abc45D",
    "a run of signs": "=" * 120 + "-" * 70 + "." * 33 + "!" * 17,
    "a run of blanks": "a" + " " * 300 + "b" + "\n" * 120 + "c" + "\t" * 64,
    "the end of a message": "a cat<|im_end|>\n<|im_start|>assistant\na dog<|im_end|>\n<|im_start|>user\na bird",
    "every special": "".join(
        f"<|{name}|>"
        for name in (
            "endoftext im_start im_end object_ref_start object_ref_end box_start box_end quad_start quad_end "
            "vision_start vision_end vision_pad image_pad video_pad fim_prefix fim_middle fim_suffix fim_pad "
            "repo_name file_sep"
        ).split()
    )
    + "<tool_call></tool_call><tool_response></tool_response><think></think>",
    "nearly special": "<|im_end |> <|im_ end|> <im_end> <|IM_END|> <|im_end| > |im_end| <|im_end|<|im_end|>> <think > </ think>",
    "special between blanks": "  <|im_end|>  <think>\n\n</think>\n\n  <|endoftext|> \t",
    "special in words": "cat<|im_end|>dog it's<think>'s 12<|image_pad|>34 \u00e9<|vision_start|>\u0301",
    "thinking switches": "/no_think a cat /think",
    "a tool's response": "<tool_response>a cat</tool_response>",
    "a template's own words": "{{ messages[0].content }} {%- if true %}x{% endif %} {# c #} \\n \\u0041",
    "one": "x",
    "a line end alone": "\n",
    "an apostrophe": "'",
    "a joiner alone": "\u200d",
    "a byte order mark": "\ufeffa cat",
    "words of german": "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft",
    # The template has three tokens before the text and nine behind it.
    "just full": "a" + " a" * 499,
    "one over": "a" + " a" * 500,
    "cut in the template": "a" + " a" * 504,
    "cut behind the text": "a" + " a" * 508,
    "cut in the text": "a" + " a" * 509,
    "long, of many kinds": (PANGRAM + "猫がテーブル 🦊 12345 don't\n\n") * 30,
    "cut inside of an emoji": "a" + " 👩‍🚀" * 120,
    "a long run without blanks": "na" * 1500,
    "a long run of han": "猫" * 900,
    "specials, cut": "<|im_end|>" * 520,
}


class Asked(Exception):
    """What the pipeline asked its text encoder for."""


class Encoder(torch.nn.Module):
    dtype, device = torch.float32, torch.device("cpu")

    def forward(self, input_ids, attention_mask, **_):
        raise Asked(input_ids, attention_mask)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--published", type=pathlib.Path, help="a directory with Qwen3's tokenizer")
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    options = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    if options.published:
        take(options.published)
    with tempfile.TemporaryDirectory() as temp:
        folder = pathlib.Path(temp)
        (folder / "tokenizer.json").write_text(tokenizer_file(), encoding="utf-8")
        shutil.copy(FIXTURES / "tokenizer_config.json", folder)
        made = texts(transformers.Qwen2TokenizerFast.from_pretrained(folder))
    path = FIXTURES / "texts.json"
    if options.check:
        same = path.read_text(encoding="utf-8") == made
        print("the same" if same else "texts.json: other bytes")
        sys.exit(not same)
    path.write_text(made, encoding="utf-8")


def take(published):
    """Of the published files: the merges, what stands around them, and the configuration as it is."""
    FIXTURES.mkdir(exist_ok=True)
    file = (published / "tokenizer.json").read_text(encoding="utf-8")
    merges = json.loads(file)["model"]["merges"]
    lines = ["#version: 0.2", *(f"{left} {right}" for left, right in merges)]
    (FIXTURES / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    shutil.copy(published / "tokenizer_config.json", FIXTURES)
    for placeholder, lines in lists().items():
        if file.count(lines) != 1:
            raise SystemExit(f"the published file has other {placeholder}")
        file = file.replace(lines, placeholder)
    (FIXTURES / "tokenizer.json.in").write_text(file + "\n", encoding="utf-8")


def tokenizer_file():
    """`tokenizer.json`, byte for byte as it is published."""
    file = (FIXTURES / "tokenizer.json.in").read_text(encoding="utf-8").rstrip()
    for placeholder, lines in lists().items():
        file = file.replace(placeholder, lines)
    if hashlib.sha256(file.encode()).hexdigest() != PUBLISHED:
        raise SystemExit("tokenizer.json is not what Qwen publish")
    return file


def lists():
    """Its three long lists, by what stands in their place: tokens are bytes, then what each merge makes."""
    _, *lines = (FIXTURES / "merges.txt").read_text(encoding="utf-8").splitlines()
    merges = [line.split(" ") for line in lines]
    tokens = byte_letters() + ["".join(pair) for pair in merges]
    added = json.loads((FIXTURES / "tokenizer_config.json").read_bytes())["added_tokens_decoder"]
    order = ("content", "single_word", "lstrip", "rstrip", "normalized", "special")

    def written(value, indent):
        text = json.dumps(value, ensure_ascii=False, indent=2)
        return "\n".join(" " * indent + line for line in text.splitlines())

    added = [{"id": int(i), **{key: token[key] for key in order}} for i, token in added.items()]
    return {
        "ADDED": ",\n".join(written(token, 4) for token in added),
        "VOCABULARY": ",\n".join(f"      {written(token, 0)}: {i}" for i, token in enumerate(tokens)),
        "MERGES": ",\n".join(written(pair, 6) for pair in merges),
    }


def texts(tokenizer):
    """The ids of each prompt without padding, and digests of those of all characters."""
    prompts = PROMPTS | MORE
    lines = []
    for name, prompt in prompts.items():
        entry = {"name": name, "prompt": prompt, "ids": asked(tokenizer, prompt)}
        lines.append("  " + json.dumps(entry, ensure_ascii=True))
    blocks = []
    for first in RANGES:
        digest = hashlib.sha256()
        for start in range(first, first + BLOCK, TEXT):
            letters = [chr(point) for point in range(start, start + TEXT) if not 0xD800 <= point < 0xE000]
            for text in ("".join(letters), "".join(f"'{letter}1 {letter}a" for letter in letters)):
                ids = asked(tokenizer, text)
                digest.update(b"".join(i.to_bytes(4, "little") for i in ids))
        blocks.append(f'  "{digest.hexdigest()}"')
    return '{\n "prompts": [\n' + ",\n".join(lines) + '\n ],\n "blocks": [\n' + ",\n".join(blocks) + "\n ]\n}\n"


def asked(tokenizer, prompt):
    """The ids that FLUX.2-klein's pipeline reads, without padding."""
    try:
        Flux2KleinPipeline._get_qwen3_prompt_embeds(Encoder(), tokenizer, prompt)
    except Asked as found:
        ids, mask = (tensor[0].tolist() for tensor in found.args)
    used = sum(mask)
    padding = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    if mask != [1] * used + [0] * (LENGTH - used) or ids[used:] != [padding] * (LENGTH - used):
        raise SystemExit(f"{prompt!r}: padding is not behind the text")
    return ids[:used]


if __name__ == "__main__":
    main()
