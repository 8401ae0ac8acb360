# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads captures of any format: as pictures in memory, as cameras alone, or written as a capture folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from shutil import copyfile

import numpy as np
from PIL import Image

from .. import movies
from ..camera import Camera
from ..capture import (
    TRANSFORMS,
    Capture,
    Frame,
    check_camera,
    picture_names,
    write_transforms,
)
from ..errors import Progress, UserError, no_progress
from ..files import writing_several
from ..import_options import ImportOptions
from ..logs import log
from ..memory import check_memory
from ..picture_files import open_picture, read_image
from ..subject import outline_matte
from ..take import Take
from .calibration import Finding
from .clock import set_times
from .findings import examine_cameras, examine_mattes
from .formats import read_calibration
from .lens import Lens, Undistorter
from .pictures import Library, list_some
from .shots import Shot, find_shots

ORIENTATION = 0x0112  # EXIF's tag
TURNED = (5, 6, 7, 8)  # its values where a picture lies on its side as it is stored
COPIED = (".png", ".jpg", ".jpeg", ".webp")  # endings of pictures that need no change
DEFAULTS = ImportOptions()


@dataclass(eq=False)
class Source:
    """A capture whose pictures are not read yet: what was taken when, and what is odd about it.

    place: the folder of the calibration and its pictures. sizes: width and height of each shot's picture, upright as it
    was calibrated. common: the size that all pictures get which have its shape. turned: the shots whose pictures are
    turned by a quarter, so that all have one shape.
    """

    format: str
    place: Path
    library: Library
    shots: list[Shot]
    sizes: list[tuple[int, int]]
    options: ImportOptions
    findings: list[Finding]
    common: tuple[int, int] | None = None
    turned: set[int] = field(default_factory=set)

    @property
    def names(self) -> list[str]:
        """Return a name for each picture, which can be a file's."""
        return picture_names([shot.name.replace("\\", "/") for shot in self.shots])

    @property
    def cameras(self) -> list[Camera]:
        """Return the pinhole camera of each picture, once it has been read."""
        known: dict[Lens, Camera] = {}
        result = []
        for index, shot in enumerate(self.shots):
            lens = self._lens(index)
            if lens not in known:
                known[lens] = lens.undistorted_camera(np.eye(4))
            camera = replace(known[lens], camera_to_world=shot.view.camera_to_world)
            result.append(camera.turn() if index in self.turned else camera)
        return result

    @property
    def plain_files(self) -> list[Path] | None:
        """Return the shots' files if all can be used as they are, else None."""
        files: list[Path] = []
        for index in range(len(self.shots)):
            if (file := self.plain_file(index)) is None:
                return None
            files.append(file)
        return files

    def summary(self) -> str:
        """Return what was read, as "COLMAP, 8 camera poses, 24 pictures from 0 to 1 s, 640 x 480 pixels"."""
        cameras = len({shot.view.camera_to_world.round(6).tobytes() for shot in self.shots})
        times = [shot.time for shot in self.shots]
        when = f" from {min(times):g} to {max(times):g} s" if min(times) < max(times) else ""
        camera = self.cameras[0]
        size = f"{camera.width} x {camera.height} pixels"
        return f"{self.format}, {cameras} camera poses, {len(times)} pictures{when}, {size}"

    def frames(self, chosen: Collection[int] | None = None) -> Iterator[tuple[int, Frame]]:
        """Read the shots of the chosen numbers one by one, or all: undistorted, and with their masks as mattes.

        Those of a lens follow one another. After the last, it is added to the findings if the mattes do not fit. If
        they do, what is odd about the axes does not matter and is taken out.
        """
        cameras, names = self.cameras, self.names
        boxes = np.full((len(names), 4), np.nan)
        undistorter = None
        for index, image in self._images(range(len(names)) if chosen is None else chosen):
            shot, lens = self.shots[index], self._lens(index)
            if shot.view.mask:
                image = _with_mask(image, shot.view.mask)
            if image.shape[1::-1] != (lens.width, lens.height):
                image = _resize(image, lens.width, lens.height)
            if not lens.is_pinhole:
                if undistorter is None or undistorter.lens != lens:
                    undistorter = Undistorter(lens)
                image = undistorter.undistort(image)
            if index in self.turned:
                image = np.ascontiguousarray(np.rot90(image))
            if outline := outline_matte(image):
                boxes[index] = outline.box
            yield index, Frame(cameras[index], shot.time, image, names[index], shot.view.held_out)
        of_mattes = examine_mattes(cameras, [shot.time for shot in self.shots], names, boxes)
        if of_mattes == []:  # they tell where the subject is, wherever the axes cross
            self.findings[:] = [finding for finding in self.findings if not finding.of_axes]
        self.findings.extend(of_mattes or [])

    def plain_file(self, index: int) -> Path | None:
        """Return the file of a shot's picture if it can be used as it is."""
        shot, lens = self.shots[index], self._lens(index)
        path = shot.path(self.library)
        changes = shot.frame is not None or shot.view.mask or not lens.is_pinhole or index in self.turned
        if changes or path.suffix.lower() not in COPIED:
            return None
        with open_picture(path) as picture:
            upright = picture.getexif().get(ORIENTATION, 1) == 1  # programs that heed EXIF would turn others
            return path if upright and picture.size == (lens.width, lens.height) else None

    def _lens(self, index: int) -> Lens:
        shot = self.shots[index]
        lens = _fit_lens(shot.view.lens, self.sizes[index], shot.name, self.options.longest_side)
        size = lens.width, lens.height
        shapes = [self.common, self.common[::-1]] if self.common else []
        wanted = next((shape for shape in shapes if _is_shape(size, shape)), size)
        return lens if wanted == size else lens.resize(*wanted)

    def _images(self, chosen: Collection[int]) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the numbers and pictures RGBA of the chosen shots; a movie is decoded once."""
        lenses: dict[Lens, int] = {}
        for shot in self.shots:
            lenses.setdefault(shot.view.lens, len(lenses))
        ordered = sorted(chosen, key=lambda index: (lenses[self.shots[index].view.lens], index))
        for path, group in groupby(ordered, key=lambda index: self.shots[index].path(self.library)):
            indices = {self.shots[index].frame: index for index in group}
            if None in indices:
                yield indices[None], _upright(read_image(path), path, self.shots[indices[None]].view.lens)
                continue
            last = max(filter(None, indices), default=0)
            for number, (_, picture) in enumerate(movies.read_frames(path, last=last)):
                if number in indices:
                    yield indices.pop(number), picture
            if indices:
                raise UserError(
                    f"{path} tells the times of {last + 1} frames, but {len(indices)} of them cannot be decoded; "
                    "convert it to another format, such as mp4."
                )


def open_capture(path: Path | str, options: ImportOptions = DEFAULTS) -> Source:
    """Read a capture's cameras, times and the sizes of its pictures, of any format that `formats` lists.

    Raises:
        UserError: something is missing, malformed or not supported; the message names it and says what to do.
    """
    calibration, library, place = read_calibration(Path(path), options)
    shots, findings = find_shots(calibration, library, options)
    shots, more = set_times(shots, library, options)
    sizes = [_upright_size(shot, library) for shot in shots]
    source = Source(calibration.format, place, library, shots, sizes, options, calibration.findings + findings + more)
    names, cameras = source.names, source.cameras
    for camera, name in zip(cameras, names, strict=True):
        check_camera(camera, name)
    if len({(camera.width, camera.height) for camera in cameras}) > 1:
        _bring_to_one_size(source, cameras)
        cameras = source.cameras
    source.findings.extend(examine_cameras(cameras, names))
    return source


def load_capture(path: Path | str, options: ImportOptions = DEFAULTS) -> Capture:
    """Read a capture with its pictures.

    Raises:
        UserError: see open_capture; or a picture cannot be read, or all of them do not fit into memory.
    """
    return read_capture(open_capture(path, options))


def read_capture(source: Source) -> Capture:
    """Read the pictures of a capture that was opened.

    Raises:
        UserError: a picture cannot be read, or all of them do not fit into memory.
    """
    _check_memory(source.cameras)
    frames = dict(source.frames())
    capture = Capture([frames[index] for index in sorted(frames)])
    capture.validate()
    return capture


def open_take(source: Source) -> Take:
    """Return the pictures of an opened capture that are not held out, as a take that reads them when they are needed.

    Its `read` warns of the first finding about the pictures. It raises a UserError if a picture cannot be read, or
    those that are asked for do not fit into memory.
    """
    numbers = [index for index, shot in enumerate(source.shots) if not shot.view.held_out]
    cameras, known = source.cameras, len(source.findings)

    def read(chosen: Sequence[int]) -> Capture:
        _check_memory([cameras[numbers[index]] for index in chosen])
        is_new = len(source.findings) == known
        frames = dict(source.frames([numbers[index] for index in chosen]))
        if is_new:
            for finding in source.findings[known:]:
                log.warning("%s", finding)
        return Capture([frames[numbers[index]] for index in chosen])

    return Take([cameras[index] for index in numbers], [source.shots[index].time for index in numbers], read)


def _check_memory(cameras: Sequence[Camera]) -> None:
    check_memory(sum(4 * camera.width * camera.height for camera in cameras), "use fewer or smaller pictures")


def load_cameras(path: Path | str) -> list[tuple[Camera, float, str, bool]]:
    """Read the cameras of a calibration, without its pictures where it tells their sizes.

    Return (camera, time in seconds, name, held_out) for each view; distorted lenses become pinhole cameras as they do
    when the pictures are read.

    Raises:
        UserError: see open_capture.
    """
    calibration, _, _ = read_calibration(Path(path), ImportOptions())
    result = []
    for view in calibration.views:
        camera = view.lens.undistorted_camera(view.camera_to_world)
        check_camera(camera, view.name)
        result.append((camera, view.time or 0.0, view.name.replace("\\", "/"), view.held_out))
    return result


def import_capture(
    path: Path | str, folder: Path, options: ImportOptions = DEFAULTS, progress: Progress = no_progress
) -> Source:
    """Write a capture of any format as a folder with a transforms.json; return what was read.

    Pictures are written as PNG one by one, or copied where they need no change.

    Raises:
        UserError: see open_capture; or a picture cannot be read, or the folder cannot be written.
        Cancelled: whatever `progress` raises.
    """
    source = open_capture(path, options)
    files = {index: source.plain_file(index) for index in range(len(source.shots))}
    copied = {index: file for index, file in files.items() if file}
    names = [f"{name}{copied[index].suffix if index in copied else '.png'}" for index, name in enumerate(source.names)]
    stage, count = "Importing pictures", len(names)
    with writing_several(folder / TRANSFORMS) as new:
        for number, (index, file) in enumerate(copied.items()):
            progress(stage, number / count)
            if file.resolve() != (folder / names[index]).resolve():
                copyfile(file, new / names[index])
        for number, (index, frame) in enumerate(source.frames(files.keys() - copied), len(copied)):
            progress(stage, number / count)
            picture = Image.fromarray(frame.image)
            # fast rather than small: there may be thousands
            mode = "RGBA" if frame.image[..., 3].min() < 255 else "RGB"
            picture.convert(mode).save(new / names[index], "PNG", compress_level=1)
        shots = zip(names, source.cameras, source.shots, strict=True)
        write_transforms(new, [(name, camera, shot.time, shot.view.held_out) for name, camera, shot in shots])
    progress(stage, 1.0)
    return source


def _fit_lens(lens: Lens, size: tuple[int, int], name: str, longest_side: int) -> Lens:
    """Return the lens for its picture's size, which may not be the calibrated one, made smaller if asked for."""
    width, height = size
    if abs(lens.width / lens.height - width / height) > 0.01 * width / height:
        raise UserError(
            f"'{name}' is {width} x {height} but its camera says {lens.width} x {lens.height}; give the picture that "
            "was calibrated, or correct the camera's width and height."
        )
    if longest_side and max(size) > longest_side:
        width, height = (max(1, round(side * longest_side / max(size))) for side in size)
    return lens if (width, height) == (lens.width, lens.height) else lens.resize(width, height)


