# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with the times, pictures and movies of a take is told for every format, and the rest is read."""

import json
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from backend.calibrations.load import open_capture, read_capture
from backend.capture import Capture
from backend.import_options import ImportOptions
from tests.helpers import one_take
from tests.helpers.movie_files import write_movie
from tests.helpers.one_take import CAMERAS, FORMATS, FRAMES, Format, check

FLAWED = {name: form for name, form in FORMATS.items() if not form.films}  # movies are tested by themselves


@pytest.mark.parametrize("name", [name for name, form in FLAWED.items() if form.options.fps])
def test_a_frame_that_a_camera_dropped_changes_no_time_and_is_told(tmp_path, name):
    form = FORMATS[name]
    options = form.write(tmp_path)
    (tmp_path / form.name(2, 1)).unlink()
    check(name, tmp_path, options, {}, r"Camera '\w*2' lacks 1 of 3 frames, such as 1\. Nothing is to be done")
    times = sorted(shot.time for shot in open_capture(tmp_path, options).shots)
    assert times == pytest.approx([0.0] * 4 + [0.04] * 3 + [0.08] * 4)


NO_TIMES = (
    r"Nothing tells when the 12 pictures were taken, so they are read as one moment\. .* with --fps, or a table with"
)


@pytest.mark.parametrize("name", [name for name, form in FLAWED.items() if form.options.fps])
def test_times_that_nothing_tells_are_asked_for(tmp_path, name):
    options = replace(FORMATS[name].write(tmp_path), fps=0.0)
    crowd = (
        r"Camera '\w+' took several pictures, such as \S+\.png, but nothing tells when; give .* with --fps, or a table"
    )
    each = ("COLMAP text", "COLMAP binary", "Metashape", "RealityScan XMP", "RealityScan CSV")
    check(name, tmp_path, options, dict.fromkeys(each, NO_TIMES), crowd)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        (
            "camera,offset\ncam9,0.5\n",
            r"TAKE/t\.csv names camera 'cam9', but the cameras with pictures are .* correct the",
        ),
        (
            "picture,time\nnone.png,1\n",
            r"The table of times names 1 picture that is not there: none\.png\. Restore them",
        ),
        ("picture,time\nnone.png,soon\n", r"The time 'soon' in line 2 of TAKE/t\.csv is neither seconds .* correct it"),
    ],
)
def test_a_table_of_times_that_does_not_fit_is_named(tmp_path, name, table, sentence):
    options = FORMATS[name].write(tmp_path)
    (tmp_path / "t.csv").write_text(table)
    check(name, tmp_path, replace(options, times=tmp_path / "t.csv"), {}, sentence)


def _drop_times(folder: Path, name: str) -> None:
    document = json.loads((folder / name).read_text())
    for entry in document["frames"][::2]:
        del entry["time"]
    del document["frames"][1]["time"]
    (folder / name).write_text(json.dumps(document))


@pytest.mark.parametrize("name", ["nerfstudio", "D-NeRF", "colmap4d"])
def test_times_of_a_calibration_that_lack_pictures_are_named(tmp_path, name):
    """The others keep no times of their own."""
    options = FORMATS[name].write(tmp_path)
    if name == "colmap4d":
        (tmp_path / "sparse/0/times.txt").write_text("10 0\n20 0\n")
        sentence = r"The times beside TAKE/sparse/0 lack the picture 'cam2_0000\.png' \(number 30\); export them again"
    else:
        _drop_times(tmp_path, FORMATS[name].files[0])
        sentence = r"TAKE/transforms\w*\.json gives a time for 5 of 12 frames; give one to every frame, or to none"
    check(name, tmp_path, options, {}, sentence)


def _save_exr(path: Path, pixels: np.ndarray) -> None:
    """Write sRGB levels [H, W, 3] as linear light, by sRGB's formula."""
    levels = pixels / 255
    light = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4).astype(np.float32)
    with av.open(str(path), "w", format="image2") as file:
        stream = file.add_stream("exr", rate=1)
        stream.height, stream.width = light.shape[:2]
        stream.pix_fmt = "gbrpf32le"
        file.mux(stream.encode(av.VideoFrame.from_ndarray(light, format="gbrpf32le")))
        file.mux(stream.encode())


