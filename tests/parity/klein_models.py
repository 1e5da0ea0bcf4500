"""The tiny FLUX.2-klein models of the golden files, assembled from diffusers' own classes."""

import dataclasses

import numpy as np
import PIL.Image
from diffusers import (
    AutoencoderKLFlux2,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinInpaintPipeline,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
)
from transformers import Qwen2TokenizerFast, Qwen3Config, Qwen3ForCausalLM

import small

FOLDERS = ("transformer", "text_encoder", "vae")


@dataclasses.dataclass
class Tiny:
    """A model small enough to commit the outputs of. Defaults are klein's where they are not sizes."""

    name: str
    double_blocks: int
    single_blocks: int
    heads: int
    axes: tuple  # of RoPE: time, row, column, place in the text; their sum is the width of a head
    mlp_ratio: float = 3.0
    theta: int = 2000
    dynamic: bool = True
    latent_channels: int = 8
    vae_channels: tuple = (16, 24, 32, 32)
    decoder_channels: tuple = None
    vae_layers: int = 2
    vae_groups: int = 8
    quant: bool = True
    text_width: int = 32
    text_layers: int = 28  # one behind the last that is read
    text_heads: int = 4
    text_groups: int = 2
    text_head_width: int = 16

    def build(self, tokenizer):
        """A Flux2KleinPipeline in f32 on the CPU, its weights made by the rule of `weights`."""
        tokenizer = Qwen2TokenizerFast.from_pretrained(tokenizer)
        parts = {
            "transformer": self._transformer(),
            "text_encoder": self._text(len(tokenizer)),
            "vae": self._vae(),
        }
        return small.assemble(
            Flux2KleinPipeline, parts, tokenizer=tokenizer, scheduler=self._scheduler(), is_distilled=True
        )

    def _transformer(self):
        return Flux2Transformer2DModel(
            in_channels=4 * self.latent_channels,
            num_layers=self.double_blocks,
            num_single_layers=self.single_blocks,
            attention_head_dim=sum(self.axes),
            num_attention_heads=self.heads,
            joint_attention_dim=3 * self.text_width,
            mlp_ratio=self.mlp_ratio,
            axes_dims_rope=self.axes,
            rope_theta=self.theta,
            guidance_embeds=False,
        )

    def _text(self, vocabulary):
        config = Qwen3Config(
            vocab_size=vocabulary + 3,  # the true table has spare rows too
            hidden_size=self.text_width,
            intermediate_size=self.text_width + 8,
            num_hidden_layers=self.text_layers,
            num_attention_heads=self.text_heads,
            num_key_value_heads=self.text_groups,
            head_dim=self.text_head_width,
            max_position_embeddings=4096,
            rope_parameters={"rope_theta": 1e6, "rope_type": "default"},
            tie_word_embeddings=True,
        )
        return Qwen3ForCausalLM(config)

    def _vae(self):
        return AutoencoderKLFlux2(
            **small.levels(self.vae_channels),
            decoder_block_out_channels=self.decoder_channels,
            layers_per_block=self.vae_layers,
            latent_channels=self.latent_channels,
            norm_num_groups=self.vae_groups,
            use_quant_conv=self.quant,
            use_post_quant_conv=self.quant,
            sample_size=64,
        )

    def _scheduler(self):
        return FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=self.dynamic)


@dataclasses.dataclass
class Run:
    """One picture, drawn from none or several others."""

    prompt: str  # a key of prompts.PROMPTS
    width: int
    height: int
    steps: int
    seed: int
    inputs: tuple = ()  # (width, height) of each
    masked: bool = False  # whether the first of them has a mask

    @property
    def name(self):
        inputs = "".join(f"-from-{width}x{height}" for width, height in self.inputs)
        masked = "-masked" if self.masked else ""
        return f"{self.prompt}-{self.width}x{self.height}-{self.steps}{inputs}{masked}"


def inpainting(pipe):
    """The same model as diffusers composes pictures with it under a mask."""
    masked = Flux2KleinInpaintPipeline(**pipe.components, is_distilled=True)
    masked.set_progress_bar_config(disable=True)
    return masked


def input_picture(width, height):
    """Waves and noise that whoever checks can make again: integers alone."""
    y, x, c = np.mgrid[0:height, 0:width, 0:3].astype(np.uint32)
    noise = (x * 73856093 ^ y * 19349663 ^ (c + 1) * 83492791) >> 7 & 31
    waves = x * (c + 1) // 3 + y * (3 - c) // 2
    return PIL.Image.fromarray(((waves + noise) & 255).astype(np.uint8))


def mask_picture(width, height):
    """A mask as OpenAI's API has it, from integers alone: its alpha rises from 0 at a place left of the middle to 255
    as far from it as the picture is high, and is 0 in the lower right corner, in steps of three pixels."""
    y, x = np.mgrid[0:height, 0:width].astype(np.int64)
    far = (x - width // 3) ** 2 + (y - height // 2) ** 2
    alpha = np.minimum(far * 255 * 4 // (height * height), 255)
    alpha[(x // 3 + y // 3 >= (width + height) // 3 - 8)] = 0
    rgba = np.zeros((height, width, 4), np.uint8)
    rgba[..., 3] = alpha
    return PIL.Image.fromarray(rgba)


# The model that is loaded from Black Forest Labs' single file too.
SINGLE_FILE = "klein-1x1"

# Each model with its pictures.
GOLDEN = (
    (
        Tiny("klein-1x1", 1, 1, heads=2, axes=(4, 4, 4, 4)),
        (
            Run("plain", 64, 64, 4, 42),
            Run("empty", 64, 48, 1, 0),
            Run("emoji", 64, 64, 2, 7, inputs=((101, 75),)),
            Run("plain", 48, 64, 1, 3, inputs=((1100, 1000),)),
            Run("plain", 96, 64, 4, 11, inputs=((101, 75),), masked=True),
        ),
    ),
    (
        Tiny(
            "klein-2x3", 2, 3,
            heads=3,
            axes=(2, 6, 8, 4),
            mlp_ratio=2.5,
            theta=500,
            decoder_channels=(8, 16, 16, 24),
            text_groups=1,
            vae_layers=1,
        ),
        (
            Run("beyond_t5", 48, 64, 4, 2**32 - 1),
            Run("cjk", 80, 48, 4, 5, inputs=((64, 77), (130, 66), (95, 111))),
            Run("plain", 64, 80, 3, 8, inputs=((70, 95), (95, 66)), masked=True),
        ),
    ),
    (
        Tiny("klein-0x2", 0, 2, heads=1, axes=(8, 8, 8, 8), dynamic=False, quant=False, text_groups=4),
        (Run("special", 64, 64, 8, 2**32 + 5, inputs=((64, 64), (80, 64))),),
    ),
    (
        # Half as many pixels a token, no single blocks.
        Tiny("klein-2x0", 2, 0, heads=2, axes=(0, 8, 8, 4), vae_channels=(8, 16), vae_layers=1, latent_channels=4),
        (Run("accents", 48, 32, 4, 9),),
    ),
)
