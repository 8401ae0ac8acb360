# SPDX-License-Identifier: GPL-3.0-or-later
"""OpenCV's FileStorage and EasyMocap: files as they are documented give the cameras that were written."""

import re

import numpy as np
import pytest

from backend.calibrations.filestorage import read_storage
from backend.calibrations.load import load_capture, open_capture
from backend.errors import UserError
from backend.import_options import ImportOptions
from tests.helpers import opencv_files, spots
from tests.helpers.complaints import complaint

RIG = spots.rig()
NAMES = [f"{index + 1:02d}" for index in range(len(RIG))]  # as EasyMocap calls cameras: 01, 02, ...
BENDS = (-0.25, 0.1, 0.004, -0.003, 0.02)


def matrix(camera) -> np.ndarray:
    """Return OpenCV's camera matrix, whose origin is the centre of the first pixel."""
    return np.array([[camera.fx, 0, camera.cx - 0.5], [0, camera.fy, camera.cy - 0.5], [0, 0, 1]])


def outward(camera) -> tuple[np.ndarray, np.ndarray]:
    """Return world-to-camera: rotation [3, 3] and translation [3, 1]."""
    world_to_camera = np.linalg.inv(camera.camera_to_world)
    return world_to_camera[:3, :3], world_to_camera[:3, 3:]


def rodrigues(rotation) -> np.ndarray:
    """Return the axis times the angle, [3, 1]: the axis does not turn, the trace is 1 + 2 cos."""
    values, vectors = np.linalg.eig(rotation)
    axis = vectors[:, np.argmin(abs(values - 1))].real
    angle = np.arccos((np.trace(rotation) - 1) / 2)
    sense = np.dot(
        axis, [rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]]
    )
    return (np.sign(sense) * angle * axis)[:, None]


def opencv(rays):
    k1, k2, p1, p2, k3 = BENDS
    x, y = rays.T
    r2 = x * x + y * y
    radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
    bent = np.stack(
        [x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x), y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y], 1
    )
    return bent * 150 + [83, 58]


def easymocap(folder, bends=(0.0,) * 5, vector=False, project=None, place="images/{}/000000.jpg"):
    intri, extri = {}, {}
    for camera, name in zip(RIG, NAMES, strict=True):
        rotation, translation = outward(camera)
        intri |= {f"K_{name}": matrix(camera), f"dist_{name}": [bends]}
        extri |= {f"R_{name}": rodrigues(rotation), f"T_{name}": translation}
        if not vector:
            extri[f"Rot_{name}"] = rotation
        spots.save(folder / place.format(name), camera, project)
    names = "names:\n" + "".join(f'   - "{name}"\n' for name in NAMES)
    (folder / "intri.yml").write_text(opencv_files.yaml(intri).replace("---\n", f"---\n{names}"))
    (folder / "extri.yml").write_text(opencv_files.yaml(extri).replace("---\n", f"---\n{names}"))
    return folder


@pytest.mark.parametrize("vector", [False, True])
def test_easymocap_gives_its_cameras(tmp_path, vector):
    source = open_capture(easymocap(tmp_path, vector=vector))
    spots.assert_same_cameras(source.cameras, RIG)
    assert [shot.file for shot in source.shots] == [f"{name}/000000.jpg" for name in NAMES]
    assert source.findings == []


def test_easymocap_pictures_of_a_clip_have_times_by_their_numbers(tmp_path):
    easymocap(tmp_path)
    for name in NAMES:
        for frame in (1, 3):
            spots.save(tmp_path / "images" / name / f"{frame:06d}.jpg", RIG[0])
    with pytest.raises(UserError, match=r"Camera '01' took several pictures.* give the frames a second .* with --fps"):
        open_capture(tmp_path)
    source = open_capture(tmp_path, ImportOptions(fps=50))
    assert [shot.time for shot in source.shots] == pytest.approx([0, 0.02, 0.06] * 4)


def test_easymocap_without_quotes_keeps_its_names(tmp_path):
    easymocap(tmp_path)
    for name in ("intri.yml", "extri.yml"):
        path = tmp_path / name
        path.write_text(path.read_text().replace('"', ""))
    assert len(open_capture(tmp_path).shots) == 4


def write_opencv(folder, writer=opencv_files.yaml, ending="yml", bends=(0.0,) * 5, project=None, **scalars):
    for index, camera in enumerate(RIG):
        rotation, translation = outward(camera)
        values = {"camera_matrix": matrix(camera), "distortion_coefficients": [bends], "R": rotation, "T": translation}
        scalars = {"image_width": 160, "image_height": 120, **scalars}
        (folder / f"cam{index}.{ending}").write_text(writer(values, scalars))
        spots.save(folder / "images" / f"cam{index}.png", camera, project)
    return folder


@pytest.mark.parametrize(
    ("writer", "ending"), [(opencv_files.yaml, "yml"), (opencv_files.xml, "xml"), (opencv_files.json_text, "json")]
)
def test_a_file_for_each_camera_gives_the_cameras(tmp_path, writer, ending):
    source = open_capture(write_opencv(tmp_path, writer, ending))
    spots.assert_same_cameras(source.cameras, RIG)
    assert source.findings == []


