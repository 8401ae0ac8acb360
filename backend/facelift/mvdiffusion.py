# SPDX-License-Identifier: GPL-3.0-or-later
"""FaceLift's multi-view diffusion (Lyu et al., arXiv 2412.17812): from one portrait to six views around the head.

It is Stable Diffusion 2.1 unCLIP, made of stock parts of diffusers and transformers. FaceLift adds what makes the six
views of a head agree: they are denoised together, and each self-attention also attends to the front view. The portrait
is used in three ways: as latents beside the noise, as a CLIP embedding, and as the front view to be reproduced. Only
the text prompt says which view to paint. No other module imports diffusers and transformers.

The official weights (a folder in diffusers' layout) are under the Adobe Research License, non-commercial.
"""

from __future__ import annotations

import inspect
import json
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from diffusers import AutoencoderKL, DDIMScheduler, DDPMScheduler, ModelMixin, UNet2DConditionModel
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import (
    CLIPImageProcessorPil,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionModelWithProjection,
    PreTrainedModel,
)

from ..cache import load_or_make
from ..errors import Progress, UserError, no_progress
from ..files import read_file
from ..memory import gpu_memory_errors
from ..models import not_finite

VIEWS = ("front", "front_right", "right", "back", "left", "front_left")
PROMPT = "a rendering image of 3D models, {view} view, color map."

DIFFUSERS_WEIGHTS, TRANSFORMERS_WEIGHTS = "diffusion_pytorch_model.safetensors", "model.safetensors"
STOCK_BLOCKS = {
    "CrossAttnDownBlockMV2D": "CrossAttnDownBlock2D",
    "CrossAttnUpBlockMV2D": "CrossAttnUpBlock2D",
    "UNetMidBlockMV2DCrossAttn": "UNetMidBlock2DCrossAttn",
}
# fields of the official config that diffusers does not know, with the values of the network that is implemented here
SUPPORTED = {
    "multiview_attention": (True, False),
    "sparse_mv_attention": (True, False),
    "selfattn_block": ("custom",),
    "cd_attention_last": (False,),
    "cd_attention_mid": (False,),
    "addition_downsample": (False,),
    "num_attention_heads": (None,),
}
# fields of the scheduler's config that diffusers checks late, when the scheduler is used
SCHEDULES = {
    "prediction_type": ("epsilon", "sample", "v_prediction"),
    "timestep_spacing": ("linspace", "leading", "trailing"),
}


Part = TypeVar("Part", bound=nn.Module)
Stock = TypeVar("Stock", bound="ModelMixin | PreTrainedModel")


class SelfAttention(Protocol):
    """The attributes of diffusers' Attention that are used here; its own types make optional what this UNet has."""

    to_q: nn.Module
    to_k: nn.Module
    to_v: nn.Module
    to_out: Iterable[nn.Module]
    heads: int


class MultiViewAttention:
    """A UNet's self-attention across the views of one head, as an attention processor for diffusers.

    The batch is [heads * views] with the views of one head next to each other, the front view first. sparse: a view
    attends to the front view and to itself, otherwise to all views.
    """

    def __init__(self, views: int, sparse: bool):
        self.views, self.sparse = views, sparse

    def __call__(self, attention: SelfAttention, hidden_states: Tensor, *_, **__) -> Tensor:
        """Return the attention's output for hidden_states [heads * views, L, C], in the same shape."""
        projections = (attention.to_q, attention.to_k, attention.to_v)
        query, key, value = (projection(hidden_states).unflatten(0, (-1, self.views)) for projection in projections)
        if self.sparse:
            key, value = (torch.cat([part[:, :1].expand_as(part), part], 2) for part in (key, value))
            query, key, value = (part.flatten(0, 1) for part in (query, key, value))
        else:
            query, key, value = (part.flatten(1, 2) for part in (query, key, value))
        query, key, value = (part.unflatten(-1, (attention.heads, -1)).transpose(1, 2) for part in (query, key, value))
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        project, dropout = attention.to_out
        return dropout(project(mixed.reshape(hidden_states.shape)))


