"""What the tiny models of every family have in common: how they are put together, described and compared."""

import argparse
import json
import pathlib
import shutil
import tempfile

import diffusers
import torch
import transformers
from safetensors.torch import load_file

import weights

# Of --check: another machine's libraries round differently.
TOLERANCE = 1e-5
# 8-bit values that may be one off: where a value lies on the edge between two.
ONE_OFF = 1e-3


def begin(about):
    """What every script that makes golden files begins with. Whether it is to compare, and to write nothing."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    check = parser.parse_args().check
    torch.set_num_threads(1)  # one order of summation
    for library in (diffusers, transformers):  # they print every cut prompt at length
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
    return check


def assemble(pipeline, parts, **others):
    """A pipeline in f32 on the CPU: `parts` by folder, with weights made by the rule of `weights`."""
    for folder, module in parts.items():
        weights.fill(folder, module.eval())
    pipe = pipeline(**others, **parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def levels(channels):
    """What an autoencoder's configuration says of so many resolutions."""
    return {
        "block_out_channels": channels,
        "down_block_types": ("DownEncoderBlock2D",) * len(channels),
        "up_block_types": ("UpDecoderBlock2D",) * len(channels),
    }


def write_configs(pipe, folders, out):
    """What save_pretrained writes, less weights and tokenizers; and the list of the weights."""
    with tempfile.TemporaryDirectory() as temp:
        pipe.save_pretrained(temp)
        for path in sorted(pathlib.Path(temp).rglob("*.json")):
            part = path.relative_to(temp)
            if part.parts[0].startswith("tokenizer") or (part.name.endswith("index.json") and len(part.parts) > 1):
                continue
            (out / part).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, out / part)
    lines = []
    for folder in folders:
        module = getattr(pipe, folder)
        for name, parameter in (*module.named_parameters(), *weights.statistics(module)):
            shape = ",".join(map(str, parameter.shape))
            lines.append(f"{weights.published_name(folder, name)} {shape}\n")
    (out / "tensors.txt").write_text("".join(sorted(lines)))


def compare(made, fixtures):
    """Prints every golden tensor, and every other file, that differs; the number of them."""
    wrong = 0
    for path in sorted(path for path in made.rglob("*") if path.is_file()):
        part = path.relative_to(made)
        if not (fixtures / part).is_file():
            print(f"{part}: is missing")
            wrong += 1
            continue
        if path.name != "golden.safetensors":
            if path.read_bytes() != (fixtures / part).read_bytes():
                print(f"{part}: other bytes")
                wrong += 1
            continue
        ours, theirs = load_file(path), load_file(fixtures / part)
        for name in sorted(ours.keys() | theirs.keys()):
            found = difference(ours.get(name), theirs.get(name))
            if found:
                print(f"{part}: {name}: {found}")
                wrong += 1
    print("differ:", wrong)
    return wrong


def difference(ours, theirs):
    """In which way they differ by more than another machine's rounding; nothing where they do not."""
    if ours is None or theirs is None or ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        return "one is missing, or has another form"
    if ours.dtype == torch.uint8:
        off = (ours.int() - theirs.int()).abs()
        share = (off > 0).float().mean().item()
        return f"{share:.2e} of the values, up to {off.max().item()}" if off.max() > 1 or share > ONE_OFF else None
    ours, theirs = ours.double(), theirs.double()
    norm = theirs.norm().item()
    error = (ours - theirs).norm().item() / (norm or 1.0)
    # Not a number is no small error.
    return None if error <= TOLERANCE else f"{error:.2e}"


def write_json(path, value):
    path.write_text(json.dumps(value, ensure_ascii=True, indent=1) + "\n", encoding="utf-8")
