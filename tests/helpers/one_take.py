# SPDX-License-Identifier: GPL-3.0-or-later
"""One take of a scene, written in every format that captures are read from.

Four cameras that stand still see spots that move, at three moments. Each writer follows the documentation of its
format, and shares nothing with the readers: lenses, poses and times are turned into the format's own here.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from backend.calibrations.load import open_capture, read_capture
from backend.camera import Camera
from backend.errors import UserError
from backend.import_options import ImportOptions
from tests.helpers import opencv_files, spots
from tests.helpers.cameras import look_at
from tests.helpers.colmap_files import write_model
from tests.helpers.movie_files import write_movie
from tests.helpers.realityscan_files import csv_line, xmp_text

WIDTH, HEIGHT, FOCAL = 48, 36, 55.0
CAMERAS, FRAMES, RATE = range(4), range(3), 25
MIDDLE = 2.0, -1.5  # of the picture, in pixels: the principal point is so far from it
STRAIGHT, BENT = (0.0, 0.0, 0.0, 0.0), (-0.12, 0.03, 0.004, -0.006)  # k1 k2 p1 p2 of OpenCV
HEAD = 25  # frames that the movie of camera 1 began earlier
METASHAPE = """<?xml version="1.0" encoding="UTF-8"?>
<document version="2.0.0"><chunk label="Chunk 1" enabled="true"><sensors next_id="1">
<sensor id="0" label="Alpha 7" type="frame"><resolution width="{width}" height="{height}"/>
<calibration type="frame" class="initial"><resolution width="{width}" height="{height}"/><f>1.0</f></calibration>
<calibration type="frame" class="adjusted"><resolution width="{width}" height="{height}"/>
<f>{focal}</f><cx>{cx}</cx><cy>{cy}</cy><k1>{k1}</k1><k2>{k2}</k2><p1>{p2}</p1><p2>{p1}</p2></calibration></sensor>
</sensors><components next_id="1"><component id="0" label="1"><transform><rotation>0 -1 0 1 0 0 0 0 1</rotation>
<translation>1 2 3</translation><scale>2</scale></transform></component></components>
<cameras next_id="{count}" next_group_id="4">{cameras}</cameras></chunk></document>
"""
Bends = tuple[float, ...]
PLAIN = ImportOptions()


def rig(central: bool = False) -> list[Camera]:
    """Return the cameras; central: whether their principal point is the picture's middle."""
    x, y = (0.0, 0.0) if central else MIDDLE
    places = [2.5 * np.array([np.cos(a), np.sin(a), 0.3 * np.sin(3 * a)]) for a in 2 * np.pi * np.arange(4) / 4 + 0.2]
    return [
        Camera(look_at(place, (0, 0, 0)), FOCAL, FOCAL, 0.5 * WIDTH + x, 0.5 * HEIGHT + y, WIDTH, HEIGHT)
        for place in places
    ]


def picture(camera: Camera, frame: int, bends: Bends) -> np.ndarray:
    """Return what a lens of Brown's model sees at a frame, RGB [H, W, 3]."""
    k1, k2, p1, p2 = bends
    x, y = spots.rays(camera, spots.POINTS + 0.08 * frame * spots.POINTS[::-1]).T
    r2 = x * x + y * y
    radial = 1 + k1 * r2 + k2 * r2**2
    bent_x = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
    bent_y = y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
    pixels = np.stack([camera.cx + camera.fx * bent_x, camera.cy + camera.fy * bent_y], 1)
    return spots.picture(pixels, WIDTH, HEIGHT)[..., :3] // 2 + np.arange(WIDTH, dtype=np.uint8)[None, :, None]


