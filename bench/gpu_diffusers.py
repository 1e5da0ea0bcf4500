"""diffusers on FLUX.1-schnell's or FLUX.2-klein-4B's shapes with random weights; prints its times as JSON.

    python bench/gpu_diffusers.py eager|compiled|fp8 [--size 1024x1024 --steps 4 --warmups 3 --runs 10]
    python bench/gpu_diffusers.py eager --preset klein
    python bench/gpu_diffusers.py eager --tiny        # a small model on the CPU: does this run at all?

Timed is one image, from token ids to PNG: text encoders, pipeline, PNG at zlib's fastest level. Each kind takes whichever of torch's attention kernels is fastest on this card.

eager     bf16
compiled  bf16; `torch.compile` of the transformer's blocks, one of each kind, and of the decoder;
          queries, keys and values projected as one, images with their channels last
fp8       as compiled, the blocks' linear layers in e4m3 through `torch._scaled_mm`: a scale for each
          row of a weight, and one for each row of an activation, found when it comes

Compiling takes a minute or more, most of it on the CPU. With --wait-for FILE the timed runs wait for
that file, so that something else may use the card until then.
"""

import argparse
import contextlib
import io
import json
import pathlib
import statistics
import sys
import time

import torch
from diffusers import (
    AutoencoderKL, AutoencoderKLFlux2, Flux2KleinPipeline, Flux2Transformer2DModel, FlowMatchEulerDiscreteScheduler,
    FluxPipeline, FluxTransformer2DModel,
)
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import CLIPTextConfig, CLIPTextModel, Qwen3Config, Qwen3ForCausalLM, T5Config, T5EncoderModel

TEXT_TOKENS = 256
CLIP_TOKENS = 77
QWEN_TOKENS = 512
# Of Qwen3, whose states klein reads.
QWEN_LAYERS = (9, 18, 27)
# torch's kernels for attention without a mask, fastest first as a guess.
BACKENDS = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}


def main():
    options = parse()
    device = "cpu" if options.tiny else "cuda"
    torch.manual_seed(0)
    kind, tiny, whole = PRESETS[options.preset]
    model = kind(tiny if options.tiny else whole, device)
    width, height = (int(side) for side in options.size.split("x"))
    picture = Picture(width, height, options.steps)

    backends = {"any": None} if options.tiny else BACKENDS
    best = options.attention or fastest(model, picture, backends)
    if options.kind != "eager":
        # Afterwards: what was compiled with one attention may keep it.
        model.compile(options.mode, in_fp8=options.kind == "fp8")
    with using(backends[best]):
        for warmup in range(options.warmups):
            started = time.monotonic()
            model.draw(picture)
            say(f"warm-up {warmup + 1}: {time.monotonic() - started:.1f} s")
        if options.wait_for:
            wait_for(options.wait_for)
        seconds = [model.draw(picture) for _ in range(options.runs)]
    totals = [sum(parts.values()) for parts in seconds]
    print(
        json.dumps(
            {
                "seconds_per_image": statistics.median(totals),
                "spread": [min(totals), max(totals)],
                "parts_seconds": {
                    name: statistics.median(parts[name] for parts in seconds) for name in seconds[0]
                },
                "attention": best,
                "torch": torch.__version__,
                "peak_bytes": 0 if options.tiny else torch.cuda.max_memory_allocated(),
            }
        )
    )


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=["eager", "compiled", "fp8"])
    parser.add_argument("--preset", choices=PRESETS, default="schnell", help="whose shapes")
    parser.add_argument("--size", default="1024x1024")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--warmups", type=int, default=3)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--mode", default="default", help="of torch.compile")
    parser.add_argument("--attention", choices=BACKENDS, help="instead of the fastest on this card")
    parser.add_argument("--wait-for", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--tiny", action="store_true")
    return parser.parse_args()


def say(what):
    """Progress; standard output is for the result."""
    print(what, file=sys.stderr, flush=True)


def wait_for(file, seconds=300):
    """Waits until a file exists; whoever writes it may have died, so not for ever."""
    deadline = time.monotonic() + seconds
    while not file.exists() and time.monotonic() < deadline:
        time.sleep(0.05)


class Picture:
    def __init__(self, width, height, steps):
        self.width, self.height, self.steps = width, height, steps


class Model:
    """A pipeline without its text encoders, which subclasses run."""

    def __init__(self, pipe, device):
        self.pipe, self.device = pipe, device
        self.pipe.set_progress_bar_config(disable=True)

    def encode(self):
        """What the pipeline is given for a prompt."""
        raise NotImplementedError

    def compile(self, mode, in_fp8):
        torch._inductor.config.conv_1x1_as_mm = True
        self.pipe.transformer.fuse_qkv_projections()
        if in_fp8:
            quantise(self.pipe.transformer)
        self.pipe.transformer.to(memory_format=torch.channels_last)
        self.pipe.vae.to(memory_format=torch.channels_last)
        # One graph for all blocks of a kind: two to compile instead of 57.
        self.pipe.transformer.compile_repeated_blocks(mode=mode, fullgraph=True)
        self.pipe.vae.decode = torch.compile(self.pipe.vae.decode, mode=mode, fullgraph=True)

    @torch.inference_mode()
    def draw(self, picture):
        """Seconds of each part of one picture."""
        started = self.now()
        prompt = self.encode()
        encoded = self.now()
        image = self.pipe(
            **prompt,
            width=picture.width,
            height=picture.height,
            num_inference_steps=picture.steps,
            output_type="pil",
        ).images[0]
        drawn = self.now()
        image.save(io.BytesIO(), format="PNG", compress_level=1)
        return {
            "text_encoders": encoded - started,
            "pipeline": drawn - encoded,
            "png": self.now() - drawn,
        }

    def now(self):
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


class Schnell(Model):
    def __init__(self, sizes, device):
        self.clip = random(lambda: CLIPTextModel(CLIPTextConfig(**sizes["clip"])), device)
        self.t5 = random(lambda: T5EncoderModel(T5Config(**sizes["t5"])), device)
        self.clip_ids = torch.randint(0, sizes["clip"]["vocab_size"], (1, CLIP_TOKENS), device=device)
        self.t5_ids = torch.randint(0, sizes["t5"]["vocab_size"], (1, TEXT_TOKENS), device=device)
        pipe = FluxPipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
            vae=random(lambda: AutoencoderKL(**sizes["vae"]), device),
            text_encoder=None,
            tokenizer=None,
            text_encoder_2=None,
            tokenizer_2=None,
            transformer=random(lambda: FluxTransformer2DModel(**sizes["transformer"]), device),
        )
        super().__init__(pipe, device)

    def encode(self):
        pooled = self.clip(self.clip_ids).pooler_output
        return {"prompt_embeds": self.t5(self.t5_ids)[0], "pooled_prompt_embeds": pooled, "guidance_scale": 0.0}


