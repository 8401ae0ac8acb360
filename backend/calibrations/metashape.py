# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the cameras that Agisoft Metashape exports as XML (File > Export > Export Cameras).

The manual's appendix "Camera models" has the formulas. The principal point is an offset from the picture's middle, and
P1 and P2 are OpenCV's p2 and p1. A camera's transform is camera to chunk, with OpenCV's axes; that of the chunk, or of
the camera's component, goes on to the world.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from ..camera import Similarity
from ..errors import UserError
from ..wording import counted, list_some
from .calibration import Calibration, Finding, Sieve, View, check_pose
from .lens import EQUIDISTANT, PERSPECTIVE, Lens
from .pictures import Library
from .xml_files import find_file, numbers, parse_numbers, read_xml

PROJECTIONS = {"frame": PERSPECTIVE, "fisheye": EQUIDISTANT}
DISTANT = 1e5  # times the rig's size: a world whose origin is the earth's middle


def find(path: Path) -> Path | None:
    """Return the exported XML that a file or folder is or holds."""
    return find_file(path, ".xml", b"<document", b"<sensors")


def read_metashape(path: Path, _: Library) -> Calibration:
    """Read the cameras of an exported XML.

    Raises:
        UserError: the file is malformed, or a sensor is of a kind that cannot be read.
    """
    chunk = read_xml(path, "export the cameras again").find("chunk")
    if chunk is None or chunk.find("cameras") is None:
        raise UserError(f"{path} holds no cameras; choose File > Export > Export Cameras in Metashape, as Agisoft XML.")
    sensors = {sensor.get("id"): sensor for sensor in chunk.iterfind("sensors/sensor")}
    lenses: dict[str | None, Lens] = {}
    worlds = {part.get("id"): _world(part, path) for part in chunk.iterfind("components/component")}
    whole = _world(chunk, path)
    sieve, views, unaligned = Sieve("cameras"), [], []
    for name, camera in _cameras(chunk.find("cameras")):
        if camera.get("enabled", "1").lower() in ("0", "false"):
            continue
        if camera.find("transform") is None:
            unaligned.append(name)
            continue
        with sieve:
            key = camera.get("sensor_id")
            if key not in sensors:
                raise UserError(
                    f"Camera '{name}' in {path} has sensor {key}, which it lacks; export the cameras again."
                )
            if key not in lenses:
                lenses[key] = _lens(sensors[key], path)
            pose = check_pose(numbers(camera, "transform", 16, f"camera '{name}' in {path}").reshape(4, 4), name)
            world = worlds.get(camera.get("component_id")) or whole
            views.append(View(name, lenses[key], world.apply_pose(pose) if world else pose))
    findings = sieve.findings(len(views))
    if not views:
        raise UserError(f"No camera in {path} has a pose; align the photos in Metashape, and export the cameras again.")
    if unaligned:
        findings.append(
            Finding(
                f"{counted(len(unaligned), 'camera is', 'cameras are')} not aligned: {list_some(unaligned)}.",
                "Go on without them, or align them in Metashape. Slaves of a multi-camera system are exported without "
                "poses; turn them into cameras of their own.",
            )
        )
    return Calibration("Metashape", path, _near_origin(views, findings), findings)


def _cameras(parent: ElementTree.Element | None, prefix: str = "") -> Iterator[tuple[str, ElementTree.Element]]:
    """Yield cameras and their names; a group's label, as Metashape makes of a folder, stands before them."""
    for child in parent if parent is not None else ():
        if child.tag == "camera":
            yield f"{prefix}{child.get('label', '')}", child
        elif child.tag == "group":
            yield from _cameras(child, f"{prefix}{child.get('label', '')}/")


def _lens(sensor: ElementTree.Element, path: Path) -> Lens:
    where = f"sensor '{sensor.get('label', sensor.get('id'))}' in {path}"
    kind = sensor.get("type", "frame")
    if kind not in PROJECTIONS:
        raise UserError(f"The {where} is of type {kind}, which cannot be read; undistort its photos in Metashape.")
    calibrations = sensor.findall("calibration")
    calibration = next((entry for entry in calibrations if entry.get("class") == "adjusted"), None)
    calibration = calibrations[0] if calibration is None and calibrations else calibration
    resolution = sensor.find("resolution") if calibration is None else calibration.find("resolution")
    resolution = sensor.find("resolution") if resolution is None else resolution
    if calibration is None or resolution is None:
        raise UserError(f"The {where} has no calibration; align the photos in Metashape, and export the cameras again.")

    def get(name: str) -> float:
        return float(numbers(calibration, name, 1, where)[0]) if calibration.find(name) is not None else 0.0

    sizes = " ".join(resolution.get(key, "") for key in ("width", "height"))
    width, height = (int(size) for size in parse_numbers(sizes, 2, f"The resolution of {where}"))
    if not get("f") > 0 or min(width, height) < 1:
        raise UserError(f"The {where} has no focal length f or no resolution; export the cameras again.")
    return Lens(
        width,
        height,
        get("f") + get("b1"),
        get("f"),
        0.5 * width + get("cx"),
        0.5 * height + get("cy"),
        get("b2"),
        PROJECTIONS[kind],
        radial=tuple(get(f"k{index}") for index in range(1, 5)),
        tangential=(get("p2"), get("p1"), get("p3"), get("p4")),
    )


def _world(part: ElementTree.Element, path: Path) -> Similarity | None:
    """Return the transform of a chunk or component, or None if it has none."""
    transform = part.find("transform")
    if transform is None or transform.find("rotation") is None:
        return None
    where = f"the transform of {part.tag} '{part.get('label', '')}' in {path}"
    scale = float(numbers(transform, "scale", 1, where)[0]) if transform.find("scale") is not None else 1.0
    offset = numbers(transform, "translation", 3, where) if transform.find("translation") is not None else np.zeros(3)
    rotation = numbers(transform, "rotation", 9, where).reshape(3, 3)
    if not scale > 0 or not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3) or np.linalg.det(rotation) < 0:
        raise UserError(f"{where[0].upper()}{where[1:]} is no rotation and scale; export the cameras again.")
    return Similarity(scale, rotation, offset)


def _near_origin(views: list[View], findings: list[Finding]) -> list[View]:
    """Move a rig that is georeferenced to the world's origin: single precision could not tell its cameras apart."""
    places = np.stack([view.camera_to_world[:3, 3] for view in views])
    middle = places.mean(0)
    if not np.linalg.norm(middle) > DISTANT * np.linalg.norm(places - middle, axis=1).max() > 0:
        return views
    findings.append(
        Finding(
            f"The rig stands {np.linalg.norm(middle) / 1000:.0f} km from its world's origin, so it was moved there.",
            "Nothing is to be done.",
        )
    )
    moved = []
    for view in views:
        pose = view.camera_to_world.copy()
        pose[:3, 3] -= middle
        moved.append(replace(view, camera_to_world=pose))
    return moved
