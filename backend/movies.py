# SPDX-License-Identifier: GPL-3.0-or-later
"""Movies: their frames as upright pictures with times, and the timecode that they begin at. Needs PyAV."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .errors import UserError

ENDINGS = (".mp4", ".mov", ".m4v", ".mkv", ".avi", ".webm", ".mxf")


@dataclass(frozen=True)
class Movie:
    """What a movie's file says of it.

    times: of its frames, in seconds from the first. rate: frames a second, 0 for a single one. timecode: of the first
    frame.
    """

    width: int
    height: int
    times: tuple[float, ...]
    rate: float
    timecode: str | None


def read_frames(
    path: Path | str, first: int = 0, last: int | None = None, every: int = 1
) -> Iterator[tuple[float, np.ndarray]]:
    """Yield a video's frames first, first + every, ... up to and including last: their seconds and upright pictures.

    Frames are counted from 0, seconds from the video's first frame. last: None for the video's end. Pictures are uint8
    [H, W, 3].

    Raises:
        UserError: PyAV or the file is missing, the video cannot be decoded, or it has no such frames.
    """
    empty = True
    with _open(path) as container:
        start = None
        for index, frame in enumerate(container.decode(video=0)):
            if frame.time is None:
                raise UserError(f"{path} does not store the times of its frames; convert it to mp4.")
            start = frame.time if start is None else start
            if last is not None and index > last:
                break
            if index >= first and (index - first) % every == 0:
                empty = False
                picture = frame.to_ndarray(format="rgb24")
                yield frame.time - start, np.rot90(picture, frame.rotation // 90)  # degrees counterclockwise
    if empty:
        raise UserError(f"{path} has no frames in the range that begins with {first}; choose another range.")


def read_movie(path: Path | str) -> Movie:
    """Read a movie's size, times and timecode; only its first frame is decoded.

    Raises:
        UserError: as `read_frames`.
    """
    with _open(path) as container:
        stream = container.streams.video[0]
        ticks = sorted(
            packet.pts
            for packet in container.demux(stream)
            if packet.pts is not None and packet.size and not packet.is_discard
        )
        if not ticks:
            raise UserError(f"{path} does not store the times of its frames; convert it to mp4.")
        base = float(stream.time_base or 0)
        # a QuickTime movie keeps it in a track of its own, others in the video's
        tags = [container.metadata, *(track.metadata for track in container.streams)]
        timecode = next((tag["timecode"] for tag in tags if "timecode" in tag), None)
    _, picture = next(read_frames(path))
    times = tuple((tick - ticks[0]) * base for tick in ticks)
    # of most frames: the average is another one where some were dropped
    rate = float(1 / np.median(np.diff(times))) if len(times) > 1 else 0.0
    return Movie(picture.shape[1], picture.shape[0], times, rate, timecode)


@contextmanager
def _open(path: Path | str) -> Iterator[Any]:
    """Open a movie that has a video stream; turn errors of decoding, also later ones, into a UserError."""
    try:
        import av
    except ImportError as error:
        raise UserError(f"Reading a video needs PyAV, which cannot be used ({error}); install av.") from None
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise UserError(f"{path} holds no video; choose another file.")
            yield container
    except (av.FFmpegError, OSError) as error:
        raise UserError(f"{path} cannot be decoded ({error}); convert it to another format, such as mp4.") from None
