"""The tiny models of the golden files, assembled from diffusers' own classes."""

import dataclasses

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5Tokenizer

import small

FOLDERS = ("transformer", "text_encoder", "text_encoder_2", "vae")


@dataclasses.dataclass
class Tiny:
    """A model small enough to commit the outputs of. Defaults are FLUX.1-schnell's where they are not sizes."""

    name: str
    double_blocks: int
    single_blocks: int
    heads: int
    axes: tuple  # of RoPE: time, row, column; their sum is the width of a head
    guided: bool = False
    shift: float = 1.0
    latent_channels: int = 16
    vae_channels: tuple = (16, 24, 32, 32)
    vae_layers: int = 2
    vae_groups: int = 8
    scaling: float = 0.3611
    shift_factor: float = 0.1159
    clip_width: int = 32
    clip_layers: int = 2
    clip_heads: int = 4
    clip_act: str = "quick_gelu"
    clip_eos: int = 2  # the published value: the pooled token is the one with the largest id
    t5_width: int = 32
    t5_layers: int = 2
    t5_heads: int = 4
    t5_head_width: int = 8
    t5_ff: str = "gated-gelu"

    def build(self, tokenizers):
        """A FluxPipeline in f32 on the CPU, its weights made by the rule of `weights`."""
        tokenizer = CLIPTokenizer.from_pretrained(tokenizers / "clip")
        tokenizer_2 = T5Tokenizer.from_pretrained(tokenizers / "t5")
        parts = {
            "transformer": self._transformer(),
            "text_encoder": self._clip(len(tokenizer)),
            "text_encoder_2": self._t5(len(tokenizer_2)),
            "vae": self._vae(),
        }
        return small.assemble(
            FluxPipeline, parts, tokenizer=tokenizer, tokenizer_2=tokenizer_2, scheduler=self._scheduler()
        )

    def _transformer(self):
        return FluxTransformer2DModel(
            in_channels=4 * self.latent_channels,
            num_layers=self.double_blocks,
            num_single_layers=self.single_blocks,
            attention_head_dim=sum(self.axes),
            num_attention_heads=self.heads,
            joint_attention_dim=self.t5_width,
            pooled_projection_dim=self.clip_width,
            guidance_embeds=self.guided,
            axes_dims_rope=self.axes,
        )

    def _clip(self, vocabulary):
        config = CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=self.clip_width,
            intermediate_size=3 * self.clip_width,
            projection_dim=self.clip_width,
            num_hidden_layers=self.clip_layers,
            num_attention_heads=self.clip_heads,
            hidden_act=self.clip_act,
            bos_token_id=0 if self.clip_eos == 2 else vocabulary - 2,
            eos_token_id=self.clip_eos if self.clip_eos == 2 else vocabulary - 1,
            pad_token_id=1,
        )
        return CLIPTextModel(config)

    def _t5(self, vocabulary):
        config = T5Config(
            vocab_size=vocabulary + 4,  # the true table has spare rows too
            d_model=self.t5_width,
            d_kv=self.t5_head_width,
            d_ff=2 * self.t5_width + 8,
            num_layers=self.t5_layers,
            num_heads=self.t5_heads,
            feed_forward_proj=self.t5_ff,
            tie_word_embeddings=False,
        )
        return T5EncoderModel(config)

    def _vae(self):
        return AutoencoderKL(
            **small.levels(self.vae_channels),
            layers_per_block=self.vae_layers,
            latent_channels=self.latent_channels,
            norm_num_groups=self.vae_groups,
            scaling_factor=self.scaling,
            shift_factor=self.shift_factor,
            use_quant_conv=False,
            use_post_quant_conv=False,
            sample_size=64,
        )

    def _scheduler(self):
        return FlowMatchEulerDiscreteScheduler(
            shift=self.shift,
            use_dynamic_shifting=self.guided,
            base_shift=0.5,
            max_shift=1.15,
            base_image_seq_len=256,
            max_image_seq_len=4096,
        )

    @property
    def text_tokens(self):
        """T5's padded length: 256 for schnell, 512 for dev."""
        return 512 if self.guided else 256


@dataclasses.dataclass
class Run:
    """One picture."""

    prompt: str  # a key of prompts.PROMPTS
    width: int
    height: int
    steps: int
    seed: int
    guidance: float = 3.5  # read only by a guided model

    @property
    def name(self):
        guided = f"-g{self.guidance:g}" if self.guidance != 3.5 else ""
        return f"{self.prompt}-{self.width}x{self.height}-{self.steps}{guided}"


# Each model with its pictures. The last one is committed whole, weights and all.
GOLDEN = (
    (
        Tiny("schnell-1x1", 1, 1, heads=2, axes=(4, 6, 6)),
        (Run("plain", 64, 64, 4, 42), Run("empty", 64, 64, 1, 0), Run("emoji", 64, 48, 4, 1)),
    ),
    (
        Tiny(
            "schnell-2x3", 2, 3,
            heads=3,
            axes=(8, 8, 8),
            clip_layers=3,
            t5_layers=3,
            t5_heads=3,
            vae_channels=(8, 16, 16, 32),
            vae_groups=4,
        ),
        (Run("beyond_t5", 48, 64, 4, 2**32 - 1), Run("cjk", 112, 48, 1, 7)),
    ),
    (
        Tiny(
            "schnell-0x2", 0, 2,
            heads=4,
            axes=(4, 14, 14),
            shift=3.0,
            t5_width=48,
            t5_head_width=16,
            clip_width=24,
            clip_eos=-1,
            vae_layers=1,
        ),
        (Run("punctuation", 64, 64, 8, 2**32 + 5),),
    ),
    (
        Tiny(
            "schnell-2x0", 2, 0,
            heads=1,
            axes=(16, 24, 24),
            clip_width=48,
            t5_width=24,
            t5_heads=2,
            t5_head_width=12,
        ),
        (Run("beyond_clip", 48, 80, 4, 2**53 + 1),),
    ),
    (
        Tiny("dev-1x2", 1, 2, heads=2, axes=(8, 12, 12), guided=True, shift=3.0),
        (Run("accents", 64, 80, 8, 123456789), Run("beyond_t5", 64, 64, 4, 3, guidance=1.0)),
    ),
    (
        Tiny(
            "dev-3x1", 3, 1,
            heads=4,
            axes=(4, 6, 6),
            guided=True,
            shift=3.0,
            clip_layers=1,
            t5_layers=1,
            vae_channels=(32, 32, 32, 32),
            vae_groups=32,
            vae_layers=1,
        ),
        (Run("plain", 96, 48, 4, 42, guidance=7.0),),
    ),
    (
        # What the format allows and the published models do not use.
        Tiny(
            "unusual", 1, 1,
            heads=2,
            axes=(4, 6, 6),
            latent_channels=4,
            vae_channels=(8, 16),
            vae_layers=1,
            vae_groups=4,
            scaling=1.5035,
            shift_factor=0.0609,
            clip_act="gelu",
            t5_ff="relu",
        ),
        (Run("plain", 32, 48, 4, 42),),
    ),
    (
        Tiny(
            "whole", 1, 2,
            heads=2,
            axes=(4, 6, 6),
            vae_channels=(8, 8, 16, 16),
            vae_groups=4,
            vae_layers=1,
            clip_layers=1,
            t5_layers=2,
        ),
        (Run("plain", 64, 64, 4, 42), Run("upper", 80, 48, 1, 5)),
    ),
)
