# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes a small good capture in each format of calibrations."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from backend.camera import Camera
from tests.helpers import opencv_files
from tests.helpers.cameras import look_at
from tests.helpers.colmap_files import write_model

WIDTH, HEIGHT = 16, 12
NAMES = ("a1", "b2", "c3")
XMP = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xcr:Coordinates="absolute" xcr:DistortionModel="brown3" xcr:FocalLength35mm="33.5" xcr:Skew="0"
xcr:AspectRatio="1" xcr:PrincipalPointU="0.01" xcr:PrincipalPointV="0" xmlns:xcr="http://www.capturingreality.com/ns/xcr/1.1#">
<xcr:Rotation>{rotation}</xcr:Rotation><xcr:Position>{position}</xcr:Position>
<xcr:DistortionCoeficients>0.01 0 0 0 0 0</xcr:DistortionCoeficients></rdf:Description></rdf:RDF></x:xmpmeta>
"""
METASHAPE = """<?xml version="1.0" encoding="UTF-8"?>
<document version="2.0.0"><chunk label="Chunk 1" enabled="true"><sensors next_id="1">
<sensor id="0" label="Alpha 7" type="frame"><resolution width="16" height="12"/>
<calibration type="frame" class="adjusted"><resolution width="16" height="12"/>
<f>15.0</f><cx>0.3</cx><cy>-0.2</cy><k1>0.01</k1></calibration></sensor></sensors>
<components next_id="1"><component id="0" label="1"><transform><rotation>1 0 0 0 1 0 0 0 1</rotation>
<translation>1 2 3</translation><scale>2</scale></transform></component></components>
<cameras next_id="4" next_group_id="0">{cameras}</cameras></chunk></document>
"""


def rig() -> list[Camera]:
    """Cameras around the origin, one for each of NAMES."""
    poses = [look_at(np.array([2 * np.cos(angle), 2 * np.sin(angle), 0.3]), (0, 0, 0)) for angle in (0.1, 1.2, 2.5)]
    return [Camera(pose, 15.0, 15.0, 8.3, 5.8, WIDTH, HEIGHT) for pose in poses]


def _pictures(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(NAMES):
        pixels = np.random.default_rng(number).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")


def _text(array: np.ndarray) -> str:
    return " ".join(repr(float(value)) for value in np.ravel(array))


def write_transforms(folder: Path) -> None:
    """Write a transforms.json with all keys that are read."""
    _pictures(folder)
    entries = [
        {"file_path": f"{name}.png", "time": 0.5 * number, "transform_matrix": camera.to_opengl().tolist()}
        for number, (name, camera) in enumerate(zip(NAMES, rig(), strict=True))
    ]
    entries[0] |= {"mask_path": "b2.png", "fl_x": 15.0, "w": WIDTH, "h": HEIGHT}
    shared = {"camera_angle_x": 1.0, "cx": 8.3, "cy": 5.8, "k1": 0.01, "p1": 0.0, "camera_model": "OPENCV"}
    shared |= {"test_filenames": ["c3.png"], "is_fisheye": False}
    (folder / "transforms.json").write_text(json.dumps({**shared, "frames": entries}))


def _write_colmap(folder: Path, binary: bool) -> None:
    _pictures(folder / "images")
    names = [f"{name}.png" for name in NAMES]
    write_model(
        folder / "sparse" / "0",
        rig(),
        names,
        "OPENCV",
        lambda camera: [camera.fx, camera.fy, camera.cx, camera.cy, 0.01, 0, 0, 0],
        binary,
    )
    (folder / "sparse" / "0" / "times.txt").write_text("10 0\n20 500000000\n30 1000000000\n")


def _write_metashape(folder: Path) -> None:
    _pictures(folder)
    cameras = "".join(
        f'<camera id="{number}" sensor_id="0" component_id="0" label="{name}" enabled="true">'
        f"<transform>{_text(camera.camera_to_world)}</transform><orientation>1</orientation></camera>"
        for number, (name, camera) in enumerate(zip(NAMES, rig(), strict=True))
    )
    (folder / "cameras.xml").write_text(METASHAPE.format(cameras=cameras))


def _write_xmp(folder: Path) -> None:
    _pictures(folder)
    for name, camera in zip(NAMES, rig(), strict=True):
        rotation, position = _text(camera.camera_to_world[:3, :3].T), _text(camera.position)
        (folder / f"{name}.xmp").write_text(XMP.format(rotation=rotation, position=position))


def _write_csv(folder: Path) -> None:
    _pictures(folder)
    lines = ["#name,x,y,alt,heading,pitch,roll,f,px,py,k1,k2,k3,k4,t1,t2"]
    for name, camera in zip(NAMES, rig(), strict=True):
        position = ",".join(map(str, camera.position))
        lines.append(
            f"{name}.png,{position},{np.degrees(np.arctan2(*-camera.position[:2]))},80,0,33.5,0,0,0.01,0,0,0,0,0"
        )
    (folder / "cameras.csv").write_text("\n".join(lines) + "\n")


def _write_nersemble(folder: Path) -> None:
    _pictures(folder / "images")
    poses = {name: np.linalg.inv(camera.camera_to_world).tolist() for name, camera in zip(NAMES, rig(), strict=True)}
    intrinsics = [[15.0, 0, 8.3], [0, 15, 5.8], [0, 0, 1]]
    (folder / "camera_params.json").write_text(json.dumps({"world_2_cam": poses, "intrinsics": intrinsics}))


def _write_llff(folder: Path) -> None:
    _pictures(folder / "images")
    rows = []
    for camera in rig():
        right, down, forward, position = camera.camera_to_world[:3].T
        matrix = np.stack([down, right, -forward, position, (HEIGHT, WIDTH, camera.fx)], 1)
        rows.append([*matrix.ravel(), 1.0, 5.0])
    np.save(folder / "poses_bounds.npy", np.array(rows))


def _matrices() -> tuple[dict, dict]:
    intri, extri = {}, {}
    for name, camera in zip(NAMES, rig(), strict=True):
        outward = np.linalg.inv(camera.camera_to_world)
        intri[f"K_{name}"] = np.array([[15.0, 0, 8], [0, 15, 6], [0, 0, 1]])
        intri[f"dist_{name}"] = np.array([[0.01, 0, 0, 0, 0]])
        extri |= {f"Rot_{name}": outward[:3, :3], f"T_{name}": outward[:3, 3:]}
    return intri, extri


def _write_easymocap(folder: Path) -> None:
    _pictures(folder / "images")
    intri, extri = _matrices()
    names = "names:\n" + "".join(f'   - "{name}"\n' for name in NAMES)
    (folder / "intri.yml").write_text(opencv_files.yaml(intri).replace("---\n", f"---\n{names}"))
    (folder / "extri.yml").write_text(opencv_files.yaml(extri).replace("---\n", f"---\n{names}"))


def _write_opencv(folder: Path, ending: str) -> None:
    _pictures(folder / "images")
    intri, extri = _matrices()
    for name in NAMES:
        matrices = {"camera_matrix": intri[f"K_{name}"], "distortion_coefficients": intri[f"dist_{name}"]}
        matrices |= {"R": extri[f"Rot_{name}"], "T": extri[f"T_{name}"]}
        sizes = {"image_width": WIDTH, "image_height": HEIGHT}
        write = {".xml": opencv_files.xml, ".yml": opencv_files.yaml, ".json": opencv_files.json_text}[ending]
        (folder / f"{name}{ending}").write_text(write(matrices, sizes))


def _write_table(folder: Path) -> None:
    write_transforms(folder)
    document = json.loads((folder / "transforms.json").read_text())
    for entry in document["frames"]:
        del entry["time"]
    (folder / "transforms.json").write_text(json.dumps(document))
    (folder / "times.csv").write_text("picture,time\na1.png,0\nb2.png,0.5\nc3.png,1\n")


# of each format, what writes a capture, and its files
FORMATS: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "transforms": (write_transforms, ("transforms.json",)),
    "colmap text": (
        lambda folder: _write_colmap(folder, False),
        ("sparse/0/cameras.txt", "sparse/0/images.txt", "sparse/0/times.txt"),
    ),
    "colmap binary": (lambda folder: _write_colmap(folder, True), ("sparse/0/cameras.bin", "sparse/0/images.bin")),
    "metashape": (_write_metashape, ("cameras.xml",)),
    "realityscan xmp": (_write_xmp, ("b2.xmp",)),
    "realityscan csv": (_write_csv, ("cameras.csv",)),
    "nersemble": (_write_nersemble, ("camera_params.json",)),
    "llff": (_write_llff, ("poses_bounds.npy",)),
    "easymocap": (_write_easymocap, ("intri.yml", "extri.yml")),
    "opencv xml": (lambda folder: _write_opencv(folder, ".xml"), ("b2.xml",)),
    "opencv yaml": (lambda folder: _write_opencv(folder, ".yml"), ("b2.yml",)),
    "opencv json": (lambda folder: _write_opencv(folder, ".json"), ("b2.json",)),
    "table": (_write_table, ("times.csv",)),
}