class Klein(Model):
    def __init__(self, sizes, device):
        self.qwen = random(lambda: Qwen3ForCausalLM(Qwen3Config(**sizes["qwen"])), device)
        self.ids = torch.randint(0, sizes["qwen"]["vocab_size"], (1, QWEN_TOKENS), device=device)
        # A prompt of some twenty tokens, as the pipeline pads it.
        self.mask = (torch.arange(QWEN_TOKENS, device=device) < 32).long()[None]
        pipe = Flux2KleinPipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
            vae=random(lambda: AutoencoderKLFlux2(**sizes["vae"]), device),
            text_encoder=None,
            tokenizer=None,
            transformer=random(lambda: Flux2Transformer2DModel(**sizes["transformer"]), device),
            is_distilled=True,
        )
        super().__init__(pipe, device)

    def encode(self):
        found = self.qwen(self.ids, attention_mask=self.mask, output_hidden_states=True, use_cache=False)
        states = [found.hidden_states[layer] for layer in QWEN_LAYERS]
        return {"prompt_embeds": torch.cat(states, dim=-1), "guidance_scale": 1.0}


E4M3_MAX = 448.0


class Fp8Linear(torch.nn.Module):
    """A linear layer in e4m3: weight (out, in) and input rows with a scale for each row."""

    def __init__(self, linear):
        super().__init__()
        weight, scale = to_e4m3(linear.weight)
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale.t().contiguous())
        self.register_buffer("bias", linear.bias)

    def forward(self, x):
        rows = x.reshape(-1, x.shape[-1])
        values, scale = to_e4m3(rows)
        y = scaled_product(values, scale, self.weight, self.scale, self.bias)
        return y.view(*x.shape[:-1], y.shape[-1])


def to_e4m3(rows):
    """(n, k) → the same in e4m3, and each row's scale (n, 1), f32."""
    scale = rows.abs().amax(dim=-1, keepdim=True).float().clamp(min=1e-12) / E4M3_MAX
    return (rows.float() / scale).clamp(-E4M3_MAX, E4M3_MAX).to(torch.float8_e4m3fn), scale


def scaled_product(x, scale_x, weight, scale_weight, bias):
    """x (n, k), its scales (n, 1), weight (m, k), its scales (1, m) → (n, m), bf16."""
    if x.is_cuda:
        return torch._scaled_mm(
            x, weight.t(), scale_a=scale_x, scale_b=scale_weight, bias=bias,
            out_dtype=torch.bfloat16, use_fast_accum=True,
        )
    # torch has no scales for rows on a CPU.
    y = (x.float() @ weight.float().t()) * scale_x * scale_weight
    return (y if bias is None else y + bias.float()).to(torch.bfloat16)