@dataclass(frozen=True)
class Format:
    """A format: what writes the calibration of cameras with a lens, and where the picture of a camera and frame lies.

    files: of the calibration. central: it has no principal point. A movie is for all frames of a camera.
    """

    calibrate: Callable[[Path, list[Camera], Bends, "Format"], None]
    pictures: str
    files: tuple[str, ...]
    bends: Bends = BENT
    central: bool = False
    options: ImportOptions = PLAIN

    @property
    def films(self) -> bool:
        """Tell whether the pictures are movies."""
        return not self.pictures.endswith(".png")

    def name(self, camera: int, frame: int) -> str:
        """Return the path of a picture or movie in the take's folder."""
        return self.pictures.format(camera=camera, frame=frame)

    def write(self, folder: Path, cameras: list[Camera] | None = None) -> ImportOptions:
        """Write the take; return the options with which it is read. cameras: as they are calibrated, if wrongly."""
        true = rig(self.central)
        for index, camera in enumerate(true):
            shown = [picture(camera, frame, self.bends) for frame in FRAMES]
            if self.films:
                early = HEAD if self.options.times and index == 1 else 0
                moments = [number / RATE for number in range(early + len(shown))]
                write_movie(folder / self.name(index, 0), [shown[0]] * early + shown, moments)
                continue
            for frame, pixels in zip(FRAMES, shown, strict=True):
                path = folder / self.name(index, frame)
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
        self.calibrate(folder, cameras or true, self.bends, self)
        return replace(self.options, times=folder / self.options.times if self.options.times else None)


def text(array) -> str:
    return " ".join(repr(float(value)) for value in np.ravel(array))


def outward(camera: Camera) -> np.ndarray:
    """Return world-to-camera [4, 4]."""
    return np.linalg.inv(camera.camera_to_world)


def _shots(cameras: list[Camera]) -> list[tuple[int, int, Camera]]:
    return [(index, frame, camera) for frame in FRAMES for index, camera in enumerate(cameras)]


def _json(path: Path, document: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))


def _frames(cameras: list[Camera], form: Format) -> list[dict]:
    return [
        {"file_path": form.name(index, frame), "transform_matrix": (camera.camera_to_world @ FLIP).tolist()}
        for index, frame, camera in _shots(cameras)
    ]


FLIP = np.diag([1.0, -1, -1, 1])  # between OpenCV's and OpenGL's axes


def _transforms(folder: Path, cameras: list[Camera], bends: Bends, form: Format) -> None:
    """As Facet4D's own captures: all of a camera in each frame, and its time."""
    frames = _frames(cameras, form)
    for entry, (_, frame, camera) in zip(frames, _shots(cameras), strict=True):
        entry |= {"time": frame / RATE, "w": WIDTH, "h": HEIGHT, "fl_x": FOCAL, "fl_y": FOCAL}
        entry |= {"cx": camera.cx, "cy": camera.cy, **dict(zip(("k1", "k2", "p1", "p2"), bends, strict=True))}
    _json(folder / "transforms.json", {"frames": frames})


def _nerfstudio(folder: Path, cameras: list[Camera], bends: Bends, form: Format) -> None:
    """As ns-process-data writes, https://docs.nerf.studio/quickstart/data_conventions.html."""
    frames = _frames(cameras, form)
    for number, (entry, (_, frame, _)) in enumerate(zip(frames, _shots(cameras), strict=True), 1):
        entry |= {"colmap_im_id": number, "time": frame / RATE}
    shared = {"w": WIDTH, "h": HEIGHT, "fl_x": FOCAL, "fl_y": FOCAL, "cx": cameras[0].cx, "cy": cameras[0].cy}
    shared |= dict(zip(("k1", "k2", "p1", "p2"), bends, strict=True)) | {"camera_model": "OPENCV"}
    unit = [[1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 1.0, 0]]
    _json(folder / "transforms.json", {**shared, "frames": frames, "applied_transform": unit})


def _instant_ngp(folder: Path, cameras: list[Camera], bends: Bends, form: Format) -> None:
    """As instant-ngp's colmap2nerf.py writes; a table has the times."""
    frames = [{**entry, "sharpness": 30.0} for entry in _frames(cameras, form)]
    for entry in frames:
        entry["file_path"] = f"./{entry['file_path']}"
    angles = [2 * np.arctan(0.5 * side / FOCAL) for side in (WIDTH, HEIGHT)]
    shared = {"camera_angle_x": angles[0], "camera_angle_y": angles[1], "fl_x": FOCAL, "fl_y": FOCAL, "k3": 0, "k4": 0}
    shared |= dict(zip(("k1", "k2", "p1", "p2"), bends, strict=True)) | {"is_fisheye": False, "aabb_scale": 16}
    shared |= {"cx": cameras[0].cx, "cy": cameras[0].cy, "w": float(WIDTH), "h": float(HEIGHT)}
    _json(folder / "transforms.json", {**shared, "frames": frames})
    rows = [f"{Path(form.name(index, frame)).name},{frame / RATE}" for index, frame, _ in _shots(cameras)]
    (folder / "times.csv").write_text("\n".join(["picture,time", *rows]) + "\n")


