"""Write tests/fixtures/klein: what diffusers makes of tiny random FLUX.2-klein models.

    python make_klein.py            # rewrite the fixtures
    python make_klein.py --check    # make them again and compare with what is there

The files are described in tests/fixtures/klein/PROVENANCE.md.
"""

import pathlib
import shutil
import sys
import tempfile

import numpy as np
import PIL.ImageOps
import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

import klein_models
import klein_names
from prompts import PROMPTS
from small import begin, compare, write_configs, write_json

FIXTURES = pathlib.Path(__file__).parent.parent / "fixtures" / "klein"
CORPUS = pathlib.Path(__file__).with_name("corpus.txt")
LENGTH = 512
# The text encoder's states are kept at these positions.
ROWS = (0, 1, 2, 3, 7, 16, 31, 64, 127, 256, 400, 511)
# How Qwen2 splits a text.
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
THOUGHTS = ("<think>", "</think>")
# One message of a user as Qwen3's own template writes it, in fewer words.
TEMPLATE = (
    "{%- for message in messages -%}\n"
    "{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}\n"
    "{%- endfor -%}\n"
    "{%- if add_generation_prompt -%}\n"
    "{{ '<|im_start|>assistant\\n' }}\n"
    "{%- if not enable_thinking -%}\n"
    "{{ '<think>\\n\\n</think>\\n\\n' }}\n"
    "{%- endif -%}\n"
    "{%- endif -%}\n"
)


def main():
    check = begin(__doc__)
    if not check and not (FIXTURES / "tokenizer").exists():
        write_tokenizer(FIXTURES / "tokenizer")
    with tempfile.TemporaryDirectory() as temp:
        out = pathlib.Path(temp)
        for tiny, runs in klein_models.GOLDEN:
            print(tiny.name, flush=True)
            write_case(tiny, runs, out / tiny.name)
        if check:
            sys.exit(compare(out, FIXTURES))
        for made in out.iterdir():
            shutil.rmtree(FIXTURES / made.name, ignore_errors=True)
            shutil.move(made, FIXTURES / made.name)


def write_tokenizer(folder):
    """Qwen2's kind of byte-level BPE, trained on the corpus, with the tokens of a chat."""
    folder.mkdir(parents=True)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=560, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train([str(CORPUS)], trainer)
    plain = {"normalized": False, "single_word": False, "lstrip": False, "rstrip": False}
    tokenizer.add_tokens([AddedToken(token, special=True, **plain) for token in SPECIALS])
    tokenizer.add_tokens([AddedToken(token, special=False, **plain) for token in THOUGHTS])
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    write_json(
        folder / "tokenizer_config.json",
        {
            "add_prefix_space": False,
            "added_tokens_decoder": {
                str(tokenizer.token_to_id(token)): {"content": token, "special": token in SPECIALS, **plain}
                for token in SPECIALS + THOUGHTS
            },
            "eos_token": SPECIALS[2],
            "model_max_length": 131072,
            "pad_token": SPECIALS[0],
            "tokenizer_class": "Qwen2Tokenizer",
        },
    )
    (folder / "chat_template.jinja").write_text(TEMPLATE)


def write_case(tiny, runs, folder):
    """The model's configurations and list of tensors, case.json, and golden.safetensors with `RUN/STAGE`."""
    folder.mkdir()
    pipe = tiny.build(FIXTURES / "tokenizer")
    write_configs(pipe, klein_models.FOLDERS, folder / "model")
    if tiny.name == klein_models.SINGLE_FILE:
        lines = klein_names.bfl_recipe_lines(pipe.transformer)
        (folder / "model" / "bfl.txt").write_text("".join(lines))
    tensors, described = {}, []
    for run in runs:
        stages = picture_stages(pipe, run)
        tensors |= {f"{run.name}/{stage}": tensor for stage, tensor in stages.items()}
        described.append(
            {
                "name": run.name,
                "prompt": PROMPTS[run.prompt],
                "width": run.width,
                "height": run.height,
                "steps": run.steps,
                "seed": run.seed,
                "inputs": run.inputs,
                **({"masked": True} if run.masked else {}),
            }
        )
        picture = stages["picture"]
        clipped = (picture.abs() > 1).float().mean().item()
        states = stages["states"].std().item()
        print(f"   {run.name}: std of states {states:.3f}, picture {picture.std():.3f}, clipped {clipped:.3f}", flush=True)
    save_file(tensors, folder / "golden.safetensors")
    write_json(folder / "case.json", {"runs": described, "rows": ROWS})


