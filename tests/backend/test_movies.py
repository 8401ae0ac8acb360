# SPDX-License-Identifier: GPL-3.0-or-later
"""Movies are read frame by frame with their times and their alpha, whatever program has made them."""

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from backend import movies
from backend.movies import Film, read_frames, read_movie

HEIGHT, WIDTH = 96, 128


def square(step: int) -> np.ndarray:
    """Return an orange square RGBA that moves to the right, and is opaque where it is."""
    image = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    image[0, 0, 3] = 1  # without any, WebP's encoder stores opaque squares on a canvas that is called opaque
    image[20:70, 10 + 10 * step : 60 + 10 * step] = 200, 100, 40, 255
    return image


def film(path: Path, codec: str, kind: str) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, kind
        for step in range(4):
            frame = av.VideoFrame.from_ndarray(square(step), format="rgba")
            container.mux(stream.encode(frame.reformat(format=kind)))
        container.mux(stream.encode())
    return path


def animate(path: Path, duration: int | list[int] = 40, **settings) -> Path:
    pictures = [Image.fromarray(square(step)) for step in range(4)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=duration, loop=0, **settings)
    return path


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: film(folder / "prores.mov", "prores_ks", "yuva444p10le"),
        lambda folder: film(folder / "animation.mov", "qtrle", "argb"),
        lambda folder: film(folder / "vp9.webm", "libvpx-vp9", "yuva420p"),
        lambda folder: animate(folder / "a.gif", disposal=2),
        lambda folder: animate(folder / "a.webp", lossless=True),
        lambda folder: animate(folder / "a.png"),
    ],
)
def test_a_videos_alpha_is_read(tmp_path, make):
    path = make(tmp_path)
    movie, frames = read_movie(path), list(read_frames(path))
    assert (movie.width, movie.height, len(movie.times)) == (WIDTH, HEIGHT, 4)
    assert movie.rate == pytest.approx(25, rel=0.05)
    for step, (time, image) in enumerate(frames):
        assert time == pytest.approx(step / 25, abs=0.002)
        assert np.abs(image[..., 3].astype(int) - square(step)[..., 3]).mean() < 2
        inside = square(step)[..., 3] > 0
        assert np.abs(image[inside][:, :3].astype(int) - [200, 100, 40]).mean() < 8


def test_a_video_without_alpha_is_opaque(tmp_path):
    assert all((image[..., 3] == 255).all() for _, image in read_frames(film(tmp_path / "a.mp4", "libx264", "yuv420p")))


def test_an_animation_shows_each_picture_as_long_as_it_says(tmp_path):
    """And a tenth of a second where it does not say."""
    path = animate(tmp_path / "a.gif", duration=[100, 300, 0, 200], disposal=2)
    assert [time for time, _ in read_frames(path)] == pytest.approx([0, 0.1, 0.4, 0.5])
    chosen = list(read_frames(path, 1, 3, 2))
    assert [time for time, _ in chosen] == pytest.approx([0.1, 0.5])
    assert np.array_equal(chosen[1][1][..., 3] > 0, square(3)[..., 3] > 1)


@pytest.mark.parametrize("name", ["movie.mov", "a.gif"])
def test_a_film_is_decoded_once_in_parts_that_overlap(tmp_path, monkeypatch, name):
    path = tmp_path / name
    if name == "a.gif":
        animate(path, disposal=2)
    else:
        film(path, "qtrle", "argb")
    decoded = []

    def count(decode):
        def counted(path):
            for time, read in decode(path):
                decoded.append(time)
                yield time, read

        return counted

    monkeypatch.setattr(movies, "_decode", count(movies._decode))
    monkeypatch.setattr(movies, "_decode_animation", count(movies._decode_animation))
    truth = [picture for _, picture in read_frames(path)]
    decoded.clear()
    whole = Film(path)
    for part, expected in (([0, 1], [0, 1]), ([1, 2], [1, 2]), ([3, 2, 9], [2, 3]), ([2], [2])):
        shown = list(whole.read(part))
        assert [number for number, _ in shown] == expected
        assert all(np.array_equal(picture, truth[number]) for number, picture in shown)
    assert len(decoded) == 4
    ((number, picture),) = whole.read([1])
    assert number == 1 and np.array_equal(picture, truth[1])
