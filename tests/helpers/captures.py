# SPDX-License-Identifier: GPL-3.0-or-later
"""Small captures, made of noise, and changes of what their files say."""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np

from backend.calibrations.load import open_capture
from backend.camera import Camera
from backend.capture import Capture, Frame
from backend.import_options import ImportOptions
from tests.helpers.cameras import ring


def small_capture(count=4, width=24, height=24) -> Capture:
    random = np.random.default_rng(0)
    frames = []
    for index, camera in enumerate(ring(count, size=24)):
        image = random.integers(0, 256, (height, width, 4), dtype=np.uint8)
        camera = Camera(camera.camera_to_world, 31.0, 33.0, width / 2 - 1, height / 2 + 2, width, height)
        frames.append(Frame(camera, 0.25 * (index // 2), image, f"view_{index}", held_out=index == 3))
    return Capture(frames)


def edit(folder: Path, change: Callable[[dict], object]) -> None:
    """Change the document in a folder's transforms.json."""
    path = folder / "transforms.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def edit_frame(folder: Path, change: Callable[[dict], object]) -> None:
    """Change what the document in a folder's transforms.json says of its second picture."""
    edit(folder, lambda document: change(document["frames"][1]))


def odd(folder: Path, **options) -> str:
    """Return all that is found odd with a capture as it is opened."""
    return " ".join(str(finding) for finding in open_capture(folder, ImportOptions(**options)).findings)


DISPLAY_P3 = np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])
SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])


def color_profile(to_xyz: np.ndarray, gamma: float) -> bytes:
    """Return a color profile (ICC, version 2) with a matrix [3, 3] from linear light to XYZ (D50), and a gamma."""

    def xyz(values) -> bytes:
        return b"XYZ " + bytes(4) + np.round(np.array(values) * 65536).astype(">i4").tobytes()

    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    name = b"Test\0"
    description = b"desc" + bytes(4) + struct.pack(">I", len(name)) + name + bytes(81)
    tags = {b"desc": description, b"cprt": b"text" + bytes(4) + b"none\0" + bytes(3), b"wtpt": xyz([0.9642, 1, 0.8249])}
    tags |= {bytes([letter]) + b"XYZ": xyz(column) for letter, column in zip(b"rgb", to_xyz.T, strict=True)}
    tags |= {bytes([letter]) + b"TRC": curve for letter in b"rgb"}
    tags = {tag: content + bytes(-len(content) % 4) for tag, content in tags.items()}
    offset = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for tag, content in tags.items():
        table += tag + struct.pack(">II", offset + len(body), len(content))
        body += content
    header = struct.pack(">I4xI12s", offset + len(body), 0x02100000, b"mntrRGB XYZ ") + bytes(12) + b"acsp"
    header = header.ljust(68, b"\0") + np.round(np.array([0.9642, 1, 0.8249]) * 65536).astype(">i4").tobytes()
    return header.ljust(128, b"\0") + table + body