def test_a_map_for_each_camera_gives_the_cameras(tmp_path):
    parts = []
    for index, camera in enumerate(RIG):
        rotation, translation = outward(camera)
        values = {"K": matrix(camera), "dist": [[0.0] * 5], "rvec": rodrigues(rotation), "tvec": translation}
        parts.append(f"cam{index}:\n" + "".join(opencv_files.yaml_matrix(*item, "   ") for item in values.items()))
        spots.save(tmp_path / "images" / f"cam{index}.png", camera)
    (tmp_path / "rig.yml").write_text("%YAML:1.0\n---\n" + "".join(parts))
    spots.assert_same_cameras(open_capture(tmp_path / "rig.yml").cameras, RIG)


@pytest.mark.parametrize("write", [easymocap, write_opencv])
def test_distortion_is_taken_out(tmp_path, write):
    for frame in load_capture(write(tmp_path, bends=BENDS, project=opencv)).frames:
        assert spots.worst_miss(frame.image, frame.camera) < 0.06


def test_a_fisheye_is_one_if_the_file_says_so(tmp_path):
    def project(rays):
        radius = np.linalg.norm(rays, axis=1, keepdims=True)
        theta = np.arctan(radius)
        return rays / radius * theta * (1 + 0.05 * theta**2 - 0.02 * theta**4) * 150 + [83, 58]

    write_opencv(tmp_path, bends=(0.05, -0.02, 0.0, 0.0), project=project, camera_model="fisheye")
    for frame in load_capture(tmp_path).frames:
        assert spots.worst_miss(frame.image, frame.camera) < 0.06


def test_storage_is_read_as_it_is_written(tmp_path):
    path = tmp_path / "all.yml"
    path.write_text(
        "%YAML:1.0\n---\n"
        'date: "Tue 3: later"\n'
        "count: 12\n"
        "flow: [ 1., 2.5,\n    -3.e-2, .Nan ]\n"
        "block:\n- first\n- 2\n"
        "nested:\n   inner:\n      value: 7\n   list:\n      - 1\n      - 2\n"
        + opencv_files.yaml_matrix("M", np.arange(6).reshape(2, 3))
        + 'points: !!opencv-matrix\n   rows: 1\n   cols: 2\n   dt: "2f"\n   data: [ 1., 2., 3., 4. ]\n'
    )
    read = read_storage(path)
    assert (read["date"], read["count"], read["block"]) == ("Tue 3: later", 12, ["first", 2])
    assert read["flow"][:3] == [1, 2.5, -0.03] and np.isnan(read["flow"][3])
    assert read["nested"] == {"inner": {"value": 7}, "list": [1, 2]}
    np.testing.assert_array_equal(read["M"], np.arange(6).reshape(2, 3))
    assert read["points"].shape == (1, 2, 2)  # OpenCV's own calibration stores the corners that it found


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("   rows: 3", "   rows: 4", r"matrix 'camera_matrix' in .*cam0\.yml has not as many numbers as it says"),
        (
            "camera_matrix",
            "cameramatrix",
            r"cam0\.yml has no matrix of finite numbers; calibrate it, and store that as cam",
        ),
        ("R: ", "S: ", r"cam0\.yml has no rotation of finite numbers; calibrate it, and store that as R"),
        ("   cols: 3", "  cols: 3", r"cam0\.yml is not as FileStorage writes it \(line \d+ "),
        ("camera_matrix:", "camera_matrix", r"not as FileStorage writes it \(line \d+ is no 'name: value'\)"),
        (" ]\n", "\n", r"'camera_matrix' in .*cam0\.yml has not as many numbers"),
        ("cols: 5", "cols: 6", r"matrix 'distortion_coefficients' .* has not as many"),
    ],
)
def test_bad_storage_is_named(tmp_path, old, new, sentence):
    path = write_opencv(tmp_path) / "cam0.yml"
    path.write_text(path.read_text().replace(old, new, 1) + ("\n# camera_matrix" if old == "camera_matrix" else ""))
    with pytest.raises(UserError, match=sentence):
        open_capture(path)


def test_a_strange_number_of_coefficients_is_named(tmp_path):
    write_opencv(tmp_path, bends=(0.0,) * 3)
    with pytest.raises(UserError, match=r"The distortion of .*cam0\.yml has 3 coefficients; 0, 4, 5, 8, 12, 14 can be"):
        open_capture(tmp_path)


def test_half_of_an_easymocap_calibration_is_named(tmp_path):
    easymocap(tmp_path)
    text = (tmp_path / "extri.yml").read_text()
    (tmp_path / "extri.yml").write_text(text.replace("T_02", "T_20"))
    assert re.search(r"Camera '02' in .* has no translation of finite numbers", complaint(tmp_path))
    (tmp_path / "extri.yml").unlink()
    assert re.search(
        r"extri\.yml is missing; put it there, for EasyMocap's calibration is intri\.yml and extri\.yml",
        complaint(tmp_path),
    )
