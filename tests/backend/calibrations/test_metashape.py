# SPDX-License-Identifier: GPL-3.0-or-later
"""Metashape: an XML as it exports gives the cameras that were written, through chunk and component transforms."""

import re

import numpy as np
import pytest

from backend.calibrations.load import load_capture, open_capture
from backend.errors import UserError
from tests.helpers import spots
from tests.helpers.complaints import complaint

RIG = spots.rig()
NAMES = [f"IMG_{index}" for index in range(len(RIG))]  # labels have no ending


def text(array) -> str:
    return " ".join(repr(float(value)) for value in np.ravel(array))


def write(folder, terms="", kind="frame", inner=None, chunk="", cameras=None, project=None):
    """Write an XML with a sensor for all cameras; inner: from world to chunk, or to a component's coordinates."""
    inner = np.eye(4) if inner is None else inner
    scale = np.cbrt(np.linalg.det(inner[:3, :3]))
    rows = []
    for index, camera in enumerate(RIG):
        pose = inner @ camera.camera_to_world
        pose[:3, :3] /= scale
        rows.append(
            f'<camera id="{index}" sensor_id="0" component_id="0" label="{NAMES[index]}" enabled="true">'
            f"<transform>{text(pose)}</transform><orientation>1</orientation></camera>"
        )
        spots.save(folder / f"{NAMES[index]}.jpg", camera, project)
    (folder / "cameras.xml").write_text(
        f"""<?xml version="1.0" encoding="UTF-8"?>
<document version="2.0.0"><chunk label="Chunk 1" enabled="true">
<sensors next_id="1"><sensor id="0" label="Alpha 7" type="{kind}"><resolution width="160" height="120"/>
<calibration type="{kind}" class="initial"><resolution width="160" height="120"/><f>1.0</f></calibration>
<calibration type="{kind}" class="adjusted"><resolution width="160" height="120"/>
<f>150.0</f><cx>3.0</cx><cy>-2.0</cy>{terms}</calibration></sensor></sensors>
{chunk}<cameras next_id="4" next_group_id="0">{"".join(rows) if cameras is None else cameras(rows)}</cameras>
</chunk></document>"""
    )
    return folder


def test_an_export_gives_its_cameras(tmp_path):
    source = open_capture(write(tmp_path))
    spots.assert_same_cameras(source.cameras, RIG)
    assert [shot.file for shot in source.shots] == [f"{name}.jpg" for name in NAMES]
    assert source.findings == []


def similarity(scale, offset):
    matrix = np.eye(4)
    matrix[:3, :3] = scale * spots.look_at((1.0, 2.0, 3.0), (0, 0, 0))[:3, :3]
    matrix[:3, 3] = offset
    return matrix


@pytest.mark.parametrize("component", [False, True])
def test_the_transform_of_the_chunk_or_component_leads_to_the_world(tmp_path, component):
    world = similarity(2.5, (1.0, -2.0, 0.5))
    chunk = (
        f"<transform><rotation>{text(world[:3, :3] / 2.5)}</rotation><translation>{text(world[:3, 3])}</translation>"
        "<scale>2.5</scale></transform>"
    )
    if component:
        chunk = f'<components><component id="0" label="Component 1">{chunk}</component></components>'
    write(tmp_path, inner=np.linalg.inv(world), chunk=chunk)
    spots.assert_same_cameras(open_capture(tmp_path).cameras, RIG)


def test_a_georeferenced_rig_is_moved_to_the_origin(tmp_path):
    far = f"<rotation>{text(np.eye(3))}</rotation><translation>4e6 5e6 1e6</translation>"
    write(tmp_path, chunk=f"<transform>{far}</transform>")
    source = open_capture(tmp_path)
    assert "stands 6481 km from its world's origin, so it was moved there" in str(source.findings[0])
    places = np.stack([camera.position for camera in source.cameras])
    truth = np.stack([camera.position for camera in RIG])
    np.testing.assert_allclose(places, truth - truth.mean(0), atol=1e-6)


