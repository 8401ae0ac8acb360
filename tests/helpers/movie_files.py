# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes movies without loss, with the times and timecode that a camera would store."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def write_movie(path: Path, pictures: list[np.ndarray], times: list[float], timecode: str | None = None) -> None:
    """Write RGB pictures [H, W, 3] shown at times in seconds; a timecode of the first, which .mov and .mp4 can hold."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264rgb", rate=25, options={"crf": "0", "preset": "ultrafast"})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "rgb24"
        stream.codec_context.time_base = Fraction(1, 60_000)
        if timecode:
            stream.metadata["timecode"] = timecode
        for picture, time in zip(pictures, times, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(60_000 * time), Fraction(1, 60_000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
