# SPDX-License-Identifier: GPL-3.0-or-later
"""COLMAP: models as its documentation describes them give the cameras that were written, and bad ones are named."""

import re
import struct

import numpy as np
import pytest

from backend.calibrations.load import load_capture, open_capture
from backend.errors import UserError
from backend.import_options import ImportOptions
from tests.helpers import spots
from tests.helpers.colmap_files import write_model
from tests.helpers.complaints import complaint

RIG = spots.rig()
NAMES = [f"view {index}.png" for index in range(len(RIG))]  # COLMAP allows spaces


def write(folder, project=None, names=NAMES, **model):
    write_model(folder / "sparse" / "0", RIG, names, **model)
    for camera, name in zip(RIG, names, strict=True):
        own = project and (lambda rays, camera=camera: project(rays, camera))
        spots.save(folder / "images" / name, camera, own)
    return folder


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("place", ["", "sparse", "sparse/0", "sparse/0/images.txt"])
def test_a_model_gives_its_cameras_and_their_pictures(tmp_path, binary, place):
    write(tmp_path, binary=binary)
    source = open_capture(tmp_path / place.replace(".txt", ".bin" if binary else ".txt"))
    spots.assert_same_cameras(source.cameras, RIG)
    assert [shot.file for shot in source.shots] == NAMES
    assert source.findings == []
    assert [frame.time for _, frame in source.frames()] == [0.0] * 4


def brown(rays, k1=0.0, k2=0.0, p1=0.0, p2=0.0, k3=0.0):
    x, y = rays.T
    r2 = x * x + y * y
    radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
    return np.stack(
        [
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
        ],
        1,
    )


def equidistant(rays, k1=0.0, k2=0.0, k3=0.0, k4=0.0):
    radius = np.linalg.norm(rays, axis=1, keepdims=True)
    theta = np.arctan(radius)
    return rays / radius * theta * (1 + k1 * theta**2 + k2 * theta**4 + k3 * theta**6 + k4 * theta**8)


def fov(rays, omega):
    radius = np.linalg.norm(rays, axis=1, keepdims=True)
    return rays / radius * np.arctan(2 * radius * np.tan(omega / 2)) / omega


@pytest.mark.parametrize(
    ("model", "terms", "formula"),
    [
        ("SIMPLE_RADIAL", [-0.3], lambda rays: brown(rays, -0.3)),
        ("RADIAL", [-0.3, 0.1], lambda rays: brown(rays, -0.3, 0.1)),
        ("OPENCV", [-0.3, 0.1, 0.002, -0.003], lambda rays: brown(rays, -0.3, 0.1, 0.002, -0.003)),
        ("FULL_OPENCV", [-0.3, 0.1, 0, 0, 0.05, 0, 0, 0], lambda rays: brown(rays, -0.3, 0.1, k3=0.05)),
        ("OPENCV_FISHEYE", [0.05, -0.02, 0.01, 0.001], lambda rays: equidistant(rays, 0.05, -0.02, 0.01, 0.001)),
        ("SIMPLE_RADIAL_FISHEYE", [0.05], lambda rays: equidistant(rays, 0.05)),
        ("RADIAL_FISHEYE", [0.05, -0.02], lambda rays: equidistant(rays, 0.05, -0.02)),
        ("THIN_PRISM_FISHEYE", [0.05, 0, 0, 0, 0.01, 0, 0, 0], lambda rays: equidistant(rays, 0.05, 0, 0.01)),
        ("FOV", [0.8], lambda rays: fov(rays, 0.8)),
    ],
)  # fmt: skip
def test_distortion_is_taken_out(tmp_path, model, terms, formula):
    one = model.startswith("SIMPLE") or model in ("RADIAL", "RADIAL_FISHEYE")

    def parameters(camera):
        return [*([camera.fx] if one else [camera.fx, camera.fy]), camera.cx, camera.cy, *terms]

    def project(rays, camera):
        return formula(rays) * [camera.fx, camera.fy] + [camera.cx, camera.cy]

    write(tmp_path, project, model=model, parameters=parameters, binary=True)
    for frame, truth in zip(load_capture(tmp_path).frames, RIG, strict=True):
        np.testing.assert_allclose(frame.camera.camera_to_world, truth.camera_to_world, atol=1e-6)
        assert spots.worst_miss(frame.image, frame.camera) < 0.06


def test_full_opencv_without_distortion_is_a_pinhole(tmp_path):
    write(tmp_path, model="FULL_OPENCV", parameters=lambda c: [c.fx, c.fy, c.cx, c.cy, *[0.0] * 8])
    source = open_capture(tmp_path)
    spots.assert_same_cameras(source.cameras, RIG)
    assert all(source.plain_file(index) for index in range(4))


