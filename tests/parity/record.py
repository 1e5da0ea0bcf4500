"""What diffusers makes of a prompt, stage by stage."""

import numpy as np
import torch


@torch.no_grad()
def text_stages(pipe, prompt, text_tokens):
    """Both encoders' inputs and outputs: ids (77,) and (n,), pooled (d,), states (n, d)."""
    clip = pipe.tokenizer(prompt, padding="max_length", max_length=pipe.tokenizer_max_length, truncation=True)
    t5 = pipe.tokenizer_2(prompt, padding="max_length", max_length=text_tokens, truncation=True)
    states, pooled, _ = pipe.encode_prompt(prompt, max_sequence_length=text_tokens)
    return {
        "clip_ids": torch.tensor(clip.input_ids, dtype=torch.int32),
        "t5_ids": torch.tensor(t5.input_ids, dtype=torch.int32),
        "pooled": pooled[0],
        "t5_states": states[0],
    }


@torch.no_grad()
def picture_stages(pipe, prompt, run, text_tokens):
    """Every stage of one picture.

    noise and latents.N are packed, (tokens, 4 * channels); picture is (3, h, w) as the
    decoder leaves it, picture_u8 is (h, w, 3).
    """
    stages = text_stages(pipe, prompt, text_tokens)
    channels = pipe.transformer.config.in_channels // 4
    generator = torch.Generator().manual_seed(run.seed)
    noise, _ = pipe.prepare_latents(1, channels, run.height, run.width, torch.float32, "cpu", generator)
    stages["noise"] = noise[0]

    def keep(_pipe, step, _timestep, tensors):
        stages[f"latents.{step + 1}"] = tensors["latents"][0].clone()
        return tensors

    latents = generate(pipe, prompt, run, text_tokens, output_type="latent", callback_on_step_end=keep)
    stages["sigmas"] = pipe.scheduler.sigmas.clone()
    # The end of FluxPipeline.__call__, with the decoder's output before it is clamped.
    latents = pipe._unpack_latents(latents, run.height, run.width, pipe.vae_scale_factor)
    latents = latents / pipe.vae.config.scaling_factor + pipe.vae.config.shift_factor
    decoded = pipe.vae.decode(latents, return_dict=False)[0]
    picture = np.array(pipe.image_processor.postprocess(decoded, output_type="pil")[0])
    # The pipeline itself must agree with the copy of its end above.
    whole = generate(pipe, prompt, run, text_tokens, output_type="pil")[0]
    if not np.array_equal(picture, np.array(whole)):
        raise SystemExit(f"{run.name}: the stages do not make the pipeline's picture")
    stages["picture"] = decoded[0]
    stages["picture_u8"] = torch.from_numpy(picture)
    return {name: tensor.contiguous() for name, tensor in stages.items()}


def generate(pipe, prompt, run, text_tokens, **options):
    """FluxPipeline's own picture, or its latents."""
    return pipe(
        prompt,
        width=run.width,
        height=run.height,
        num_inference_steps=run.steps,
        guidance_scale=run.guidance,
        max_sequence_length=text_tokens,
        generator=torch.Generator().manual_seed(run.seed),
        **options,
    ).images