def _d_nerf(folder: Path, cameras: list[Camera], _: Bends, form: Format) -> None:
    """As NeRF's and D-NeRF's scenes of Blender: one angle for all, and names without ending."""
    entries = _frames(cameras, form)
    for entry, (_, frame, _) in zip(entries, _shots(cameras), strict=True):
        entry |= {"file_path": f"./{entry['file_path'][:-4]}", "rotation": 0.03, "time": frame / RATE}
    _json(folder / "transforms_train.json", {"camera_angle_x": 2 * np.arctan(0.5 * WIDTH / FOCAL), "frames": entries})


def _parameters(bends: Bends) -> Callable[[Camera], list[float]]:
    return lambda camera: [camera.fx, camera.fy, camera.cx, camera.cy, *bends]


def _colmap(binary: bool, times: bool = False) -> Callable:
    """One model; times: as colmap4d adds them, by the pictures' numbers, which write_model counts by ten."""

    def write(folder: Path, cameras: list[Camera], bends: Bends, form: Format) -> None:
        names = [form.name(index, frame).removeprefix("images/") for index, frame, _ in _shots(cameras)]
        every = [camera for _, _, camera in _shots(cameras)]
        write_model(folder / "sparse" / "0", every, names, "OPENCV", _parameters(bends), binary)
        if times:
            rows = [f"{10 * n} {40_000_000 * frame}" for n, (_, frame, _) in enumerate(_shots(cameras), 1)]
            (folder / "sparse" / "0" / "times.txt").write_text("\n".join(["# IMAGE_ID, TIME_NS", *rows]) + "\n")

    return write


def _colmap_frames(folder: Path, cameras: list[Camera], bends: Bends, form: Format) -> None:
    for frame in FRAMES:
        names = [Path(form.name(index, frame)).name for index in CAMERAS]
        write_model(folder / f"frame_{frame:04d}" / "sparse" / "0", cameras, names, "OPENCV", _parameters(bends), True)


def _colmap_rig(folder: Path, cameras: list[Camera], bends: Bends, form: Format) -> None:
    names = [form.name(index, 0).removeprefix("images/") for index in CAMERAS]
    write_model(folder / "sparse" / "0", cameras, names, "OPENCV", _parameters(bends), True)


def _metashape(folder: Path, cameras: list[Camera], bends: Bends, form: Format) -> None:
    """Cameras in groups, as of folders, and in a component that was scaled, turned and moved."""
    world = np.array([[0.0, -2, 0, 1], [2, 0, 0, 2], [0, 0, 2, 3], [0, 0, 0, 1]])
    groups = []
    for index, camera in enumerate(cameras):
        inner = np.linalg.inv(world) @ camera.camera_to_world
        inner[:3, :3] *= 2
        rows = "".join(
            f'<camera id="{4 * frame + index}" sensor_id="0" component_id="0" label="{frame:04d}" enabled="true">'
            f"<transform>{text(inner)}</transform><orientation>1</orientation></camera>"
            for frame in FRAMES
        )
        groups.append(f'<group id="{index}" label="cam{index}" type="folder">{rows}</group>')
    k1, k2, p1, p2 = bends
    aside = {"cx": cameras[0].cx - 0.5 * WIDTH, "cy": cameras[0].cy - 0.5 * HEIGHT}
    aside |= {"width": WIDTH, "height": HEIGHT, "focal": FOCAL, "count": len(FRAMES) * len(cameras)}
    (folder / "cameras.xml").write_text(METASHAPE.format(cameras="".join(groups), k1=k1, k2=k2, p1=p1, p2=p2, **aside))


