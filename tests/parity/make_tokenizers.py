"""Train the two small tokenizers of the golden models from corpus.txt.

CLIP's is written as the published checkpoints hold it, `vocab.json` and
`merges.txt`; T5's as `tokenizer.json` with sentencepiece's nmt_nfkc character
map, since that map decides what becomes of most of Unicode.

    python make_tokenizers.py OUT_DIR     # writes OUT_DIR/clip and OUT_DIR/t5
"""

import collections
import json
import pathlib
import sys
import tempfile

import sentencepiece

from transformers import CLIPTokenizer, T5Tokenizer

CORPUS = pathlib.Path(__file__).with_name("corpus.txt")
CLIP_MERGES = 300
T5_PIECES = 288
ENDS = ("<|startoftext|>", "<|endoftext|>")


def main(out):
    write_clip(out / "clip")
    write_t5(out / "t5")


def write_clip(folder):
    """Byte-level BPE with `</w>` at word ends, ids ordered as OpenAI's vocabulary is."""
    folder.mkdir(parents=True, exist_ok=True)
    merges = learn_merges(clip_words(), CLIP_MERGES)
    letters = byte_letters()
    tokens = letters + [letter + "</w>" for letter in letters] + ["".join(pair) for pair in merges] + list(ENDS)
    vocab = {token: index for index, token in enumerate(tokens)}
    write_json(folder / "vocab.json", vocab)
    lines = ["#version: 0.2"] + [" ".join(pair) for pair in merges]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    # The two small files of the published tokenizer/.
    end = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    special = {
        "bos_token": {"content": ENDS[0], **end},
        "eos_token": {"content": ENDS[1], **end},
        "pad_token": ENDS[1],
        "unk_token": {"content": ENDS[1], **end},
    }
    write_json(folder / "special_tokens_map.json", special)
    config = {
        "add_prefix_space": False,
        "bos_token": ENDS[0],
        "clean_up_tokenization_spaces": True,
        "do_lower_case": True,
        "eos_token": ENDS[1],
        "errors": "replace",
        "model_max_length": 77,
        "pad_token": ENDS[1],
        "tokenizer_class": "CLIPTokenizer",
        "unk_token": ENDS[1],
    }
    write_json(folder / "tokenizer_config.json", config)


def clip_words():
    """The corpus as CLIP splits it, each word as a tuple of its byte letters."""
    pipeline = CLIPTokenizer()._tokenizer
    words = collections.Counter()
    for line in CORPUS.read_text(encoding="utf-8").splitlines():
        normal = pipeline.normalizer.normalize_str(line)
        for word, _ in pipeline.pre_tokenizer.pre_tokenize_str(normal):
            words[tuple(word[:-1]) + (word[-1] + "</w>",)] += 1
    return words


def learn_merges(words, count):
    """The `count` most frequent pairs or fewer, each merged before the next is counted; ties by text."""
    merges = []
    for _ in range(count):
        pairs = collections.Counter()
        for word, times in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += times
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        words = {merged(word, best): times for word, times in words.items()}
    return merges


def merged(word, pair):
    out = []
    for letter in word:
        if out and (out[-1], letter) == pair:
            out[-1] += letter
        else:
            out.append(letter)
    return tuple(out)


def byte_letters():
    """The 256 printable stand-ins of byte-level BPE: printable bytes first, in byte order."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + n) for n in range(len(others))]


def write_t5(folder):
    """A unigram model with T5's special ids, as tokenizer.json."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temp:
        sentencepiece.SentencePieceTrainer.train(
            input=str(CORPUS),
            model_prefix=f"{temp}/spiece",
            model_type="unigram",
            vocab_size=T5_PIECES,
            hard_vocab_limit=False,
            normalization_rule_name="nmt_nfkc",
            character_coverage=1.0,
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            num_threads=1,
            minloglevel=2,
        )
        config = {"model_max_length": 512, "tokenizer_class": "T5Tokenizer"}
        write_json(pathlib.Path(temp, "tokenizer_config.json"), config)
        T5Tokenizer.from_pretrained(temp).save_pretrained(folder)
    path = folder / "tokenizer.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    # As transformers 4 converted the published tokenizer_2/; transformers 5 keeps only
    # the character map of it and splits at white space instead.
    document["normalizer"] = {
        "type": "Sequence",
        "normalizers": [
            document["normalizer"],
            {"type": "Strip", "strip_left": False, "strip_right": True},
            {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"},
        ],
    }
    document["pre_tokenizer"] = document["pre_tokenizer"]["pretokenizers"][1]
    write_json(path, document)


def write_json(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