@pytest.mark.parametrize("child", ["", "sparse/0", "sparse"])
def test_a_model_for_each_frame_is_a_clip(tmp_path, child):
    names = [f"cam{index}.png" for index in range(4)]
    for frame in (10, 11, 13):
        write_model(tmp_path / f"colmap_{frame}" / child, RIG, names)
        for camera, name in zip(RIG, names, strict=True):
            spots.save(tmp_path / f"colmap_{frame}" / "images" / name, camera)
    source = open_capture(tmp_path, ImportOptions(fps=25))
    spots.assert_same_cameras(source.cameras, RIG * 3)
    assert [shot.time for shot in source.shots] == pytest.approx([0] * 4 + [0.04] * 4 + [0.12] * 4)
    with pytest.raises(UserError, match="nothing tells when; give the frames a second of their numbers with --fps"):
        open_capture(tmp_path)


def test_frames_with_worlds_of_their_own_are_reported(tmp_path):
    for frame in (0, 1):
        moved = spots.rig()
        for camera in moved:
            camera.camera_to_world[:3, 3] += 0.5 * frame
        write_model(tmp_path / f"frame_{frame}", moved, NAMES)
        for camera, name in zip(RIG, NAMES, strict=True):
            spots.save(tmp_path / f"frame_{frame}" / "images" / name, camera)
    assert "each frame may have a world of its own" in str(open_capture(tmp_path, ImportOptions(fps=1)).findings[0])


@pytest.mark.parametrize("binary", [False, True])
def test_times_beside_a_model_are_its_pictures_times(tmp_path, binary):
    """As colmap4d 1.0 specifies: nanoseconds by the picture's number, in times.txt or times.bin."""
    write(tmp_path)
    times = {10: 0, 20: 41_666_667, 30: 83_333_333, 40: 83_333_333}
    folder = tmp_path / "sparse" / "0"
    if binary:
        (folder / "times.bin").write_bytes(
            struct.pack("<Q", 4) + b"".join(struct.pack("<Iq", *item) for item in times.items())
        )
    else:
        (folder / "times.txt").write_text("# IMAGE_ID T_NS\n" + "".join(f"{i} {t}\n" for i, t in times.items()))
    assert [shot.time for shot in open_capture(tmp_path).shots] == pytest.approx(np.array([*times.values()]) * 1e-9)


def edit(name, old, new):
    def change(folder):
        path = folder / "sparse" / "0" / name
        path.write_text(path.read_text().replace(old, new, 1))

    return change


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda folder: (folder / "sparse/0/cameras.txt").unlink(), r"cameras\.txt is missing; export the whole"),
        (edit("cameras.txt", "PINHOLE 160", "PINHOLE wide"), r"cameras\.txt is not as COLMAP writes it: line 3 is no"),
        (
            edit("cameras.txt", "PINHOLE", "SPHERICAL"),
            "Camera 1 in .* has COLMAP's model SPHERICAL, which cannot be read",
        ),
        (edit("cameras.txt", "PINHOLE", "OPENCV"), r"Camera 1 in .* has 4 parameters, but OPENCV has 8"),
        (edit("images.txt", " 1 view", " 9 view"), r"'view 0\.png' in .* has camera 9, which cameras\.txt lacks"),
        (edit("images.txt", "10 ", "10 7"), r"The rotation of 'view 0\.png' is no quaternion"),
        (edit("images.txt", " 1 view 0.png", ""), r"images\.txt is not as COLMAP writes it: line 2"),
        (lambda folder: (folder / "sparse/0/images.txt").write_text("# nothing\n"), "lists no pictures"),
        (lambda folder: (folder / "sparse/0/times.txt").write_text("10 0\n"), r"lack the picture 'view 1\.png'"),
    ],
)
def test_bad_models_are_named(tmp_path, change, sentence):
    write(tmp_path)
    change(tmp_path)
    assert re.search(sentence, complaint(tmp_path))


@pytest.mark.parametrize("name", ["cameras.bin", "images.bin"])
def test_binary_files_that_are_cut_off_are_named(tmp_path, name):
    write(tmp_path, binary=True)
    path = tmp_path / "sparse" / "0" / name
    for length in (0, 7, 40, path.stat().st_size - 1):
        path.write_bytes(path.read_bytes()[:length])
        with pytest.raises(UserError, match=rf"{name} is not as COLMAP writes it: it is cut off or malformed"):
            open_capture(tmp_path)
        write(tmp_path, binary=True)


def test_a_binary_model_of_an_unknown_kind_is_named(tmp_path):
    write(tmp_path, binary=True, model="RAD_TAN_THIN_PRISM_FISHEYE", parameters=lambda camera: [1.0] * 16)
    with pytest.raises(
        UserError, match=r"Camera 1 in .* has COLMAP's model RAD_TAN_THIN_PRISM_FISHEYE, which cannot be read"
    ):
        open_capture(tmp_path)
