"""Write tests/fixtures/lora: what diffusers makes of tiny random models with LoRAs merged into them.

    python make_lora.py            # rewrite the fixtures
    python make_lora.py --check    # make them again and compare with what is there

The files are described in tests/fixtures/lora/PROVENANCE.md.
"""

import inspect
import pathlib
import shutil
import sys
import tempfile

import torch
from diffusers.loaders import lora_conversion_utils, lora_pipeline
from safetensors.torch import save_file

import klein_models
import klein_names
import make_klein
import models
import record
import weights
from prompts import PROMPTS
from small import begin, compare, write_json

FIXTURES = pathlib.Path(__file__).parent.parent / "fixtures"
OUT = FIXTURES / "lora"
# A LoRA changes what the text encoders make of a prompt as little as the noise.
STAGES = ("latents.", "picture")

# diffusers' names of layers, and Black Forest Labs' for the same: of FLUX.1 …
OUTER = {
    "x_embedder": "img_in",
    "context_embedder": "txt_in",
    "time_text_embed.timestep_embedder.linear_1": "time_in.in_layer",
    "time_text_embed.text_embedder.linear_2": "vector_in.out_layer",
    "time_text_embed.guidance_embedder.linear_1": "guidance_in.in_layer",
    "norm_out.linear": "final_layer.adaLN_modulation.1",
    "proj_out": "final_layer.linear",
}
DOUBLE = {
    "norm1.linear": "img_mod.lin",
    "norm1_context.linear": "txt_mod.lin",
    "attn.to_q,attn.to_k,attn.to_v": "img_attn.qkv",
    "attn.add_q_proj,attn.add_k_proj,attn.add_v_proj": "txt_attn.qkv",
    "attn.to_out.0": "img_attn.proj",
    "attn.to_add_out": "txt_attn.proj",
    "ff.net.0.proj": "img_mlp.0",
    "ff.net.2": "img_mlp.2",
    "ff_context.net.0.proj": "txt_mlp.0",
    "ff_context.net.2": "txt_mlp.2",
}
SINGLE = {
    "norm.linear": "modulation.lin",
    "attn.to_q,attn.to_k,attn.to_v,proj_mlp": "linear1",
    "proj_out": "linear2",
}
# … and of FLUX.2-klein, whose outer layers `klein_names` has.
KLEIN_DOUBLE = {
    "attn.to_q,attn.to_k,attn.to_v": "img_attn.qkv",
    "attn.add_q_proj,attn.add_k_proj,attn.add_v_proj": "txt_attn.qkv",
    "attn.to_out.0": "img_attn.proj",
    "attn.to_add_out": "txt_attn.proj",
    "ff.linear_in": "img_mlp.0",
    "ff.linear_out": "img_mlp.2",
    "ff_context.linear_in": "txt_mlp.0",
    "ff_context.linear_out": "txt_mlp.2",
}
KLEIN_SINGLE = {"attn.to_qkv_mlp_proj": "linear1", "attn.to_out": "linear2"}
# Of the layers outside of blocks, what diffusers' conversion of Kohya's names knows: of FLUX.1, it loses their prefix,
# and with it the layers. Nor does it swap the halves of klein's last modulation in ComfyUI's form.
KLEIN_KOHYA_OUTER = ("x_embedder", "context_embedder", "time_guidance_embed.timestep_embedder.linear_1", "proj_out")


def main():
    check = begin(__doc__)
    with tempfile.TemporaryDirectory() as temp:
        out = pathlib.Path(temp)
        write_flux1(out / "dev-1x2")
        write_klein(out / "klein-2x3")
        if check:
            sys.exit(compare(out, OUT))
        for made in out.iterdir():
            shutil.rmtree(OUT / made.name, ignore_errors=True)
            shutil.move(made, OUT / made.name)


