# SPDX-License-Identifier: GPL-3.0-or-later
"""The person's matte: cut out by a matting model, laid over white, or found again in a white background."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from ..errors import UserError

WHITE_SIDE, WHITE = 128, 240  # pixels at which a white background is looked for; the least level that counts as white
# rembg's models that fit people; docs/portrait.md has their licences
MATTING = ("u2net", "u2net_human_seg", "isnet-general-use", "birefnet-general", "birefnet-portrait")


def cut_out(photo: np.ndarray, model: str = "u2net") -> np.ndarray:
    """The photo RGBA uint8 [H, W, 4] with the person's matte as its alpha; one that has a matte stays as it is.

    model: one of MATTING, which rembg runs, or "none" for a photo that has a white background already.

    Raises:
        UserError: rembg or the model's weights are missing or damaged; nothing is downloaded.
    """
    if model == "none" or photo[..., 3].min() < 255:
        return photo
    alternative = "or give a photo whose alpha is the matte"
    if model not in MATTING:
        raise UserError(f"There is no matting model '{model}'; choose none, {', '.join(MATTING)}.")
    try:
        from rembg.sessions import sessions
    except ImportError as error:
        raise UserError(f"Cutting out needs rembg, which cannot be used ({error}); install it {alternative}.") from None
    home = Path(sessions[model].u2net_home())
    places = [home / f"{model}.onnx", home / "models" / model / f"{model}.onnx"]  # of older and newer rembg
    weights = next((place for place in places if place.is_file()), None)
    if weights is None:
        raise UserError(f"The matting model '{model}' is not at {places[0]}; put it there {alternative}.")
    color = photo[..., :3]
    try:
        matte = _matting_session(sessions[model], weights).predict(Image.fromarray(color))[0]
    except Exception as error:  # of whatever kind onnxruntime raises
        raise UserError(f"The matting model {weights} cannot be used ({error}); get it again {alternative}.") from None
    return np.dstack([color, np.asarray(matte.convert("L"))])


@functools.lru_cache(maxsize=1)
def _matting_session(kind: type, weights: Path) -> Any:
    """rembg's session of a kind, with weights that are here: by itself it would download what it misses."""
    from onnxruntime import SessionOptions

    class Local(kind):
        @classmethod
        def download_models(cls, *_, **__) -> str:
            return str(weights)

    return Local(kind.name(), SessionOptions())


def lay_over_white(cut: np.ndarray) -> np.ndarray:
    """RGBA uint8 [H, W, 4] over white on its encoded values -> uint8 [H, W, 3]."""
    white = Image.new("RGBA", (cut.shape[1], cut.shape[0]), "white")
    return np.asarray(Image.alpha_composite(white, Image.fromarray(cut)).convert("RGB"))


def cut_from_white(image: np.ndarray) -> np.ndarray:
    """RGBA uint8 [H, W, 4] with its white background clear: all that is nearly white and connected with the border.

    Looked for at WHITE_SIDE pixels, which is fine enough to tell a network where nothing is.
    """
    small = Image.fromarray(lay_over_white(image)).resize(2 * [WHITE_SIDE], Image.Resampling.BOX)
    white = Image.fromarray((np.asarray(small).min(-1) >= WHITE).astype(np.uint8))
    white = ImageOps.expand(white, 1, 1)
    ImageDraw.floodfill(white, (0, 0), 2)
    background = white.crop((1, 1, WHITE_SIDE + 1, WHITE_SIDE + 1)).resize(image.shape[1::-1], Image.Resampling.NEAREST)
    return np.dstack([image[..., :3], image[..., 3] * (np.asarray(background) != 2)])
