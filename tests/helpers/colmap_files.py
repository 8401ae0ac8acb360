# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes COLMAP models by the format's documentation, https://colmap.github.io/format.html."""

import struct
from pathlib import Path

import numpy as np

from backend.camera import Camera

# the documentation's src/colmap/sensor/models.h: the number of each model
NUMBERS = {
    "SIMPLE_PINHOLE": 0,
    "PINHOLE": 1,
    "SIMPLE_RADIAL": 2,
    "RADIAL": 3,
    "OPENCV": 4,
    "OPENCV_FISHEYE": 5,
    "FULL_OPENCV": 6,
    "FOV": 7,
    "SIMPLE_RADIAL_FISHEYE": 8,
    "RADIAL_FISHEYE": 9,
    "THIN_PRISM_FISHEYE": 10,
    "RAD_TAN_THIN_PRISM_FISHEYE": 11,
}


def quaternion(rotation: np.ndarray) -> np.ndarray:
    """Return w x y z of a rotation: its axis is the eigenvector of 1, its angle comes from the trace."""
    values, vectors = np.linalg.eig(rotation)
    axis = vectors[:, np.argmin(abs(values - 1))].real
    skew = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    angle = np.arctan2(-np.trace(skew @ rotation) / 2, (np.trace(rotation) - 1) / 2)
    return np.array([np.cos(angle / 2), *(np.sin(angle / 2) * axis)])


def write_model(
    folder: Path, cameras: list[Camera], names: list[str], model="PINHOLE", parameters=None, binary=False
) -> None:
    """Write a model with a camera of its own for each picture; parameters: from a Camera to COLMAP's list."""
    parameters = parameters or (lambda camera: [camera.fx, camera.fy, camera.cx, camera.cy])
    folder.mkdir(parents=True, exist_ok=True)
    poses = []
    for camera in cameras:
        world_to_camera = np.linalg.inv(camera.camera_to_world)
        poses.append((*quaternion(world_to_camera[:3, :3]), *world_to_camera[:3, 3]))
    (_write_binary if binary else _write_text)(folder, cameras, names, poses, model, parameters)


def _write_text(folder, cameras, names, poses, model, parameters):
    lines = ["# Camera list with one line of data per camera:", "#   CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]"]
    for number, camera in enumerate(cameras, 1):
        values = " ".join(repr(float(value)) for value in parameters(camera))
        lines.append(f"{number} {model} {camera.width} {camera.height} {values}")
    (folder / "cameras.txt").write_text("\n".join(lines) + "\n")
    lines = ["# Image list with two lines of data per image:"]
    for number, (name, pose) in enumerate(zip(names, poses, strict=True), 1):
        lines.append(f"{10 * number} {' '.join(repr(float(value)) for value in pose)} {number} {name}")
        lines.append("12.5 20.25 -1 30.0 40.0 7" if number % 2 else "")  # its points; there may be none
    (folder / "images.txt").write_text("\n".join(lines) + "\n")
    (folder / "points3D.txt").write_text("# 3D point list\n")


def _write_binary(folder, cameras, names, poses, model, parameters):
    data = struct.pack("<Q", len(cameras))
    for number, camera in enumerate(cameras, 1):
        values = parameters(camera)
        data += struct.pack("<iiQQ", number, NUMBERS[model], camera.width, camera.height)
        data += struct.pack(f"<{len(values)}d", *values)
    (folder / "cameras.bin").write_bytes(data)
    data = struct.pack("<Q", len(names))
    for number, (name, pose) in enumerate(zip(names, poses, strict=True), 1):
        data += struct.pack("<i7di", 10 * number, *pose, number) + name.encode() + b"\0"
        data += struct.pack("<Q", number) + struct.pack("<ddq", 1.5, 2.5, -1) * number
    (folder / "images.bin").write_bytes(data)
    (folder / "points3D.bin").write_bytes(struct.pack("<Q", 0))