def _bring_to_one_size(source: Source, cameras: Sequence[Camera]) -> None:
    """Turn the pictures of cameras that stand on their side, where most do not, and resize those of another size.

    Pictures of another shape stay as they are.
    """
    sizes = [(camera.width, camera.height) for camera in cameras]
    usual = Counter(sizes).most_common(1)[0][0]
    turned = usual[1], usual[0]
    source.common = usual
    source.turned.update(
        index for index, size in enumerate(sizes) if _is_shape(size, turned) and not _is_shape(size, usual)
    )
    for chosen, change in (
        (source.turned, "were turned by a quarter, with their cameras"),
        ([index for index, size in enumerate(sizes) if size not in (usual, turned)], ""),
    ):
        names = [source.names[index] for index in sorted(chosen)]
        resized = not change and all(_is_shape(sizes[index], usual, turned) for index in chosen)
        change = change or (f"are read as {usual[0]} x {usual[1]}" if resized else "are of another size or shape")
        if names:
            width, height = sizes[min(chosen)]
            source.findings.append(
                Finding(
                    f"{len(names)} pictures {change}, such as one of {width} x {height} where most are {usual[0]} x "
                    f"{usual[1]}: {list_some(names)}.",
                    "Nothing is to be done.",
                )
            )


def _is_shape(size: tuple[int, int], *shapes: tuple[int, int]) -> bool:
    """Tell whether a width and height have the ratio of one of some others."""
    return any(abs(size[0] * height - size[1] * width) <= 0.01 * size[0] * height for width, height in shapes)


