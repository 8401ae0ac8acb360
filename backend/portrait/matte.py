# SPDX-License-Identifier: GPL-3.0-or-later
"""Mattes of people: predicted by a network or cut from a white background, and pictures laid over white."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageOps

from ..capture import has_matte
from ..errors import UserError
from .matting_models import BUNDLED, MattingModel, find_matting_file, get_matting_model, matting_folder
from .selfie_matte import SIDE, segment_person

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

WHITE_SIDE, WHITE = 128, 240  # the side in pixels at which white backgrounds are found, and the darkest white


def cut_out(photo: np.ndarray, model: str = BUNDLED) -> np.ndarray:
    """Return a photo RGBA uint8 [H, W, 4] with the person's matte as its alpha.

    A photo that has a matte is returned as it is. model: BUNDLED, one of MATTING_MODELS, or "none" for a
    photo that has a white background already.

    Raises:
        UserError: onnxruntime or the model's file is missing or damaged; nothing is downloaded.
    """
    if model == "none" or has_matte(photo):
        return photo
    if model == BUNDLED:
        return np.dstack([photo[..., :3], predict_selfie_matte(photo[..., :3])])
    alternative = "or give a photo whose alpha is the matte"
    network = get_matting_model(model)
    path = find_matting_file(model)
    if path is None:
        place = matting_folder() / f"{model}.onnx"
        raise UserError(
            f"The matting model '{model}' is not at {place}; put it there, download it with the panel's button or with "
            f"--download-matting, {alternative}."
        )
    color = photo[..., :3]
    try:
        matte = predict_matte(color, network, _open_session(path))
    except ImportError as error:
        raise UserError(f"Cutting out needs onnxruntime ({error}); install it {alternative}.") from None
    except Exception as error:  # onnxruntime raises many kinds
        raise UserError(f"The matting model {path} cannot be used ({error}); get it again {alternative}.") from None
    return np.dstack([color, matte])


def predict_selfie_matte(picture: np.ndarray) -> np.ndarray:
    """Return the opacity uint8 [H, W] of the person in a picture uint8 [H, W, 3], by the bundled network.

    Raises:
        UserError: its weights are missing or damaged.
    """
    small = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    pixels = torch.tensor(np.asarray(small)).permute(2, 0, 1)[None].float() / 255
    matte = Image.fromarray((255 * segment_person(pixels)[0]).round().byte().numpy())
    return np.asarray(matte.resize((picture.shape[1], picture.shape[0]), Image.Resampling.BICUBIC))


def predict_matte(picture: np.ndarray, model: MattingModel, session: InferenceSession) -> np.ndarray:
    """Return the opacity uint8 [H, W] of the person in a picture uint8 [H, W, 3].

    The picture is resized and normalised as in the network's training (Qin et al., U2-Net, arXiv 2005.09007; Zheng et
    al., BiRefNet, arXiv 2401.03407). As in their programs, the picture's brightest value is scaled to 1, and the output
    is stretched to 0..255.
    """
    small = Image.fromarray(picture).resize((model.side, model.side), Image.Resampling.LANCZOS)
    pixels = np.asarray(small) / max(np.asarray(small).max(), 1e-6)
    pixels = ((pixels - model.mean) / model.deviation).transpose(2, 0, 1)[None].astype(np.float32)
    output = np.asarray(session.run(None, {session.get_inputs()[0].name: pixels})[0])[0, 0]
    if model.logits:
        output = 1 / (1 + np.exp(-output))
    low, high = output.min(), output.max()
    opacity = (output - low) / (high - low) if high > low else np.zeros_like(output)
    matte = Image.fromarray((opacity * 255).astype(np.uint8))
    return np.asarray(matte.resize((picture.shape[1], picture.shape[0]), Image.Resampling.LANCZOS))


@functools.lru_cache(maxsize=1)
def _open_session(path: Path) -> InferenceSession:
    """Load an ONNX file, on the GPU if this onnxruntime can use it."""
    import onnxruntime

    # the compiled part of onnxruntime has no stubs
    available = onnxruntime.get_available_providers()  # pyright: ignore[reportAttributeAccessIssue]
    preferred = ("CUDAExecutionProvider", "CPUExecutionProvider")
    return onnxruntime.InferenceSession(path, providers=[name for name in preferred if name in available])


def lay_over_white(image: np.ndarray) -> np.ndarray:
    """Composite RGBA uint8 [H, W, 4] over white on its encoded values; return uint8 [H, W, 3]."""
    white = Image.new("RGBA", (image.shape[1], image.shape[0]), "white")
    return np.asarray(Image.alpha_composite(white, Image.fromarray(image)).convert("RGB"))


def cut_from_white(image: np.ndarray) -> np.ndarray:
    """Return RGBA uint8 [H, W, 4] with a transparent background: all nearly white areas connected to the border.

    The background is found at WHITE_SIDE pixels, which is fine enough to show a network where nothing is.
    """
    small = Image.fromarray(lay_over_white(image)).resize(2 * [WHITE_SIDE], Image.Resampling.BOX)
    white = Image.fromarray((np.asarray(small).min(-1) >= WHITE).astype(np.uint8))
    white = ImageOps.expand(white, 1, 1)
    ImageDraw.floodfill(white, (0, 0), 2)
    white = white.crop((1, 1, WHITE_SIDE + 1, WHITE_SIDE + 1))
    background = white.resize((image.shape[1], image.shape[0]), Image.Resampling.NEAREST)
    return np.dstack([image[..., :3], image[..., 3] * (np.asarray(background) != 2)])