def read(form: Format, folder: Path, options: ImportOptions) -> Capture:
    source = open_capture(folder, options)
    assert source.findings == []
    return read_capture(source)


@pytest.mark.parametrize("name", FLAWED)
def test_pictures_of_16_bits_and_exr_are_read_as_the_others(tmp_path, name):
    """The cameras 1 and 2 have other pictures than the calibration knew; nothing is to be said."""
    form = FORMATS[name]
    (tmp_path / "plain").mkdir()
    expected = read(form, tmp_path / "plain", form.write(tmp_path / "plain"))
    (tmp_path / "deep").mkdir()
    options = form.write(tmp_path / "deep")
    for frame in FRAMES:
        path = tmp_path / "deep" / form.name(1, frame)
        gray = np.asarray(Image.open(path))[..., 0]
        Image.fromarray(257 * gray.astype(np.uint16)).save(path)
        path = tmp_path / "deep" / form.name(2, frame)
        _save_exr(path.with_suffix(".exr"), np.asarray(Image.open(path)))
        path.unlink()
    found = read(form, tmp_path / "deep", options)
    assert [frame.time for frame in found.frames] == [frame.time for frame in expected.frames]
    for ours, other in zip(found.frames, expected.frames, strict=True):
        assert np.abs(ours.image[..., :1].astype(int) - other.image[..., :1]).max() <= 1
        np.testing.assert_array_equal(ours.camera.camera_to_world, other.camera.camera_to_world)


@pytest.mark.parametrize("name", FORMATS)
def test_a_camera_of_half_the_resolution_is_brought_to_that_of_the_others_and_told(tmp_path, name):
    form = FORMATS[name]
    options = form.write(tmp_path)
    small = [
        np.asarray(Image.fromarray(one_take.picture(one_take.rig()[2], f, form.bends)).resize((24, 18))) for f in FRAMES
    ]
    if form.films:
        write_movie(tmp_path / form.name(2, 0), small, [frame / one_take.RATE for frame in FRAMES])
    for frame in FRAMES if not form.films else ():
        Image.fromarray(small[frame]).save(tmp_path / form.name(2, frame))
    check(
        name,
        tmp_path,
        options,
        {},
        r"3 pictures are read as 48 x 36, such as one of 24 x 18 .*: \S*2\S*, \S*, \S*2\S*\. ",
    )
    assert len(open_capture(tmp_path, options).shots) == len(CAMERAS) * len(FRAMES)


@pytest.mark.parametrize("name", [name for name, form in FORMATS.items() if form.films])
def test_a_movie_of_a_variable_rate_keeps_its_times_and_is_told(tmp_path, name):
    """Folders of pictures have no rate."""
    form = FORMATS[name]
    options = form.write(tmp_path)
    shown = [one_take.picture(one_take.rig()[2], frame, form.bends) for frame in FRAMES]
    write_movie(tmp_path / form.name(2, 0), shown, [0.0, 0.04, 0.12])
    check(
        name,
        tmp_path,
        options,
        {},
        r"The frames of cam0?2\.\w+ last 40\.0 to 80\.0 ms: its rate .* as they are stored; check",
    )
    own = [shot.time for shot in open_capture(tmp_path, options).shots if "2." in shot.file]
    assert np.diff(own) == pytest.approx([0.04, 0.08], abs=1e-3)


@pytest.mark.parametrize("name", [name for name, form in FORMATS.items() if form.films])
def test_a_movie_that_is_cut_off_is_left_out_and_named(tmp_path, name):
    form = FORMATS[name]
    options = form.write(tmp_path)
    file = tmp_path / form.name(2, 0)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    check(
        name, tmp_path, options, {}, r"1 of 4 .*: TAKE/\S*cam0?2\.\w+ cannot be decoded \(Invalid data .*\); convert it"
    )
    assert len(open_capture(tmp_path, options).shots) == 9
