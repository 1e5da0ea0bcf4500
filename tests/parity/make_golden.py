"""Write tests/fixtures/flux: what diffusers makes of tiny random FLUX models.

    python make_golden.py            # rewrite the fixtures
    python make_golden.py --check    # make them again and compare with what is there

The files are described in tests/fixtures/flux/PROVENANCE.md.
"""

import pathlib
import shutil
import sys
import tempfile

import numpy as np
import torch
from diffusers import FluxPipeline
from safetensors.torch import save_file

import bfl
import models
import record
import weights
from noise import noise_table
from prompts import PROMPTS
from small import begin, compare, write_configs, write_json

FIXTURES = pathlib.Path(__file__).parent.parent / "fixtures" / "flux"
TOKENIZERS = FIXTURES / "tokenizers"
# Of the text-only prompts, T5's states are kept at these positions.
T5_ROWS = (0, 1, 2, 3, 7, 16, 31, 64, 127, 200, 254, 255)
# Of these models it is also said how their weights make BFL's single files.
SINGLE_FILES = ("schnell-1x1", "dev-1x2")


def main():
    check = begin(__doc__)
    with tempfile.TemporaryDirectory() as temp:
        out = pathlib.Path(temp)
        write_all(out)
        if check:
            sys.exit(compare(out, FIXTURES))
        for made in out.iterdir():
            place = FIXTURES / made.name
            shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
            shutil.move(made, place)


def write_all(out):
    write_json(out / "noise.json", noise_table())
    write_json(out / "weights.json", weight_samples())
    for tiny, runs in models.GOLDEN:
        print(tiny.name, flush=True)
        folder = out / tiny.name
        folder.mkdir()
        pipe = tiny.build(TOKENIZERS)
        if tiny.name == "whole":
            pipe.to(torch.bfloat16).save_pretrained(folder / "model", max_shard_size="60KB")
            pipe = FluxPipeline.from_pretrained(folder / "model", dtype=torch.float32)
            pipe.set_progress_bar_config(disable=True)
        else:
            write_configs(pipe, models.FOLDERS, folder / "model")
        if tiny.name in SINGLE_FILES:
            lines = bfl.recipe_lines(pipe.transformer.config, pipe.vae.config)
            (folder / "model" / "bfl.txt").write_text("".join(lines))
        write_runs(pipe, tiny, runs, folder)
        if tiny.name == "schnell-1x1":
            write_texts(pipe, tiny, out / "texts")


def write_runs(pipe, tiny, runs, folder):
    """case.json, and golden.safetensors with `RUN/STAGE` for every stage of every run."""
    tensors = {}
    described = []
    for run in runs:
        stages = record.picture_stages(pipe, PROMPTS[run.prompt], run, tiny.text_tokens)
        tensors |= {f"{run.name}/{stage}": tensor for stage, tensor in stages.items()}
        described.append(
            {
                "name": run.name,
                "prompt": PROMPTS[run.prompt],
                "width": run.width,
                "height": run.height,
                "steps": run.steps,
                "seed": run.seed,
                "guidance": run.guidance if tiny.guided else None,
                "text_tokens": tiny.text_tokens,
                **lengths(pipe, PROMPTS[run.prompt]),
            }
        )
        print("  ", run.name, summary(stages), flush=True)
    save_file(tensors, folder / "golden.safetensors")
    write_json(folder / "case.json", {"runs": described})


def write_texts(pipe, tiny, folder):
    """Prompts without pictures, on the same model: ids in texts.json, a few states beside it."""
    folder.mkdir()
    tensors = {"t5_rows": torch.tensor(T5_ROWS, dtype=torch.int32)}
    described = []
    for name, prompt in PROMPTS.items():
        stages = record.text_stages(pipe, prompt, tiny.text_tokens)
        tensors[f"{name}/pooled"] = stages["pooled"].contiguous()
        tensors[f"{name}/t5_states"] = stages["t5_states"][list(T5_ROWS)].contiguous()
        described.append(
            {
                "name": name,
                "prompt": prompt,
                "clip_ids": cut(pipe.tokenizer, prompt, pipe.tokenizer_max_length),
                "t5_ids": cut(pipe.tokenizer_2, prompt, tiny.text_tokens),
                **lengths(pipe, prompt),
            }
        )
    save_file(tensors, folder / "golden.safetensors")
    note = {"model": tiny.name, "text_tokens": tiny.text_tokens, "prompts": described}
    write_json(folder / "texts.json", note)


def cut(tokenizer, prompt, limit):
    """The ids with their ends, cut at the limit, without padding."""
    return tokenizer(prompt, truncation=True, max_length=limit).input_ids


def lengths(pipe, prompt):
    """How long each tokenizer's output is with its ends, uncut; longer than the limit means cut."""
    return {
        "clip_length": len(pipe.tokenizer(prompt).input_ids),
        "t5_length": len(pipe.tokenizer_2(prompt).input_ids),
    }


def weight_samples():
    """Values of the rule for whoever writes it again: first, second and last of some tensors, and FNV-1a."""
    samples = []
    for name, shape in (
        ("transformer/x_embedder.weight", (32, 64)),
        ("transformer/x_embedder.bias", (32,)),
        ("transformer/transformer_blocks.0.attn.norm_q.weight", (16,)),
        ("text_encoder/text_model.embeddings.token_embedding.weight", (814, 32)),
        ("text_encoder_2/encoder.block.0.layer.0.SelfAttention.q.weight", (32, 32)),
        ("text_encoder_2/encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", (32, 4)),
        ("vae/decoder.conv_in.weight", (32, 16, 3, 3)),
        ("vae/decoder.conv_out.weight", (3, 16, 3, 3)),
    ):
        values = weights.values_for(name, shape).reshape(-1)
        bits = [int(value) for value in values[[0, 1, -1]].view(np.uint32)]
        centre, spread = weights.centre_and_spread(name, shape)
        samples.append(
            {
                "name": name,
                "shape": shape,
                "fnv1a64": f"{weights.fnv1a64(name):016x}",
                "spread_bits": int(np.float32(spread).view(np.uint32)),
                "first_second_last_bits": bits,
                "sum": float(values.astype(np.float64).sum()),
            }
        )
    return samples


def summary(stages):
    picture = stages["picture"]
    clipped = (picture.abs() > 1).float().mean().item()
    spread = {name: round(stages[name].std().item(), 3) for name in ("pooled", "t5_states", "picture")}
    last = max((name for name in stages if name.startswith("latents.")), key=lambda name: int(name.split(".")[1]))
    return f"std {spread} latents {stages[last].std().item():.3f} clipped {clipped:.3f}"


if __name__ == "__main__":
    main()
