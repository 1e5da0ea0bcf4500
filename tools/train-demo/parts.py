"""The demo model's parts: diffusers' own classes, at sizes that fit in 8 MB together."""

import hashlib
import json
import pathlib
import sys
import tempfile

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5Tokenizer

import world

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "parity"))
import make_tokenizers  # noqa: E402

LATENT_CHANNELS = 16
TEXT_WIDTH = 64
# FLUX.1-schnell's padded lengths: what T5 and CLIP are given, whatever the prompt's length.
T5_TOKENS, CLIP_TOKENS = 256, 77


def autoencoder():
    channels = (12, 24, 48, 64)
    return AutoencoderKL(
        block_out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=4,
        use_quant_conv=False,
        use_post_quant_conv=False,
        sample_size=256,
    )


def transformer():
    return FluxTransformer2DModel(
        in_channels=4 * LATENT_CHANNELS,
        num_layers=2,
        num_single_layers=4,
        attention_head_dim=32,
        num_attention_heads=4,
        joint_attention_dim=TEXT_WIDTH,
        pooled_projection_dim=TEXT_WIDTH,
        guidance_embeds=False,
        axes_dims_rope=(8, 12, 12),
    )


def text_encoders(tokenizer, tokenizer_2):
    end = tokenizer.eos_token_id
    clip = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=4 * TEXT_WIDTH,
        projection_dim=TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=CLIP_TOKENS,
        hidden_act="quick_gelu",
        bos_token_id=end - 1,
        eos_token_id=end,
        pad_token_id=end,
    )
    t5 = T5Config(
        vocab_size=len(tokenizer_2),
        d_model=TEXT_WIDTH,
        d_kv=16,
        d_ff=160,
        num_layers=3,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
        tie_word_embeddings=False,
    )
    return CLIPTextModel(clip), T5EncoderModel(t5)


def learner(tokenizer, tokenizer_2):
    """All that learns together: text encoders and transformer."""
    clip, t5 = text_encoders(tokenizer, tokenizer_2)
    return torch.nn.ModuleDict({"clip": clip, "t5": t5, "transformer": transformer()})


def load(folder):
    """Autoencoder and learner of a written model, in f32."""
    pipe = FluxPipeline.from_pretrained(folder, dtype=torch.float32)
    learner = {"clip": pipe.text_encoder, "t5": pipe.text_encoder_2, "transformer": pipe.transformer}
    return pipe.vae, torch.nn.ModuleDict(learner)


def tokenizers():
    """CLIP's and T5's kinds of tokenizer, learnt from this world's captions."""
    with tempfile.TemporaryDirectory() as temp:
        folder = pathlib.Path(temp)
        corpus = folder / "corpus.txt"
        corpus.write_text("\n".join(world.corpus()) + "\n", encoding="utf-8")
        make_tokenizers.CORPUS = corpus
        make_tokenizers.T5_PIECES = 400
        make_tokenizers.main(folder)
        return CLIPTokenizer.from_pretrained(folder / "clip"), T5Tokenizer.from_pretrained(folder / "t5"), read(folder)


def read(folder):
    """Files by name, to be written as they are: transformers would write other ones."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.parent != folder}


def pipeline(tokenizer, tokenizer_2, **parts):
    scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0, use_dynamic_shifting=False)
    pipe = FluxPipeline(tokenizer=tokenizer, tokenizer_2=tokenizer_2, scheduler=scheduler, **parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def save(pipe, tokenizer_files, folder):
    """The diffusers layout, weights as f16."""
    # A copy, so that training can go on in f32.
    pipe.save_pretrained(folder)
    half = FluxPipeline.from_pretrained(folder, dtype=torch.float16)
    half.save_pretrained(folder)
    for name, content in tokenizer_files.items():
        kind, file = name.split("/")
        target = folder / {"clip": "tokenizer", "t5": "tokenizer_2"}[kind]
        for stale in () if (target / file).exists() else target.glob("*"):
            stale.unlink()
    for name, content in tokenizer_files.items():
        kind, file = name.split("/")
        target = folder / {"clip": "tokenizer", "t5": "tokenizer_2"}[kind]
        (target / file).write_bytes(content)
    for path in folder.rglob("*.json"):
        strip_versions(path)
    (folder / "obscura.toml").write_text(manifest(folder), encoding="utf-8")


# What an Obscura node reads of the folder: the files that crates/flux/src/demo.rs builds in. Loading
# refuses where the two lists differ.
READ = (
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "text_encoder_2/config.json",
    "text_encoder_2/model.safetensors",
    "tokenizer/merges.txt",
    "tokenizer/tokenizer_config.json",
    "tokenizer/vocab.json",
    "tokenizer_2/tokenizer.json",
    "transformer/config.json",
    "transformer/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
)


def manifest(folder):
    """Which bytes make the model, as `obscura models pin` writes it."""
    lines = ['licence = "Apache-2.0"']
    for name in READ:
        content = (folder / name).read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        lines += ["", "[[file]]", f'path = "{name}"', f"bytes = {len(content)}", f'sha256 = "{sha256}"']
    return "\n".join(lines) + "\n"


def strip_versions(path):
    """No library's version in the files: they say nothing of the model."""
    document = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(document, dict):
        for key in ("_name_or_path", "_diffusers_version", "transformers_version"):
            document.pop(key, None)
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
