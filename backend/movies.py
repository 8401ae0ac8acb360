# SPDX-License-Identifier: GPL-3.0-or-later
"""Movies: their frames as upright pictures with times, and the timecode that they begin at. Needs PyAV.

Animated GIF, WebP, PNG and AVIF are movies that Pillow reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .errors import UserError
from .picture_files import count_animated, is_animation, open_picture

ENDINGS = (".mp4", ".mov", ".m4v", ".mkv", ".avi", ".webm", ".mxf", ".gif")
UNTOLD = 100  # milliseconds that a picture is shown for which an animation tells no time, as in browsers
WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
Read = Callable[[], np.ndarray]


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

    Frames are counted from 0, seconds from the video's first frame. last: None for the video's end. Pictures are RGBA
    uint8 [H, W, 4], straight alpha. Animated GIF, WebP, PNG and AVIF are videos, too.

    Raises:
        UserError: PyAV or the file is missing, the video cannot be decoded, or it has no such frames.
    """
    empty = True
    for index, (time, read) in enumerate(_decode_animation(path) if is_animation(Path(path)) else _decode(path)):
        if last is not None and index > last:
            break
        if index >= first and (index - first) % every == 0:
            empty = False
            yield time, read()
    if empty:
        raise UserError(f"{path} has no frames in the range that begins with {first}; choose another range.")


class Film:
    """A movie that is read in parts, each of later frames than the one before, and decoded once for all of them.

    Parts may overlap: the pictures of the last part are kept. A part that begins before what the last one began with is
    decoded from the movie's beginning.
    """

    def __init__(self, path: Path | str):
        self._path = path
        self._kept: dict[int, np.ndarray] = {}
        self._start()

    def _start(self) -> None:
        is_animated = is_animation(Path(self._path))
        self._coming = enumerate(_decode_animation(self._path) if is_animated else _decode(self._path))
        self._next = 0  # the number of the frame that comes

    def read(self, numbers: Iterable[int]) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the frames of the given numbers, counted from 0, in their order of time, as far as there are any.

        Pictures are as those of read_frames.

        Raises:
            UserError: as read_frames; frames before the damaged one have been yielded.
        """
        wanted = sorted(set(numbers))
        self._kept = {number: self._kept[number] for number in wanted if number in self._kept}
        for number in wanted:
            if number not in self._kept:
                if number < self._next:
                    self._start()
                picture = self._advance(number)
                if picture is None:
                    return
                self._kept[number] = picture
            yield number, self._kept[number]

    def _advance(self, number: int) -> np.ndarray | None:
        """Decode up to a frame and return its picture; None if the movie has ended."""
        for index, (_, read) in self._coming:
            self._next = index + 1
            if index == number:
                return read()
        return None


def read_movie(path: Path | str) -> Movie:
    """Read a movie's size, times and timecode; only its first frame is decoded, but all of an animation.

    Raises:
        UserError: as `read_frames`.
    """
    timecode = None
    if is_animation(Path(path)):
        times = tuple(time for time, _ in _decode_animation(path))
    else:
        times, timecode = _read_times(path)
    _, picture = next(read_frames(path))
    # of most frames: the average is another one where some were dropped
    rate = float(1 / np.median(np.diff(times))) if len(times) > 1 else 0.0
    return Movie(picture.shape[1], picture.shape[0], times, rate, timecode)


def _read_times(path: Path | str) -> tuple[tuple[float, ...], str | None]:
    """Return the times of a movie's frames in seconds from the first, and its timecode."""
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
    return tuple((tick - ticks[0]) * base for tick in ticks), timecode


def _decode_animation(path: Path | str) -> Iterator[tuple[float, Read]]:
    """Yield the seconds of an animation's pictures, and a function that returns the picture that is current."""
    with open_picture(Path(path)) as film:
        time = 0.0
        for number in range(count_animated(film)):
            film.seek(number)
            film.load()
            yield time, lambda: np.asarray(film.convert("RGBA"))
            time += (film.info.get("duration") or UNTOLD) / 1000


def _decode(path: Path | str) -> Iterator[tuple[float, Read]]:
    """Yield the seconds of a movie's frames, and a function that returns the picture of each."""
    with _open(path) as container:
        start = None
        for frame in _decode_stream(container):
            if frame.time is None:
                raise UserError(f"{path} does not store the times of its frames; convert it to mp4.")
            start = frame.time if start is None else start
            yield frame.time - start, lambda frame=frame: _upright(frame)


def _decode_stream(container: Any) -> Iterator[Any]:
    """Yield the frames of the first video stream; with their alpha, which FFmpeg's own decoder of VP8 and VP9 drops."""
    import av

    stream = container.streams.video[0]
    decoder = WITH_ALPHA.get(stream.codec_context.name)
    if stream.metadata.get("alpha_mode") != "1" or decoder not in av.codecs_available:
        yield from container.decode(stream)
        return
    context: Any = av.CodecContext.create(decoder, "r")
    for packet in container.demux(stream):
        for frame in context.decode(packet):
            frame.time_base = stream.time_base
            yield frame


def _upright(frame: Any) -> np.ndarray:
    return np.rot90(frame.to_ndarray(format="rgba"), frame.rotation // 90)  # degrees counterclockwise


@contextmanager
def _open(path: Path | str) -> Iterator[Any]:
    """Open a movie that has a video stream; turn errors of decoding, also later ones, into a UserError."""
    try:
        import av
    except ImportError as error:
        raise UserError(f"Reading a video needs PyAV, which cannot be used ({error}); install av.") from None
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            if not container.streams.video:
                raise UserError(f"{path} holds no video; choose another file.")
            if container.streams.video[0].codec_context is None:
                raise UserError(f"{path} has a codec that is not known; convert it to another format, such as mp4.")
            yield container
    except (av.FFmpegError, OSError) as error:
        raise UserError(
            f"{path} cannot be decoded ({error.strerror or error}); convert it to another format, such as mp4."
        ) from None