def _realityscan_terms(bends: Bends) -> tuple[float, ...]:
    """Return k1 k2 k3 k4 t1 t2; as its own export for OpenCV shows, t2 is OpenCV's p1."""
    k1, k2, p1, p2 = bends
    return k1, k2, 0.0, 0.0, p2, p1


def _xmp(folder: Path, cameras: list[Camera], bends: Bends, form: Format) -> None:
    for index, frame, camera in _shots(cameras):
        path = folder / form.name(index, frame)
        path.with_suffix(".xmp").write_text(xmp_text(camera, "brown4t2", text(_realityscan_terms(bends))))


def _csv(folder: Path, cameras: list[Camera], bends: Bends, form: Format) -> None:
    lines = [
        csv_line(Path(form.name(index, frame)).name, camera, _realityscan_terms(bends))
        for index, frame, camera in _shots(cameras)
    ]
    head = "#name,x,y,alt,heading,pitch,roll,f,px,py,k1,k2,k3,k4,t1,t2"
    (folder / "cameras.csv").write_text("\n".join([head, *lines]) + "\n")


def _nersemble(folder: Path, cameras: list[Camera], _: Bends, form: Format) -> None:
    poses = {f"22220003{index}": outward(camera).tolist() for index, camera in enumerate(cameras)}
    k = [[FOCAL, 0, cameras[0].cx], [0, FOCAL, cameras[0].cy], [0, 0, 1]]
    _json(folder / "calibration" / "camera_params.json", {"world_2_cam": poses, "intrinsics": k})


def _llff(folder: Path, cameras: list[Camera], _: Bends, form: Format) -> None:
    """As LLFF's imgs2poses.py: the axes down, right and backwards; then the bounds."""
    rows = []
    for camera in cameras:
        right, down, forward, position = camera.camera_to_world[:3].T
        matrix = np.stack([down, right, -forward, position, (HEIGHT, WIDTH, FOCAL)], 1)
        rows.append([*matrix.ravel(), 1.0, 5.0])
    np.save(folder / "poses_bounds.npy", np.array(rows))


def _matrix(camera: Camera) -> np.ndarray:
    """Return OpenCV's camera matrix, whose origin is the centre of the first pixel."""
    return np.array([[FOCAL, 0, camera.cx - 0.5], [0, FOCAL, camera.cy - 0.5], [0, 0, 1]])


def _easymocap(folder: Path, cameras: list[Camera], bends: Bends, form: Format) -> None:
    names = [f"{index:02d}" for index in range(len(cameras))]
    intri, extri = {}, {}
    for name, camera in zip(names, cameras, strict=True):
        intri |= {f"K_{name}": _matrix(camera), f"dist_{name}": [(*bends, 0.0)]}
        extri |= {f"Rot_{name}": outward(camera)[:3, :3], f"T_{name}": outward(camera)[:3, 3:]}
    head = "---\nnames:\n" + "".join(f'   - "{name}"\n' for name in names)
    for file, matrices in (("intri.yml", intri), ("extri.yml", extri)):
        (folder / file).write_text(opencv_files.yaml(matrices).replace("---\n", head))


def _opencv(write: Callable, ending: str) -> Callable:
    def calibrate(folder: Path, cameras: list[Camera], bends: Bends, form: Format) -> None:
        for index, camera in enumerate(cameras):
            matrices = {"camera_matrix": _matrix(camera), "distortion_coefficients": [(*bends, 0.0)]}
            matrices |= {"R": outward(camera)[:3, :3], "T": outward(camera)[:3, 3:]}
            sizes = {"image_width": WIDTH, "image_height": HEIGHT}
            (folder / f"cam{index}.{ending}").write_text(write(matrices, sizes))

    return calibrate


def _movies(folder: Path, cameras: list[Camera], bends: Bends, form: Format) -> None:
    """A calibrated picture of each camera, and a table that says how much later its movie began."""
    names = [f"cam{index}.png" for index in CAMERAS]
    write_model(folder / "sparse" / "0", cameras, names, "OPENCV", _parameters(bends), False)
    (folder / "times.csv").write_text(f"camera,offset\ncam0,{HEAD / RATE}\ncam2,{HEAD / RATE}\ncam3,{HEAD / RATE}\n")