def convert_for_width(width):
    """diffusers' conversion of Kohya's names for FLUX.1 cuts `linear1` by the published widths, which are written
    into it; the same function with those of a tiny model takes its place."""
    published = "[3072, 3072, 3072, 12288]"
    source = inspect.getsource(lora_conversion_utils._convert_kohya_flux_lora_to_diffusers)
    if published not in source:
        raise SystemExit("another release of diffusers converts otherwise")
    exec(source.replace(published, str([width, width, width, 4 * width])), vars(lora_conversion_utils))  # noqa: S102
    lora_pipeline._convert_kohya_flux_lora_to_diffusers = lora_conversion_utils._convert_kohya_flux_lora_to_diffusers


def write_flux1(folder):
    tiny = next(tiny for tiny, _ in models.GOLDEN if tiny.name == "dev-1x2")
    convert_for_width(tiny.heads * sum(tiny.axes))
    shapes = linear_shapes(tiny.build(FIXTURES / "flux" / "tokenizers").transformer)
    layers = list(layers_of((OUTER, DOUBLE, SINGLE), (tiny.double_blocks, tiny.single_blocks)))
    blocks = [layer for layer in layers if "blocks" in layer[1]]
    files = {
        "diffusers": diffusers_form(layers, shapes),
        "kohya": kohya_form(blocks, shapes),
        "kohya_outer": kohya_form([layer for layer in layers if layer not in blocks], shapes),
        "comfy": publisher_form(blocks, shapes),
    }
    runs = (
        (models.Run("accents", 64, 80, 4, 11), (("diffusers", 0.8),)),
        (models.Run("plain", 64, 64, 4, 12), (("kohya", 1.25),)),
        (models.Run("emoji", 48, 64, 2, 13), (("kohya", 0.5), ("diffusers", -0.4))),
    )

    def stages(pipe, run):
        return record.picture_stages(pipe, PROMPTS[run.prompt], run, tiny.text_tokens)

    write_case(folder, files, runs, lambda: tiny.build(FIXTURES / "flux" / "tokenizers"), stages)


def write_klein(folder):
    tiny = next(tiny for tiny, _ in klein_models.GOLDEN if tiny.name == "klein-2x3")
    shapes = linear_shapes(tiny.build(FIXTURES / "klein" / "tokenizer").transformer)
    layers = list(layers_of((klein_names.OUTER, KLEIN_DOUBLE, KLEIN_SINGLE), (tiny.double_blocks, tiny.single_blocks)))
    kohya = [layer for layer in layers if "blocks" in layer[1] or layer[0][0] in KLEIN_KOHYA_OUTER]
    files = {
        "diffusers": diffusers_form(layers, shapes),
        "kohya": kohya_form(kohya, shapes),
        "kohya_outer": kohya_form([layer for layer in layers if layer not in kohya], shapes),
        "comfy": publisher_form([layer for layer in layers if layer[0] != ["norm_out.linear"]], shapes),
    }
    runs = (
        (klein_models.Run("plain", 48, 64, 4, 21), (("diffusers", 0.6),)),
        (klein_models.Run("cjk", 64, 48, 2, 22, inputs=((64, 77),)), (("kohya", 1.0),)),
        (klein_models.Run("empty", 48, 48, 2, 23), (("comfy", -0.75), ("kohya", 0.3))),
    )
    write_case(folder, files, runs, lambda: tiny.build(FIXTURES / "klein" / "tokenizer"), make_klein.picture_stages)


def linear_shapes(transformer):
    """(out, in) of every layer."""
    linear = (module for module in transformer.named_modules() if isinstance(module[1], torch.nn.Linear))
    return {name: tuple(module.weight.shape) for name, module in linear}


def layers_of(names, counts):
    """diffusers' names of a layer's parts, and the publisher's of the whole."""
    outer, double, single = names
    for ours, theirs in outer.items():
        yield [ours], theirs
    for (ours_at, theirs_at), inner, count in (
        (("transformer_blocks", "double_blocks"), double, counts[0]),
        (("single_transformer_blocks", "single_blocks"), single, counts[1]),
    ):
        for number in range(count):
            for ours, theirs in inner.items():
                yield [f"{ours_at}.{number}.{part}" for part in ours.split(",")], f"{theirs_at}.{number}.{theirs}"