def brown(x, y):
    """The manual's formula, with b1 and b2, in pixels of the test's sensor."""
    k1, k2, k3, k4, p1, p2, b1, b2 = -0.25, 0.1, 0.02, -0.01, 0.004, -0.003, 2.0, 1.0
    r2 = x * x + y * y
    radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3 + k4 * r2**4
    bent_x = x * radial + (p1 * (r2 + 2 * x * x) + 2 * p2 * x * y)
    bent_y = y * radial + (p2 * (r2 + 2 * y * y) + 2 * p1 * x * y)
    return 80 + 3 + bent_x * 150 + bent_x * b1 + bent_y * b2, 60 - 2 + bent_y * 150


TERMS = "<b1>2</b1><b2>1</b2><k1>-.25</k1><k2>.1</k2><k3>.02</k3><k4>-.01</k4><p1>.004</p1><p2>-.003</p2>"


@pytest.mark.parametrize("kind", ["frame", "fisheye"])
def test_distortion_is_taken_out(tmp_path, kind):
    def project(rays):
        radius = np.linalg.norm(rays, axis=1, keepdims=True)
        return np.stack(brown(*(rays * np.arctan(radius) / radius if kind == "fisheye" else rays).T), 1)

    write(tmp_path, TERMS, kind, project=project)
    for frame in load_capture(tmp_path).frames:
        assert spots.worst_miss(frame.image, frame.camera) < 0.06


def test_cameras_in_groups_are_found_in_folders(tmp_path):
    write(
        tmp_path, cameras=lambda rows: f'<group id="0" label="left" type="folder">{rows[0]}{rows[1]}</group>{rows[2]}'
    )
    (tmp_path / "left").mkdir()
    for name in NAMES[:2]:
        (tmp_path / f"{name}.jpg").rename(tmp_path / "left" / f"{name}.jpg")
    assert [shot.file for shot in open_capture(tmp_path).shots] == ["left/IMG_0.jpg", "left/IMG_1.jpg", "IMG_2.jpg"]


def test_cameras_that_are_not_aligned_or_switched_off_are_left_out(tmp_path):
    def cameras(rows):
        off = rows[1].replace('enabled="true"', 'enabled="false"')
        return f'{rows[0]}{off}{rows[2]}<camera id="9" sensor_id="0" label="IMG_3"/>'

    source = open_capture(write(tmp_path, cameras=cameras))
    assert [shot.view.name for shot in source.shots] == ["IMG_0", "IMG_2"]
    assert "1 camera is not aligned: IMG_3." in str(source.findings[0])


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("</document>", "", r"cameras\.xml cannot be read as XML .* export the cameras again"),
        ("<cameras ", "<photos ", "cannot be read as XML"),
        ('sensor_id="0"', 'sensor_id="5"', "Camera 'IMG_0' .* has sensor 5, which it lacks"),
        ('type="frame"', 'type="spherical"', "sensor 'Alpha 7' .* is of type spherical, which cannot be read"),
        ("<f>150.0</f>", "", "sensor 'Alpha 7' .* has no focal length f or no resolution"),
        ("<f>150.0</f>", "<f>wide</f>", "'f' of sensor 'Alpha 7' .* is 'wide'; it must be 1 finite numbers"),
        ("<transform>", "<transform>1 ", "'transform' of camera 'IMG_0' .* must be 16 finite numbers"),
        ("<transform>", "<transform/><was>", "cannot be read as XML"),
    ],
)
def test_bad_exports_are_named(tmp_path, old, new, sentence):
    path = write(tmp_path) / "cameras.xml"
    path.write_text(path.read_text().replace(old, new, 1))
    assert re.search(sentence, complaint(tmp_path))


def test_two_exports_in_a_folder_are_named(tmp_path):
    write(tmp_path)
    (tmp_path / "other.xml").write_bytes((tmp_path / "cameras.xml").read_bytes())
    with pytest.raises(UserError, match=r"holds both cameras\.xml and other\.xml; name the one to read"):
        open_capture(tmp_path)
    assert len(open_capture(tmp_path / "other.xml").shots) == 4