def build_unet(config: dict) -> UNet2DConditionModel:
    """Build diffusers' UNet of an official config, with its self-attention replaced, and without weights.

    Raises:
        UserError: a field describes another network.
    """
    _check("UNet", config, SUPPORTED)
    supported = config.keys() & inspect.signature(UNet2DConditionModel).parameters.keys()
    stock = {name: config[name] for name in supported}
    stock["mid_block_type"] = STOCK_BLOCKS.get(config["mid_block_type"], config["mid_block_type"])
    for name in ("down_block_types", "up_block_types"):
        stock[name] = [STOCK_BLOCKS.get(kind, kind) for kind in config[name]]
    unet = UNet2DConditionModel(**stock)
    if config.get("multiview_attention", True):
        across = MultiViewAttention(config.get("num_views", len(VIEWS)), config.get("sparse_mv_attention", True))
        own: dict[str, Any] = dict(unet.attn_processors)
        own |= {name: across for name in own if ".attn1." in name}
        unet.set_attn_processor(own)
    return unet


@dataclass(eq=False)
class MultiViewDiffusion:
    """The loaded networks of the diffusion and their settings.

    prompts [6, T, C]: the text embeddings of the views. normaliser: mean and standard deviation [1, D] of CLIP's
    embeddings. offload: a network is on the device only while it runs.
    """

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    image_encoder: CLIPVisionModelWithProjection
    image_processor: CLIPImageProcessorPil
    normaliser: tuple[Tensor, Tensor]
    noising: DDPMScheduler
    scheduler: DDIMScheduler
    prompts: Tensor
    device: torch.device
    offload: bool = False

    @property
    def size(self) -> int:
        """Return the side of the pictures in pixels."""
        return self.unet.config["sample_size"] * 2 ** (len(self.vae.config["block_out_channels"]) - 1)

    def generate(
        self,
        picture: np.ndarray,
        generator: torch.Generator,
        guidance: float = 3.0,
        steps: int = 50,
        progress: Progress = no_progress,
    ) -> np.ndarray:
        """Paint the six views of the person in a picture, and return them as uint8 [6, S, S, 3] in the order of VIEWS.

        picture [S, S, 3] uint8: the front view over white, cropped by photo.crop_face; S is `size`. generator: seeded,
        on any device; on the CPU it gives the same noise on every machine. guidance: its scale; 1 switches it off.

        Raises:
            UserError: the device's memory is too small.
            Cancelled: whatever `progress` raises, between two steps at the latest.
        """
        with gpu_memory_errors("painting views", "run this on the CPU" if self.offload else "switch offloading on"):
            progress("Painting views", 0.0)
            latents = None
            for done, latents in enumerate(self.denoise(picture, generator, guidance, steps), 1):  # noqa: B007
                progress("Painting views", done / (steps + 1))
            if latents is None:
                raise ValueError(f"{steps} steps paint nothing")
            views = self.decode(latents)
        progress("Painting views", 1.0)
        return views

    @torch.no_grad()
    def denoise(
        self, picture: np.ndarray, generator: torch.Generator, guidance: float = 3.0, steps: int = 50
    ) -> Iterator[Tensor]:
        """Yield the latents [6, 4, S/8, S/8] after every step; see `generate`.

        Noise is drawn in the official order: for CLIP's embedding, for the latents, then once for each step.
        """
        if picture.shape != (self.size, self.size, 3):
            raise ValueError(f"a picture of {picture.shape}; the model paints [{self.size}, {self.size}, 3]")
        embedding = self._embed(picture, generator)  # [6, 2 D]
        front = self._encode(picture)  # [6, 4, S/8, S/8]
        prompts = self.prompts.to(self.device)
        guided = guidance != 1
        if guided:  # the unguided half gets the text but no picture
            embedding, front = (torch.cat([torch.zeros_like(part), part]) for part in (embedding, front))
            prompts = prompts.repeat(2, 1, 1)
        self.scheduler.set_timesteps(steps, device=self.device)
        latents = self._noise(front[: len(VIEWS)].shape, generator) * self.scheduler.init_noise_sigma
        with self._on_device(self.unet) as unet:
            time: Any  # a tensor, where diffusers' step says int
            for time in self.scheduler.timesteps:
                noisy = torch.cat([latents.repeat(1 + guided, 1, 1, 1), front], 1)
                noisy, text, label = (part.to(unet.dtype) for part in (noisy, prompts, embedding))
                output = unet(noisy, time, encoder_hidden_states=text, class_labels=label).sample.float()
                if guided:
                    unguided, output = output.chunk(2)
                    output = unguided + guidance * (output - unguided)
                noise = self._noise(latents.shape, generator)
                latents = self.scheduler.step(output, time, latents, eta=1.0, variance_noise=noise)[0]
                yield latents

    @torch.no_grad()
    def decode(self, latents: Tensor) -> np.ndarray:
        """Decode latents [6, 4, S/8, S/8] to pictures uint8 [6, S, S, 3], one at a time to save memory."""
        with self._on_device(self.vae) as vae:
            scaled: Any = (latents / vae.config["scaling_factor"]).to(vae.dtype)  # diffusers says FloatTensor
            pictures = torch.cat([vae.decode(latent, return_dict=False)[0] for latent in scaled.split(1)])
        levels = (255 * (pictures.float() / 2 + 0.5)).round().clamp(0, 255)
        return levels.byte().permute(0, 2, 3, 1).cpu().numpy()

    def _embed(self, picture: np.ndarray, generator: torch.Generator) -> Tensor:
        """Return unCLIP's input [6, 2 D]: CLIP's embedding with a little noise, and the noise level's embedding."""
        pixels = self.image_processor(Image.fromarray(picture), return_tensors="pt").pixel_values
        with self._on_device(self.image_encoder) as encoder:
            embedding = encoder(pixels.to(self.device, encoder.dtype)).image_embeds.float()  # [1, D]
        mean, deviation = (part.to(self.device) for part in self.normaliser)
        embedding = ((embedding - mean) / deviation).expand(len(VIEWS), -1)
        level: Any = torch.zeros(1, dtype=torch.long, device=self.device)  # diffusers says IntTensor
        embedding = self.noising.add_noise(embedding, self._noise(embedding.shape, generator), level)
        embedding = embedding * deviation + mean
        cosines_and_sines = embedding.new_tensor([1.0, 0.0]).repeat_interleave(embedding.shape[1] // 2)  # of level 0
        return torch.cat([embedding, cosines_and_sines.expand_as(embedding)], 1)

    def _encode(self, picture: np.ndarray) -> Tensor:
        """Return the picture's latents, repeated for every view [6, 4, S/8, S/8]."""
        pixels = torch.tensor(picture, device=self.device).permute(2, 0, 1)[None]
        pixels = (pixels / 255 * 2 - 1).half()  # the official pipeline rounds so, at any precision of the model
        with self._on_device(self.vae) as vae:
            posterior = vae.encode(pixels.to(vae.dtype), return_dict=False)[0]
            latents = posterior.mode().float() * vae.config["scaling_factor"]
        return latents.expand(len(VIEWS), -1, -1, -1)

    def _noise(self, shape: torch.Size, generator: torch.Generator) -> Tensor:
        return torch.randn(shape, generator=generator, device=generator.device).to(self.device)

    @contextmanager
    def _on_device(self, part: Part) -> Iterator[Part]:
        """Move a network to the device while it runs, and with offloading back to the CPU afterwards."""
        part.to(self.device)
        try:
            yield part
        finally:
            if self.offload:
                part.to("cpu")


def load_mvdiffusion(
    folder: Path | str,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    offload: bool = False,
    progress: Progress = no_progress,
) -> MultiViewDiffusion:
    """Load the networks from a folder in the official layout; nothing is downloaded.

    model_index.json is ignored, because it names a class of diffusers that does something else. dtype: float32, float16
    or bfloat16; with bfloat16, pictures are still encoded and decoded in float16, because bfloat16 shows bands. The
    text encoder runs once, and its output is kept in the folder.

    Raises:
        UserError: a file is missing, damaged or of another network.
    """
    transformers.logging.disable_progress_bar()  # `progress` reports instead
    folder = Path(folder)
    place = torch.device("cpu" if offload else device)
    half = dtype if dtype == torch.float32 else torch.float16
    progress("Loading the text encoder", 0.0)
    text_encoder = folder / "text_encoder" / TRANSFORMERS_WEIGHTS
    embed = partial(_embed_prompts, folder / "tokenizer", text_encoder)
    prompts = load_or_make(folder / "prompts.safetensors", text_encoder, embed)["prompts"]
    progress("Loading the image encoder", 0.1)
    image_encoder = _load_stock(
        CLIPVisionModelWithProjection, folder / "image_encoder" / TRANSFORMERS_WEIGHTS, dtype=dtype
    )
    progress("Loading the image decoder", 0.3)
    vae = _load_stock(AutoencoderKL, folder / "vae" / DIFFUSERS_WEIGHTS, torch_dtype=half, low_cpu_mem_usage=False)
    progress("Loading the UNet", 0.4)
    needed = {
        "num_views": (len(VIEWS),),
        "in_channels": (2 * vae.config["latent_channels"],),
        "out_channels": (vae.config["latent_channels"],),
        "cross_attention_dim": (prompts.shape[-1],),
        "class_embed_type": ("projection",),
        "projection_class_embeddings_input_dim": (2 * image_encoder.config.projection_dim,),
        "encoder_hid_dim_type": (None,),
        "addition_embed_type": (None,),
    }
    unet = _load_unet(folder / "unet", dtype, needed)
    scheduler = _load_settings(DDIMScheduler, folder / "scheduler")
    _check("scheduler", scheduler.config, SCHEDULES)
    normaliser = _read_weights(folder / "image_normalizer" / DIFFUSERS_WEIGHTS, ("mean", "std"))
    progress("Loading the UNet", 1.0)
    return MultiViewDiffusion(
        unet=_put(unet, place),
        vae=_put(vae, place),
        image_encoder=_put(image_encoder, place),
        image_processor=_load_settings(CLIPImageProcessorPil, folder / "feature_extractor"),
        normaliser=(normaliser["mean"], normaliser["std"]),
        noising=_load_settings(DDPMScheduler, folder / "image_noising_scheduler"),
        scheduler=scheduler,
        prompts=prompts,
        device=torch.device(device),
        offload=offload,
    )


def _put(part: Part, device: torch.device) -> Part:
    """Move a network to a device and return it; diffusers' own `to` does not say what it returns."""
    return part.to(device)


@torch.no_grad()
def _embed_prompts(tokenizer: Path, encoder: Path) -> dict[str, Tensor]:
    """Return the text encoder's last hidden states for the views' texts: prompts [6, T, C], float32."""
    texts = [PROMPT.format(view=view) for view in VIEWS]
    tokenize = _load_settings(CLIPTokenizer, tokenizer)
    tokens = tokenize(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
    model = _load_stock(CLIPTextModel, encoder, dtype=torch.float32)
    return {"prompts": model(tokens).last_hidden_state}


def _check(part: str, config: Mapping[str, Any], allowed: Mapping[str, tuple]) -> None:
    """Raise UserError if a field of a part's config has a value that is not allowed."""
    for name, values in allowed.items():
        if name in config and config[name] not in values:
            choices = " or ".join(map(repr, values))
            raise UserError(f"The {part}'s config sets '{name}' to {config[name]!r}, but only {choices} is supported.")


def _load_unet(folder: Path, dtype: torch.dtype, needed: Mapping[str, tuple]) -> UNet2DConditionModel:
    """Load the UNet of a folder. needed: fields of its config, and the values that fit the other networks."""
    try:
        config = json.loads(read_file(folder / "config.json"))
        with torch.device("meta"):
            unet = build_unet(config)
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise _damaged(folder / "config.json", error) from None
    _check("UNet", dict(unet.config) | config, needed)
    state = _read_weights(folder / DIFFUSERS_WEIGHTS)
    try:
        unet.load_state_dict({name: value.to(dtype) for name, value in state.items()}, assign=True)
    except RuntimeError as error:
        raise _damaged(folder / DIFFUSERS_WEIGHTS, error) from None
    return unet.eval().requires_grad_(False)


def _load_stock(kind: type[Stock], weights: Path, **options) -> Stock:
    """Load a model of diffusers or transformers with all its weights, whose file is in the model's folder."""
    options |= {"local_files_only": True, "use_safetensors": True, "output_loading_info": True}
    loaded: Any  # both libraries declare the model alone, but return their report beside it
    try:
        loaded = kind.from_pretrained(weights.parent, **options)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise _damaged(weights, error) from None
    model, report = loaded
    if bad := [*report["missing_keys"], *not_finite(model.state_dict())]:
        raise _damaged(weights, KeyError(min(bad)))
    return model.eval().requires_grad_(False)


def _load_settings(kind: Any, folder: Path) -> Any:
    """Load a scheduler, tokenizer or image processor, which have a configuration but no weights."""
    try:
        return kind.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # tokenizers raise many kinds
        raise _damaged(folder, error) from None


def _read_weights(path: Path, names: Iterable[str] = ()) -> dict[str, Tensor]:
    """Read all tensors of a file; raise UserError if it lacks one of the names or holds NaN."""
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise _damaged(path, error) from None
    if bad := [*(set(names) - state.keys()), *not_finite(state)]:
        raise _damaged(path, KeyError(min(bad)))
    return state


def _damaged(path: Path, error: Exception) -> UserError:
    if not path.exists():
        return UserError(f"The diffusion model is incomplete ({path} is missing); download it again.")
    reason = textwrap.shorten(str(error) or type(error).__name__, 200)
    return UserError(f"{path} cannot be loaded ({reason}); delete it and download it again.")
