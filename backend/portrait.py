# SPDX-License-Identifier: GPL-3.0-or-later
"""One photo of a person to a head of 3D Gaussians, as FaceLift does it (Lyu et al., arXiv 2412.17812).

The photo is cut out, laid over white and cropped so that the face has the place and size it has in FaceLift's training
pictures; the multi-view diffusion paints six views around the head, and GS-LRM turns those into Gaussians. The world is
GS-LRM's: z up, the face looks toward -y, the head in the unit box.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import ExifTags, Image, ImageDraw, ImageOps

from .camera import Camera
from .capture import read_image
from .errors import Progress, UserError, no_progress
from .gaussians import Gaussians4D
from .gslrm import COMMAND_LINE_FILTER, GSLRM, PostFilter
from .mtcnn import Face, detect_faces

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels

SMALLEST = 64  # pixels of a photo's shorter side
# means over FaceLift's training pictures of the front, of 512 x 512 pixels: the face box's side and its centre
CROP, FACE_SIDE, FACE_CENTRE = 512, 194.2749650813705, (251.83270369057132, 280.0133630862363)
CERTAIN = 0.8  # what is less probably a face is none
OUTSIDE = 0.1  # of the face box's side: how far it may reach out of the picture
AZIMUTHS = (270, 225, 180, 90, 0, 315)  # of mvdiffusion.VIEWS, in degrees
DISTANCE, FIELD_OF_VIEW = 2.7, 50  # of the six cameras, the latter in degrees
CROWN, CHIN = 0.69, -0.47  # heights in GS-LRM's world: of a head in FaceLift's training data, of the face box's edge
METRES = 0.24 / (CROWN - CHIN)  # of GS-LRM's unit on a human head
LARGEST = 2 * Image.MAX_IMAGE_PIXELS  # pixels of a photo scaled for its crop
WHITE_SIDE, WHITE = 128, 240  # pixels at which a white background is looked for; the least level that counts as white
# rembg's models that fit people; docs/portrait.md has their licences
MATTING = ("u2net", "u2net_human_seg", "isnet-general-use", "birefnet-general", "birefnet-portrait")


def read_photo(path: Path | str) -> np.ndarray:
    """Reads any picture upright as RGBA uint8 [H, W, 4], straight alpha.

    Raises:
        UserError: the file is missing, damaged, no picture, or too small.
    """
    path = Path(path)
    photo = Image.fromarray(read_image(path))
    with Image.open(path) as file:
        file.load()  # which turns a TIFF upright, and forgets its orientation
        photo.getexif()[ExifTags.Base.Orientation] = file.getexif().get(ExifTags.Base.Orientation, 1)
    photo = ImageOps.exif_transpose(photo)
    if min(photo.size) < SMALLEST:
        raise UserError(f"{path} is {photo.width} x {photo.height}; choose a photo of at least {SMALLEST} pixels.")
    return np.asarray(photo)


def is_upright(path: Path | str) -> bool:
    """Whether a picture's file stores it upright, rather than saying how to turn it."""
    with Image.open(path) as file:
        return file.getexif().get(ExifTags.Base.Orientation, 1) == 1


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


def find_face(picture: np.ndarray, index: int | None = None) -> Box:
    """The box of a face in a picture uint8 [H, W, 3]: the largest, or by its index from the left, beginning with 0.

    Raises:
        UserError: no face, none of that index, or one that the picture's border cuts.
    """
    faces = [face for face in detect_faces(picture) if face.probability > CERTAIN]
    return choose_face(faces, picture.shape[1], picture.shape[0], index)


def choose_face(faces: list[Face], width: int, height: int, index: int | None = None) -> Box:
    """The box of one of the faces in a picture of width x height; see find_face."""
    if not faces:
        raise UserError("No face was found; choose a photo that shows one from the front, or place its box by hand.")
    if index is None:
        face = max(faces, key=lambda face: face.area)
    else:
        if not 0 <= index < len(faces):
            shown = "one face" if len(faces) == 1 else f"{len(faces)} faces"
            raise UserError(f"The photo shows {shown}; choose an index from 0 to {len(faces) - 1}.")
        face = sorted(faces, key=lambda face: face.box[0])[index]
    left, top, right, bottom = face.box
    beyond = max(-left, -top, right - width, bottom - height)
    if beyond > OUTSIDE * math.sqrt(face.area):
        raise UserError("The border of the photo cuts the face; choose a photo that shows the whole head.")
    return face.box