COUNTED = ImportOptions(fps=RATE)
IN_FOLDERS, FLAT = "images/cam{camera}/{frame:04d}.png", "images/cam{camera}_{frame:04d}.png"
MODEL = ("sparse/0/cameras.bin", "sparse/0/images.bin")
TEXTS = ("sparse/0/cameras.txt", "sparse/0/images.txt")
TRANSFORMS = Format(_transforms, "cam{camera}_{frame}.png", ("transforms.json",))
FORMATS = {
    "nerfstudio": Format(_nerfstudio, FLAT, ("transforms.json",)),
    "instant-ngp": Format(_instant_ngp, FLAT, ("transforms.json",), options=ImportOptions(times=Path("times.csv"))),
    "D-NeRF": Format(_d_nerf, "train/r_{camera}{frame}.png", ("transforms_train.json",), STRAIGHT, True),
    "COLMAP text": Format(_colmap(False), IN_FOLDERS, TEXTS, options=COUNTED),
    "COLMAP binary": Format(_colmap(True), IN_FOLDERS, MODEL, options=COUNTED),
    "COLMAP a frame": Format(
        _colmap_frames,
        "frame_{frame:04d}/images/cam{camera}.png",
        ("frame_0001/sparse/0/cameras.bin", "frame_0001/sparse/0/images.bin"),
        options=COUNTED,
    ),
    "COLMAP of a still rig": Format(_colmap_rig, IN_FOLDERS, MODEL, options=replace(COUNTED, fixed_rig=True)),
    "colmap4d": Format(_colmap(True, True), FLAT, (*MODEL, "sparse/0/times.txt")),
    "Metashape": Format(_metashape, IN_FOLDERS, ("cameras.xml",), options=COUNTED),
    "RealityScan XMP": Format(_xmp, "cam{camera}_{frame:04d}.png", ("cam2_0001.xmp",), options=COUNTED),
    "RealityScan CSV": Format(_csv, FLAT, ("cameras.csv",), options=COUNTED),
    "NeRSemble": Format(
        _nersemble,
        "images/frame_{frame:05d}/cam_22220003{camera}.png",
        ("calibration/camera_params.json",),
        STRAIGHT,
        options=COUNTED,
    ),
    "LLFF": Format(_llff, IN_FOLDERS, ("poses_bounds.npy",), STRAIGHT, True, COUNTED),
    "Neural 3D Video": Format(_llff, "cam{camera:02d}.mp4", ("poses_bounds.npy",), STRAIGHT, True),
    "EasyMocap": Format(_easymocap, "images/{camera:02d}/{frame:06d}.png", ("intri.yml", "extri.yml"), options=COUNTED),
    "OpenCV YAML": Format(_opencv(opencv_files.yaml, "yml"), IN_FOLDERS, ("cam2.yml",), options=COUNTED),
    "OpenCV XML": Format(_opencv(opencv_files.xml, "xml"), FLAT, ("cam2.xml",), options=COUNTED),
    "OpenCV JSON": Format(_opencv(opencv_files.json_text, "json"), FLAT, ("cam2.json",), options=COUNTED),
    "movies": Format(
        _movies,
        "videos/cam{camera}.mov",
        TEXTS,
        options=ImportOptions(times=Path("times.csv"), start=(HEAD - 0.5) / RATE),
    ),
}


def told(folder: Path, options: ImportOptions) -> str:
    """Return all that is said of a take, with TAKE for its folder."""
    try:
        source = open_capture(folder, options)
        read_capture(source)
        text = "\n".join(map(str, source.findings))
    except UserError as error:
        text = str(error)
    return text.replace(str(folder), "TAKE")


def check(name: str, folder: Path, options: ImportOptions, sentences: dict[str, str], usual: str = "") -> None:
    """Check that what is said of a take of a format has the sentence for it, or the usual one, and is plain."""
    text, wanted = told(folder, options), sentences.get(name, usual)
    assert re.search(wanted, text), text
    assert "Errno" not in text and "Traceback" not in text
    assert all(re.fullmatch(r"([A-Z1-9'/]|\w+\.\w+ ).*\.", line) for line in text.splitlines()), text
