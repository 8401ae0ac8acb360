# SPDX-License-Identifier: GPL-3.0-or-later
"""RealityScan: XMP and CSV files as it exports them give the cameras that were written."""

import re

import numpy as np
import pytest

from backend.calibrations.load import load_capture, open_capture
from tests.helpers import spots
from tests.helpers.complaints import complaint
from tests.helpers.realityscan_files import csv_line, xmp_text

RIG = spots.rig()


def write_xmp(folder, model="perspective", coefficients="0 0 0 0 0 0", project=None):
    for index, camera in enumerate(RIG):
        spots.save(folder / f"shot{index}.jpg", camera, project)
        (folder / f"shot{index}.xmp").write_text(xmp_text(camera, model, coefficients))
    return folder


def write_csv(folder, head="#name,x,y,alt,heading,pitch,roll,f,px,py,k1,k2,k3,k4,t1,t2", terms=(0,) * 6, project=None):
    lines = [head]
    for index, camera in enumerate(RIG):
        spots.save(folder / f"shot{index}.jpg", camera, project)
        lines.append(csv_line(f"shot{index}.jpg", camera, terms))
    (folder / "cameras.csv").write_text("\n".join(lines) + "\n")
    return folder


LATER = "#name,x,y,alt,yaw,pitch,roll,f_35mm,px_norm,py_norm,k1,k2,k3,k4,t1,t2"


@pytest.mark.parametrize("write", [write_xmp, write_csv, lambda folder: write_csv(folder, LATER)])
def test_an_export_gives_its_cameras(tmp_path, write):
    source = open_capture(write(tmp_path))
    spots.assert_same_cameras(source.cameras, RIG)
    assert source.findings == []
    assert [shot.file for shot in source.shots] == [f"shot{index}.jpg" for index in range(4)]


def test_xmp_files_lie_in_the_folder_of_the_pictures(tmp_path):
    write_xmp(tmp_path / "images")
    spots.assert_same_cameras(open_capture(tmp_path).cameras, RIG)
    spots.assert_same_cameras(open_capture(tmp_path / "images" / "shot1.xmp").cameras, RIG)


K = (-0.25, 0.1, 0.02, -0.01, 0.004, -0.003)


def brown(rays):
    """RealityScan's own export for OpenCV has t2 before t1: t2 is its p1, and t1 its p2."""
    k1, k2, k3, k4, t1, t2 = K
    x, y = rays.T
    r2 = x * x + y * y
    radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3 + k4 * r2**4
    bent_x = x * radial + 2 * t2 * x * y + t1 * (r2 + 2 * x * x)
    bent_y = y * radial + t2 * (r2 + 2 * y * y) + 2 * t1 * x * y
    return np.stack([83 + 150 * bent_x, 58 + 150 * bent_y], 1)


def division(rays, k=-0.2):
    """Solve r = r' / (1 + k r'^2) for the distorted radius r'."""
    radius = np.linalg.norm(rays, axis=1)
    bent = np.array([min(np.roots([k * r, -1, r]), key=abs).real for r in radius])
    return rays * (bent / radius)[:, None] * 150 + [83, 58]


@pytest.mark.parametrize(
    "write",
    [
        lambda folder: write_xmp(folder, "brown4t2", " ".join(map(str, K)), brown),
        lambda folder: write_xmp(folder, "division", "-0.2 0 0 0 0 0", division),
        lambda folder: write_csv(folder, terms=K, project=brown),
    ],
)
def test_distortion_is_taken_out(tmp_path, write):
    for frame in load_capture(write(tmp_path)).frames:
        assert spots.worst_miss(frame.image, frame.camera) < 0.06


def test_a_csv_with_k1_alone_is_doubted(tmp_path):
    write_csv(tmp_path, terms=(-0.1, 0, 0, 0, 0, 0))
    assert "have k1 alone, and do not say of which distortion model" in str(open_capture(tmp_path).findings[0])


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("</x:xmpmeta>", "", r"shot2\.xmp cannot be read as XML"),
        ("xcr:Rotation>", "xcr:Turn>", r"shot2\.xmp has no Rotation; align the pictures"),
        ("<xcr:Position>", "<xcr:Position>1 ", r"'Position' in .*shot2\.xmp is .* must be 3 finite numbers"),
        (
            "perspective",
            "rationalP2D1",
            r"The distortion model rationalP2D1 of .*shot2\.xmp cannot be read; align with one of",
        ),
        ('Skew="0"', 'Skew="0.1"', r"shot2\.xmp has a skew or an aspect ratio"),
        ("absolute", "relative", r"The coordinates in .*shot2\.xmp are relative"),
    ],
)
def test_bad_xmp_is_named(tmp_path, old, new, sentence):
    path = write_xmp(tmp_path) / "shot2.xmp"
    path.write_text(path.read_text().replace(old, new))
    assert re.search(sentence, complaint(tmp_path))


def test_bad_csv_is_named(tmp_path):
    path = write_csv(tmp_path) / "cameras.csv"
    good = path.read_text()
    for old, new, sentence in (
        (",t2\n", "\n", r"cameras\.csv has no column t2; export 'Internal/External camera parameters'"),
        ("shot1.jpg,", "shot1.jpg,north,", r"line 3 of .*cameras\.csv has 17 values instead of 16"),
        (",0.0\n", ",none\n", r"line 2 of .*cameras\.csv is .* must be 15 finite numbers"),
    ):
        path.write_text(good.replace(old, new, 1))
        assert re.search(sentence, complaint(tmp_path))


def test_pictures_whose_size_nothing_tells_are_asked_for(tmp_path):
    write_csv(tmp_path)
    (tmp_path / "shot1.jpg").unlink()
    assert re.search(r"no picture or movie for 'shot1\.jpg' .* name the folder of the pictures", complaint(tmp_path))