@torch.no_grad()
def picture_stages(pipe, run):
    """Every stage of one picture; noise, latents.N and inputs are packed, (tokens, 4 * channels)."""
    prompt = PROMPTS[run.prompt]
    text = pipe.tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True, enable_thinking=False
    )
    ids = pipe.tokenizer(text, padding="max_length", truncation=True, max_length=LENGTH).input_ids
    states, _ = pipe.encode_prompt(prompt)
    stages = {"ids": torch.tensor(ids, dtype=torch.int32), "states": states[0][list(ROWS)]}
    channels = pipe.transformer.config.in_channels // 4
    generator = torch.Generator().manual_seed(run.seed)
    noise, _ = pipe.prepare_latents(1, channels, run.height, run.width, torch.float32, "cpu", generator)
    stages["noise"] = noise[0]

    pictures = [klein_models.input_picture(*size) for size in run.inputs]
    if run.masked:
        pipe = klein_models.inpainting(pipe)

    def encode(image, generator):
        # In f64: with a million pixels, torch's f32 sums are 4e-4 away from it.
        pipe.vae.double()
        found = type(pipe)._encode_vae_image(pipe, image.double(), generator)
        pipe.vae.float()
        return found.float()

    def prepare(*arguments, **options):
        found, places = type(pipe).prepare_image_latents(pipe, *arguments, **options)
        stages["inputs"] = found[0]
        return found, places

    def shares(*arguments):
        found = type(pipe).prepare_mask_latents(pipe, *arguments)
        stages["mask"] = found[0]
        return found

    def keep(_pipe, step, _timestep, tensors):
        stages[f"latents.{step + 1}"] = tensors["latents"][0].clone()
        return tensors

    pipe._encode_vae_image, pipe.prepare_image_latents, pipe.prepare_mask_latents = encode, prepare, shares
    latents = generate(pipe, prompt, run, pictures, output_type="latent", callback_on_step_end=keep)
    stages["sigmas"] = pipe.scheduler.sigmas.clone()
    decoded = pipe.vae.decode(latents, return_dict=False)[0]
    picture = np.array(pipe.image_processor.postprocess(decoded, output_type="pil")[0])
    whole = generate(pipe, prompt, run, pictures, output_type="pil")[0]
    if not np.array_equal(picture, np.array(whole)):
        raise SystemExit(f"{run.name}: the stages do not make the pipeline's picture")
    stages["picture"] = decoded[0]
    stages["picture_u8"] = torch.from_numpy(picture)
    return {name: tensor.contiguous() for name, tensor in stages.items()}


def generate(pipe, prompt, run, pictures, **options):
    """The pipeline's own picture, or its latents; of a masked run those of Flux2KleinInpaintPipeline."""
    if run.masked:
        first, *others = pictures
        alpha = klein_models.mask_picture(*first.size).getchannel("A")
        # What it repaints is white. From noise alone, as the other pipeline draws.
        options |= {"mask_image": PIL.ImageOps.invert(alpha), "image_reference": others or None, "strength": 1.0}
        pictures = first
    else:
        options |= {"width": run.width, "height": run.height}
    return pipe(
        prompt=prompt,
        image=pictures or None,
        num_inference_steps=run.steps,
        generator=torch.Generator().manual_seed(run.seed),
        **options,
    ).images


if __name__ == "__main__":
    main()