def diffusers_form(layers, shapes):
    """As peft saves it: a rank of its own for each layer, and no alpha, which then is the rank."""
    tensors = {}
    for number, part in enumerate(part for parts, _ in layers for part in parts):
        rank, (rows, columns) = 1 + number % 4, shapes[part]
        tensors[f"transformer.{part}.lora_A.weight"] = (rank, columns)
        tensors[f"transformer.{part}.lora_B.weight"] = (rows, rank)
    return tensors, {}


def kohya_form(layers, shapes):
    """One pair for all parts of a layer, alpha beside it."""
    return joined_form(layers, shapes, lambda name: f"lora_unet_{name.replace('.', '_')}", ("lora_down", "lora_up"))


def publisher_form(layers, shapes):
    """As ComfyUI and its trainers save it, without alphas."""
    tensors, _ = joined_form(layers, shapes, lambda name: f"diffusion_model.{name}", ("lora_A", "lora_B"))
    return tensors, {}


def joined_form(layers, shapes, key, kinds):
    tensors, alphas = {}, {}
    for number, (parts, name) in enumerate(layers):
        rank, columns = 2 + number % 3, shapes[parts[0]][1]
        tensors[f"{key(name)}.{kinds[0]}.weight"] = (rank, columns)
        tensors[f"{key(name)}.{kinds[1]}.weight"] = (sum(shapes[part][0] for part in parts), rank)
        alphas[f"{key(name)}.alpha"] = (0.5, 1.0, 3.0, 4.0)[number % 4]
    return tensors, alphas


def values(tensors, alphas):
    """A file's tensors: by the rule of the weights, of the folder `lora`."""
    made = {name: torch.from_numpy(weights.values_for(f"lora/{name}", shape)) for name, shape in tensors.items()}
    return made | {name: torch.tensor(alpha) for name, alpha in alphas.items()}


def write_case(folder, files, runs, build, stages_of):
    """FILE.txt for each LoRA, case.json, and golden.safetensors with `RUN/STAGE`."""
    folder.mkdir()
    for name, (tensors, alphas) in files.items():
        lines = [f"{tensor} {','.join(map(str, shape))}\n" for tensor, shape in tensors.items()]
        lines += [f"{tensor} = {alpha}\n" for tensor, alpha in alphas.items()]
        (folder / f"{name}.txt").write_text("".join(sorted(lines)))
    golden, described = {}, []
    for run, loras in runs:
        pipe = build()
        plain = stages_of(build(), run)["picture"]
        with tempfile.TemporaryDirectory() as temp:
            for name, weight in loras:
                path = pathlib.Path(temp) / f"{name}.safetensors"
                save_file(values(*files[name]), path)
                pipe.load_lora_weights(temp, weight_name=path.name, adapter_name=name)
                pipe.fuse_lora(components=["transformer"], lora_scale=weight, adapter_names=[name])
                pipe.unload_lora_weights()
        stages = stages_of(pipe, run)
        golden |= {f"{run.name}/{stage}": tensor for stage, tensor in stages.items() if stage.startswith(STAGES)}
        described.append(
            {
                "name": run.name,
                "prompt": PROMPTS[run.prompt],
                "width": run.width,
                "height": run.height,
                "steps": run.steps,
                "seed": run.seed,
                "guidance": getattr(run, "guidance", None),
                "inputs": getattr(run, "inputs", ()),
                "loras": [{"file": name, "weight": weight} for name, weight in loras],
            }
        )
        picture = stages["picture"]
        moved = (picture - plain).norm() / plain.norm()
        clipped = (picture.abs() > 1).float().mean().item()
        print(f"   {run.name}: std {picture.std():.3f}, clipped {clipped:.3f}, moved by {moved:.3f}", flush=True)
    save_file(golden, folder / "golden.safetensors")
    write_json(folder / "case.json", {"runs": described})


if __name__ == "__main__":
    main()
