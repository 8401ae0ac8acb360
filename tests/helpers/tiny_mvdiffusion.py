# SPDX-License-Identifier: GPL-3.0-or-later
"""A multi-view diffusion folder in the official layout, its parts tiny and random, so that tests need no download."""

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, DDPMScheduler
from safetensors.torch import save_file
from torch import nn
from transformers import (
    CLIPImageProcessorPil,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from backend.facelift import weights as facelift_weights
from backend.facelift.gslrm import GSLRM, GSLRMConfig, official_name
from backend.facelift.mvdiffusion import build_unet

SIZE = 64  # of the pictures
TEXT, IMAGE = 16, 12  # channels of the embeddings

UNET = {
    "_class_name": "UNetMV2DConditionModel",
    "sample_size": SIZE // 8,
    "in_channels": 8,
    "out_channels": 4,
    "block_out_channels": [32, 64],
    "layers_per_block": 1,
    "attention_head_dim": [2, 4],
    "cross_attention_dim": TEXT,
    "use_linear_projection": True,
    "class_embed_type": "projection",
    "projection_class_embeddings_input_dim": 2 * IMAGE,
    "down_block_types": ["CrossAttnDownBlockMV2D", "DownBlock2D"],
    "mid_block_type": "UNetMidBlockMV2DCrossAttn",
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlockMV2D"],
    "num_attention_heads": None,
    "num_views": 6,
    "multiview_attention": True,
    "sparse_mv_attention": True,
    "selfattn_block": "custom",
    "cd_attention_last": False,
    "cd_attention_mid": False,
    "addition_downsample": False,
    "addition_channels": [1280, 1280, 1280],
}


def randomise(model: nn.Module, seed: int) -> nn.Module:
    """Every weight random, none zero as after some initialisations, signals neither dying nor exploding."""
    generator = torch.Generator().manual_seed(seed)
    for value in model.parameters():
        noise = torch.randn(value.shape, generator=generator)
        value.data = 1 + 0.1 * noise if value.ndim == 1 else noise / value[0].numel() ** 0.5
    return model.requires_grad_(False)


def write_folder(folder: Path) -> Path:
    """Writes model_index.json and the eight parts."""
    unet = randomise(build_unet(UNET), 1)
    (folder / "unet").mkdir(parents=True)
    (folder / "unet" / "config.json").write_text(json.dumps(UNET))
    save_file(unet.state_dict(), folder / "unet" / "diffusion_pytorch_model.safetensors")
    blocks = 4
    vae = AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * blocks,
        up_block_types=["UpDecoderBlock2D"] * blocks,
        block_out_channels=[16] * blocks,
        norm_num_groups=8,
        sample_size=SIZE,
    )
    randomise(vae, 2).save_pretrained(folder / "vae")
    vision = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        projection_dim=IMAGE,
    )
    randomise(CLIPVisionModelWithProjection(vision), 3).save_pretrained(folder / "image_encoder")
    CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size=28).save_pretrained(folder / "feature_extractor")
    vocabulary = write_tokenizer(folder / "tokenizer")
    text = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=TEXT,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        bos_token_id=0,
        eos_token_id=1,
    )
    randomise(CLIPTextModel(text), 4).save_pretrained(folder / "text_encoder")
    (folder / "image_normalizer").mkdir()
    mean, deviation = torch.randn(2, 1, IMAGE, generator=torch.Generator().manual_seed(5))
    normaliser = {"mean": mean, "std": 1 + deviation.abs()}
    save_file(normaliser, folder / "image_normalizer" / "diffusion_pytorch_model.safetensors")
    DDPMScheduler(beta_schedule="squaredcos_cap_v2").save_pretrained(folder / "image_noising_scheduler")
    DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="v_prediction",
    ).save_pretrained(folder / "scheduler")
    # as the official file names them: a pipeline that stock diffusers would load, and run otherwise
    index = {"_class_name": "StableUnCLIPImg2ImgPipeline", "unet": ["mvdiffusion.models", "UNetMV2DConditionModel"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def write_weights(folder: Path) -> Path:
    """All of FaceLift's weights as the Hub has them, tiny; what the parts' loaders do not read is empty."""
    write_folder(folder / facelift_weights.DIFFUSION)
    network = randomise(GSLRM(GSLRMConfig(layers=2, width=64, heads=1)), 0)
    (folder / facelift_weights.GSLRM).parent.mkdir()
    state = {official_name(name): value for name, value in network.state_dict().items()}
    torch.save({"model": state}, folder / facelift_weights.GSLRM)
    for name in facelift_weights.FILES:
        if not (folder / name).exists():
            (folder / name).touch()
    return folder


def write_tokenizer(folder: Path) -> int:
    """A tokenizer in CLIP's layout that spells words out letter by letter; returns the size of its vocabulary."""
    letters = [chr(code) for code in range(33, 127)]
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    end = "<|endoftext|>"
    special = {"bos_token": "<|startoftext|>", "eos_token": end, "unk_token": end, "pad_token": end}
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    return len(words)