def crop_face(picture: np.ndarray, box: Box) -> np.ndarray:
    """The canonical crop: a picture uint8 [H, W, 3] over white, scaled and moved -> uint8 [512, 512, 3].

    The box's side and centre come to lie where they do in FaceLift's training pictures, up to the official rounding.

    Raises:
        UserError: the box has no size, lies outside of the picture, or is too small in it.
    """
    height, width = picture.shape[:2]
    left, top, right, bottom = box
    if not (max(left, 0) < min(right, width) and max(top, 0) < min(bottom, height)):
        raise UserError("The face box does not lie on the photo; place it on the face.")
    ratio = FACE_SIDE / (((right - left) + (bottom - top)) / 2)
    scaled = int(width * ratio), int(height * ratio)
    if min(scaled) < 1:
        raise UserError("The face box is far larger than the photo; place it on the face.")
    if scaled[0] * scaled[1] > LARGEST:
        raise UserError("The face is very small in the photo; cut the photo down to the head and try again.")
    centre = int((left + right) / 2 * ratio), int((top + bottom) / 2 * ratio)
    offset = [wanted - found for wanted, found in zip(FACE_CENTRE, centre, strict=True)]
    low = (int(max(0, -move)) for move in offset)
    high = (int(min(size, CROP - move)) for size, move in zip(scaled, offset, strict=True))
    seen = Image.fromarray(picture).resize(scaled, Image.Resampling.BICUBIC).crop((*low, *high))
    canvas = Image.new("RGB", (CROP, CROP), "white")
    canvas.paste(seen, tuple(int(max(0, move)) for move in offset))
    return np.asarray(canvas)


def prepare_front(
    photo: np.ndarray, matting: str = "u2net", index: int | None = None, box: Box | None = None
) -> tuple[np.ndarray, Camera]:
    """A photo RGBA uint8 [H, W, 4] to the front view that the diffusion starts from, uint8 [512, 512, 3].

    matting, index: see cut_out and find_face. box: the face's, placed by hand instead of found. Returns also the
    photo's camera, see photo_camera.

    Raises:
        UserError: see cut_out, find_face and crop_face.
    """
    picture = lay_over_white(cut_out(photo, matting))
    box = find_face(picture, index) if box is None else box
    return crop_face(picture, box), photo_camera(box, picture.shape[1], picture.shape[0])


def photo_camera(box: Box, width: int, height: int) -> Camera:
    """The camera of a photo of width x height pixels with a face's box in it, in GS-LRM's world.

    It stands where the front view's does; the canonical crop is a part of its picture, but for crop_face's rounding.
    """
    corner, pixel = canonical_crop(box)
    front = six_cameras()[0].resize(*2 * [CROP * pixel])
    return front.crop(*-corner, width, height)


def canonical_crop(box: Box) -> tuple[np.ndarray, float]:
    """Where the canonical crop is in the picture that holds the face's box: its left and top [2], and the side of its
    pixels, in the picture's pixels. It may reach out of the picture."""
    left, top, right, bottom = box
    pixel = ((right - left) + (bottom - top)) / 2 / FACE_SIDE
    return np.array([left + right, top + bottom]) / 2 - np.array(FACE_CENTRE) * pixel, pixel


def six_cameras(size: int = CROP) -> list[Camera]:
    """The cameras of mvdiffusion.VIEWS, in that order, for pictures of size x size pixels."""
    focal = size / 2 / math.tan(math.radians(FIELD_OF_VIEW / 2))
    cameras = []
    for azimuth in AZIMUTHS:
        towards = np.array([math.cos(math.radians(azimuth)), math.sin(math.radians(azimuth)), 0.0])
        pose = np.eye(4)
        pose[:3, :3] = np.stack([np.cross(-towards, [0, 0, 1]), [0, 0, -1], -towards], 1)  # right, down, forward
        pose[:3, 3] = DISTANCE * towards
        cameras.append(Camera(pose, focal, focal, size / 2, size / 2, size, size))
    return cameras


def lift_views(
    views: np.ndarray,
    cameras: Sequence[Camera],
    model: GSLRM,
    post_filter: PostFilter = COMMAND_LINE_FILTER,
    progress: Progress = no_progress,
) -> tuple[Gaussians4D, torch.Tensor]:
    """Pictures of one head uint8 [V, H, W, 3] over white to a cloud that stands still, on the CPU, in GS-LRM's world.

    cameras: of the views, in GS-LRM's world, such as six_cameras. Runs where the model is, on CUDA in bfloat16. Returns
    what passes the filter, and which of the model's outputs that is: int64 [N], ascending.

    Raises:
        UserError: the GPU's memory is too small.
        Cancelled: whatever `progress` raises, between two layers at the latest.
    """
    device = model.embed.weight.device
    images = torch.tensor(views, device=device).permute(0, 3, 1, 2)[None].float() / 255
    poses = np.stack([camera.camera_to_world for camera in cameras])
    intrinsics = np.stack([camera.intrinsics for camera in cameras])
    rig = (torch.as_tensor(part, dtype=torch.float32, device=device)[None] for part in (poses, intrinsics))
    hooks = [
        block.register_forward_pre_hook(lambda *_, done=index: progress("Lifting the views", done / len(model.blocks)))
        for index, block in enumerate(model.blocks)
    ]
    try:
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            splats = model(images, *rig).select(0)
    except torch.OutOfMemoryError:
        raise UserError("The GPU's memory is too small for lifting the views; run this on the CPU.") from None
    finally:
        for hook in hooks:
            hook.remove()
    (kept,) = post_filter.keep(splats).nonzero(as_tuple=True)
    cloud = splats.select(kept).cloud().to("cpu")
    progress("Lifting the views", 1.0)
    return cloud, kept.cpu()
