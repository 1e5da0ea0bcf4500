"""What the golden files would notice: diffusers with a mistake in it, against itself.

    python sensitivity.py [MODEL ...]       # names from models.GOLDEN; default schnell-1x1

First each deliberate mistake with the relative error it leaves in every stage, then the
tensors that matter least: each is rolled by one along its first axis, and the error of
the stage it belongs to is printed. An error under the tests' tolerance would pass unseen.
"""

import pathlib
import sys

import diffusers
import torch
import transformers
from torch import nn

import models
import record
from prompts import PROMPTS

TOKENIZERS = pathlib.Path(__file__).parent.parent / "fixtures" / "flux" / "tokenizers"
LEAST = 12  # tensors printed


def main():
    torch.set_num_threads(1)
    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
    wanted = sys.argv[1:] or ["schnell-1x1"]
    for tiny, runs in models.GOLDEN:
        if tiny.name in wanted:
            study(tiny, runs[0])


def study(tiny, run):
    def stages(pipe):
        return record.picture_stages(pipe, PROMPTS[run.prompt], run, tiny.text_tokens)

    last = f"latents.{run.steps}"
    right = stages(tiny.build(TOKENIZERS))
    print(tiny.name, run.name)
    for mistake in MISTAKES:
        pipe = tiny.build(TOKENIZERS)
        mistake(pipe)
        wrong = stages(pipe)
        shown = [f"{stage} {error(wrong, right, stage):.1e}" for stage in ("pooled", "t5_states", last, "picture")]
        print(f"  {mistake.__name__:26}", *shown)
    pipe = tiny.build(TOKENIZERS)
    stage_of = {"transformer": last, "text_encoder": "pooled", "text_encoder_2": "t5_states", "vae": "picture"}
    errors = []
    for part, stage in stage_of.items():
        for name, parameter in getattr(pipe, part).named_parameters():
            if part == "vae" and name.startswith("encoder."):
                continue
            kept = parameter.data
            parameter.data = kept.roll(1, 0)
            errors.append((error(stages(pipe), right, stage), f"{part}/{name}"))
            parameter.data = kept
    for size, name in sorted(errors)[:LEAST]:
        print(f"  {size:.1e} {name}")


def error(wrong, right, stage):
    return ((wrong[stage] - right[stage]).norm() / right[stage].norm()).item()


def clip_epsilon(pipe):
    set_on(pipe.text_encoder, nn.LayerNorm, "eps", 1e-6)


def t5_epsilon(pipe):
    for module in pipe.text_encoder_2.modules():
        if hasattr(module, "variance_epsilon"):
            module.variance_epsilon = 1e-5


def layer_norm_epsilon(pipe):
    set_on(pipe.transformer, nn.LayerNorm, "eps", 1e-5)


def qk_norm_epsilon(pipe):
    set_on(pipe.transformer, nn.RMSNorm, "eps", 1e-5)


def group_norm_epsilon(pipe):
    set_on(pipe.vae, nn.GroupNorm, "eps", 1e-5)


def exact_gelu_in_transformer(pipe):
    for module in pipe.transformer.modules():
        if hasattr(module, "approximate"):
            module.approximate = "none"


def exact_gelu_in_t5(pipe):
    for module in pipe.text_encoder_2.modules():
        if hasattr(module, "act"):
            module.act = nn.GELU()


def exact_gelu_in_clip(pipe):
    for module in pipe.text_encoder.modules():
        if hasattr(module, "activation_fn"):
            module.activation_fn = nn.GELU()


def bf16_rope(pipe):
    true = pipe.transformer.pos_embed.forward
    pipe.transformer.pos_embed.forward = lambda ids: tuple(part.bfloat16().float() for part in true(ids))


def rope_rows_for_columns(pipe):
    true = pipe.transformer.pos_embed.forward
    pipe.transformer.pos_embed.forward = lambda ids: true(ids[:, [0, 2, 1]])


def t5_distance(pipe):
    for module in pipe.text_encoder_2.modules():
        if hasattr(module, "relative_attention_max_distance"):
            module.relative_attention_max_distance = 64


def no_vae_shift(pipe):
    pipe.vae.register_to_config(shift_factor=0.0)


def set_on(model, kind, name, value):
    for module in model.modules():
        if isinstance(module, kind):
            setattr(module, name, value)


MISTAKES = (
    clip_epsilon,
    t5_epsilon,
    layer_norm_epsilon,
    qk_norm_epsilon,
    group_norm_epsilon,
    exact_gelu_in_transformer,
    exact_gelu_in_t5,
    exact_gelu_in_clip,
    bf16_rope,
    rope_rows_for_columns,
    t5_distance,
    no_vae_shift,
)


if __name__ == "__main__":
    main()