def quantise(transformer):
    """Puts the linear layers that every step runs through into e4m3. Modulation stays as it is."""
    for blocks in (transformer.transformer_blocks, transformer.single_transformer_blocks):
        for name, layer in list(blocks.named_modules()):
            if not isinstance(layer, torch.nn.Linear) or ".norm" in name:
                continue
            owner, _, own = name.rpartition(".")
            setattr(blocks.get_submodule(owner), own, Fp8Linear(layer))


def random(make, device):
    """A module in bf16 whose weights keep the size of what they are given."""
    with torch.device("meta"):
        module = make()
    module = module.to(torch.bfloat16).to_empty(device=device).eval().requires_grad_(False)
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if not tensor.is_floating_point():
            tensor.copy_(torch.arange(tensor.numel(), device=device).view_as(tensor))
        elif tensor.dim() > 1:
            tensor.normal_(0.0, tensor[0].numel() ** -0.5)
        elif name.endswith(("weight", "running_var")):
            tensor.fill_(1.0)
        else:
            tensor.normal_(0.0, 0.02)
    return module


def fastest(model, picture, backends):
    """The backend whose second picture takes least; the first one compiles or loads code."""
    if len(backends) == 1:
        return next(iter(backends))
    seconds = {}
    for name, backend in backends.items():
        try:
            with using(backend):
                model.draw(picture)
                seconds[name] = sum(model.draw(picture).values())
        except RuntimeError as error:
            say(f"attention through {name} does not run: {error}")
    return min(seconds, key=seconds.get)


def using(backend):
    if backend is None:
        return contextlib.nullcontext()
    # What a backend does not take (masks, heads of 512) goes to the next one.
    others = [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    return sdpa_kernel([backend, *others], set_priority=True)


SCHNELL = {
    "clip": {
        "vocab_size": 49408, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
        "num_attention_heads": 12, "max_position_embeddings": 77, "hidden_act": "quick_gelu",
    },
    "t5": {
        "vocab_size": 32128, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24,
        "num_heads": 64, "feed_forward_proj": "gated-gelu", "dropout_rate": 0.0,
    },
    "transformer": {
        "in_channels": 64, "num_layers": 19, "num_single_layers": 38, "attention_head_dim": 128,
        "num_attention_heads": 24, "joint_attention_dim": 4096, "pooled_projection_dim": 768,
        "guidance_embeds": False, "axes_dims_rope": (16, 56, 56),
    },
    "vae": {
        "in_channels": 3, "out_channels": 3, "latent_channels": 16, "layers_per_block": 2,
        "block_out_channels": (128, 256, 512, 512), "norm_num_groups": 32, "sample_size": 1024,
        "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
        "scaling_factor": 0.3611, "shift_factor": 0.1159,
        "use_quant_conv": False, "use_post_quant_conv": False,
    },
}

KLEIN = {
    "qwen": {
        "vocab_size": 151936, "hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 40960,
        "rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}, "tie_word_embeddings": True,
    },
    "transformer": {
        "in_channels": 128, "num_layers": 5, "num_single_layers": 20, "attention_head_dim": 128,
        "num_attention_heads": 24, "joint_attention_dim": 7680, "mlp_ratio": 3.0, "axes_dims_rope": (32, 32, 32, 32),
        "rope_theta": 2000, "guidance_embeds": False,
    },
    "vae": {
        "latent_channels": 32, "layers_per_block": 2, "block_out_channels": (128, 256, 512, 512),
        "norm_num_groups": 32, "sample_size": 1024,
        "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
    },
}

TINY_SCHNELL = {
    "clip": {**SCHNELL["clip"], "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1,
             "num_attention_heads": 2},
    "t5": {**SCHNELL["t5"], "d_model": 64, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_heads": 4},
    "transformer": {**SCHNELL["transformer"], "num_layers": 1, "num_single_layers": 1,
                    "attention_head_dim": 32, "num_attention_heads": 2, "joint_attention_dim": 64,
                    "pooled_projection_dim": 64, "axes_dims_rope": (8, 12, 12)},
    "vae": {**SCHNELL["vae"], "block_out_channels": (16, 16, 16, 16), "norm_num_groups": 8,
            "layers_per_block": 1},
}

TINY_KLEIN = {
    "qwen": {**KLEIN["qwen"], "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 28,
             "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16},
    "transformer": {**KLEIN["transformer"], "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 32,
                    "num_attention_heads": 2, "joint_attention_dim": 192, "axes_dims_rope": (8, 8, 8, 8)},
    "vae": {**KLEIN["vae"], "block_out_channels": (16, 16, 16, 16), "norm_num_groups": 8,
            "layers_per_block": 1},
}

# How it is made, small, whole.
PRESETS = {"schnell": (Schnell, TINY_SCHNELL, SCHNELL), "klein": (Klein, TINY_KLEIN, KLEIN)}


if __name__ == "__main__":
    main()
