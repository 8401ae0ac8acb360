# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the README's picture of a portrait, docs/portrait.png: the photo, and the head from five sides.

    .venv/bin/python -m scripts.portrait_picture [PHOTO] [--cloud head.safetensors] [--out docs/portrait.png]

Without a photo it is scikit-image's astronaut, Eileen Collins, by NASA and in the public domain; then scikit-image must
be there (build.py install test). Without a cloud the head is made first, as `python -m backend portrait` does.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from backend.camera import Camera
from backend.complete import turn_about
from backend.gaussians import Gaussians4D, load_cloud
from backend.options import PortraitOptions
from backend.portrait.bust import RADIUS
from backend.portrait.matte import lay_over_white
from backend.portrait.photo import read_photo
from backend.portrait.pipeline import Completion
from backend.rasterize import render_pictures

SIDE = 320  # pixels of each picture
AZIMUTHS = (0.0, 35.0, -35.0, 90.0, 180.0)  # degrees, of the camera around the head
DISTANCE, FILL = 1.2, 0.95  # metres; the head's ball over the picture


def photograph_head(cloud: Gaussians4D) -> list[np.ndarray]:
    """Render a head in metres from AZIMUTHS, over white: uint8 [SIDE, SIDE, 3] each."""
    front = np.array([[1.0, 0, 0, 0], [0, 0, 1, -DISTANCE], [0, -1, 0, 0], [0, 0, 0, 1]])
    poses = turn_about(front, np.zeros(3), np.array(AZIMUTHS), np.zeros(len(AZIMUTHS)))
    focal = 0.5 * FILL * SIDE * DISTANCE / RADIUS
    shots = [(Camera(pose, focal, focal, SIDE / 2, SIDE / 2, SIDE, SIDE), cloud.time_range[0]) for pose in poses]
    return [lay_over_white(picture) for picture in render_pictures(cloud, shots)]


def fit_photo(path: Path) -> np.ndarray:
    """Return a photo's middle square, uint8 [SIDE, SIDE, 3]."""
    photo = Image.fromarray(lay_over_white(read_photo(path)))
    side = min(photo.size)
    left, top = (photo.width - side) // 2, (photo.height - side) // 2
    square = photo.crop((left, top, left + side, top + side))
    return np.asarray(square.resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def find_astronaut() -> Path:
    """Return the path of scikit-image's picture."""
    from skimage import data

    return Path(data.__file__).parent / "astronaut.png"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Make the README's picture of a portrait.")
    parser.add_argument("photo", type=Path, nargs="?")
    parser.add_argument("--cloud", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/portrait.png"))
    given = parser.parse_args()
    path = given.photo or find_astronaut()
    cloud = load_cloud(given.cloud) if given.cloud else Completion(PortraitOptions()).run(path).cloud
    row = np.concatenate([fit_photo(path), *photograph_head(cloud)], 1)
    Image.fromarray(row).save(given.out, optimize=True)
    print(given.out)


if __name__ == "__main__":
    main()