def _upright_size(shot: Shot, library: Library) -> tuple[int, int]:
    if shot.frame is not None:
        movie = library.movie(shot.file)
        return movie.width, movie.height
    path = shot.path(library)
    with open_picture(path) as picture:
        width, height = picture.size
        return (height, width) if _lies(picture, shot.view.lens) else (width, height)


def _lies(picture: Image.Image, lens: Lens) -> bool:
    """Tell whether a picture is stored on its side, by EXIF, while it was calibrated upright."""
    width, height = picture.size
    shape = lens.width / lens.height
    fits, fits_turned = (abs(shape - ratio) <= 0.01 * ratio for ratio in (width / height, height / width))
    return fits_turned and not fits and picture.getexif().get(ORIENTATION) in TURNED


def _upright(image: np.ndarray, path: Path, lens: Lens) -> np.ndarray:
    """Turn a picture as EXIF tells if only then it is as its camera was calibrated."""
    if abs(lens.width / lens.height - image.shape[1] / image.shape[0]) <= 0.01:
        return image
    with open_picture(path) as picture:
        if not _lies(picture, lens):
            return image
        orientation = picture.getexif()[ORIENTATION]
    turned = np.rot90(image, {5: 3, 6: 3, 7: 1, 8: 1}[orientation])  # quarter turns counterclockwise
    return np.ascontiguousarray(turned[:, ::-1] if orientation in (5, 7) else turned)


def _with_mask(image: np.ndarray, file: Path) -> np.ndarray:
    """Return the picture with a mask's brightness as its matte."""
    mask = Image.fromarray(read_image(file)).convert("L")
    if abs(mask.width / mask.height - image.shape[1] / image.shape[0]) > 0.01 * mask.width / mask.height:
        raise UserError(f"The mask {file} is {mask.width} x {mask.height}, not of its picture's shape; export it.")
    if mask.size != image.shape[1::-1]:
        mask = mask.resize((image.shape[1], image.shape[0]), Image.Resampling.BILINEAR)
    return np.concatenate([image[..., :3], np.asarray(mask)[..., None]], -1)


def _resize(image: np.ndarray, width: int, height: int) -> np.ndarray:
    # Pillow resamples RGBA by way of premultiplied alpha only if asked to
    picture = Image.fromarray(image).convert("RGBa")
    return np.asarray(picture.resize((width, height), Image.Resampling.LANCZOS).convert("RGBA"))
