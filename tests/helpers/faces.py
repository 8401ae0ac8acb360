# SPDX-License-Identifier: GPL-3.0-or-later
"""A photograph and a film of a person."""

from pathlib import Path

import av
import numpy as np
from skimage import data

ASTRONAUT = (181.05, 62.16, 267.75, 172.05)  # her face


def astronaut() -> np.ndarray:
    """RGBA, cut out along an ellipse."""
    row, column = np.mgrid[:512, :512]
    inside = ((column - 230) / 190) ** 2 + ((row - 280) / 270) ** 2 < 1
    return np.dstack([data.astronaut(), 255 * inside.astype(np.uint8)])


def write_video(path: Path, frames: list[np.ndarray], rotation: int = 0) -> Path:
    """25 frames a second; rotation: counterclockwise degrees by which a player shall turn them."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "5"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        if rotation:
            stream.set_display_rotation(rotation)
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path
