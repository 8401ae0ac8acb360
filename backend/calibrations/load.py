# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads captures of any format: as pictures in memory, as cameras alone, or written as a capture folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
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
    check_focal_length,
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
from ..wording import counted, list_some
from .calibration import Finding, Sieve
from .clock import set_times
from .findings import examine_cameras, examine_mattes
from .fitting import ORIENTATION, Fitter, fit_lens, is_doubtful, save_plate, turn_upright, upright_size, with_mask
from .formats import read_calibration
from .lens import Lens
from .pictures import Library
from .shots import Shot, find_shots

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
    _films: dict[Path, movies.Film] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Return a name for each picture, which can be a file's."""
        return picture_names([shot.name.replace("\\", "/") for shot in self.shots])

    @property
    def cameras(self) -> list[Camera]:
        """Return the pinhole camera of each picture, once it has been read."""
        known: dict[tuple, tuple] = {}
        result = []
        for index, shot in enumerate(self.shots):
            key = id(shot.view.lens), self.sizes[index]
            if key not in known:
                lens = self._lens(index).undistorted_camera(np.eye(4))
                known[key] = lens.fx, lens.fy, lens.cx, lens.cy, lens.width, lens.height
            camera = Camera(shot.view.camera_to_world, *known[key])
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
        return f"{self.format}, {counted(cameras, 'camera pose')}, {counted(len(times), 'picture')}{when}, {size}"

    def frames(self, chosen: Collection[int] | None = None) -> Iterator[tuple[int, Frame]]:
        """Read the shots of the chosen numbers one by one, or all: undistorted, and with their masks as mattes.

        Those of a lens follow one another. Pictures that cannot be read are left out, which is added to the findings
        after the last; so is whether the mattes do not fit. If they do, what is odd about the axes does not matter and
        is taken out.

        Raises:
            UserError: most of the pictures cannot be read.
        """
        cameras, names = self.cameras, self.names
        boxes = np.full((len(names), 4), np.nan)
        fitter, sieve, kept, doubtful = Fitter(), Sieve("pictures"), 0, []
        for index, image in self._images(range(len(names)) if chosen is None else chosen, sieve):
            shot, lens = self.shots[index], self._lens(index)
            with sieve:
                if shot.view.mask:
                    image = with_mask(image, shot.view.mask)
                image = fitter.fit(image, lens, index in self.turned)
                path = shot.view.plate
                plate = fitter.plate(path, lens, index in self.turned) if path else None
                if outline := outline_matte(image):
                    boxes[index] = outline.box
                if shot.frame is None and is_doubtful(shot.path(self.library)):
                    doubtful.append(names[index])
                yield index, Frame(cameras[index], shot.time, image, names[index], shot.view.held_out, plate)
                kept += 1
        self.findings.extend(sieve.findings(kept))
        if doubtful:
            text = f"EXIF says that {counted(len(doubtful), 'picture is', 'pictures are')} stored turned or "
            text += f"mirrored: {list_some(doubtful)}."
            self.findings.append(
                Finding(
                    text,
                    "They are read as they are stored; if they were calibrated upright, "
                    "turn them, for example by saving them anew.",
                )
            )
        of_mattes = examine_mattes(cameras, [shot.time for shot in self.shots], names, boxes)
        if of_mattes == []:  # they tell where the subject is, wherever the axes cross
            self.findings[:] = [finding for finding in self.findings if not finding.of_axes]
        self.findings.extend(of_mattes or [])

    def plain_file(self, index: int) -> Path | None:
        """Return the file of a shot's picture if it can be used as it is."""
        shot, lens = self.shots[index], self._lens(index)
        path = shot.path(self.library)
        changes = (
            shot.frame is not None or shot.view.mask or shot.view.plate or not lens.is_pinhole or index in self.turned
        )
        if changes or path.suffix.lower() not in COPIED:
            return None
        with open_picture(path) as picture:
            upright = picture.getexif().get(ORIENTATION, 1) == 1  # programs that heed EXIF would turn others
            return path if upright and picture.size == (lens.width, lens.height) else None

    def _lens(self, index: int) -> Lens:
        shot = self.shots[index]
        lens = fit_lens(shot.view.lens, self.sizes[index], shot.name, self.options.longest_side)
        size = lens.width, lens.height
        shapes = [self.common, self.common[::-1]] if self.common else []
        wanted = next((shape for shape in shapes if _is_shape(size, shape)), size)
        return lens if wanted == size else lens.resize(*wanted)

    def _images(self, chosen: Collection[int], sieve: Sieve) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the numbers and pictures RGBA of the chosen shots that can be read; a movie is decoded once."""
        lenses: dict[Lens, int] = {}
        for shot in self.shots:
            lenses.setdefault(shot.view.lens, len(lenses))
        ordered = sorted(chosen, key=lambda index: (lenses[self.shots[index].view.lens], index))
        for path, group in groupby(ordered, key=lambda index: self.shots[index].path(self.library)):
            indices = {self.shots[index].frame: index for index in group}
            if None in indices:
                with sieve:
                    yield indices[None], turn_upright(read_image(path), path, self.shots[indices[None]].view.lens)
                continue
            film = self._films.pop(path, None) or movies.Film(path)
            with suppress(UserError):  # the frames before it are good
                for number, picture in film.read([number for number in indices if number is not None]):
                    yield indices.pop(number), picture
                if len(chosen) < len(self.shots):
                    self._films[path] = film  # for the next window of a take
            for number in indices:
                with sieve:
                    raise UserError(f"Frame {number} of {path} cannot be decoded; convert it, such as to mp4.")


def open_capture(path: Path | str, options: ImportOptions = DEFAULTS) -> Source:
    """Read a capture's cameras, times and the sizes of its pictures, of any format that `formats` lists.

    Raises:
        UserError: something is missing, malformed or not supported; the message names it and says what to do.
    """
    calibration, library, place = read_calibration(Path(path), options)
    shots, findings = find_shots(calibration, library, options)
    shots, more = set_times(shots, calibration.views, library, options)
    findings = [*calibration.findings, *findings, *more]
    source = Source(calibration.format, place, library, [], [], options, findings)
    sieve, checked = Sieve("pictures"), set()
    for shot in shots:
        with sieve:
            size, lens = upright_size(shot, library), shot.view.lens
            if (id(lens), size) not in checked:
                _check_lens(lens, size, shot.name, options)
                checked.add((id(lens), size))
            for kind, file in (("mask", shot.view.mask), ("plate", shot.view.plate)):
                if file and not file.is_file():
                    raise UserError(f"The {kind} {file} of '{shot.name}' is missing; restore it.")
            source.shots.append(shot)
            source.sizes.append(size)
    findings += sieve.findings(len(source.shots))
    names, cameras = source.names, source.cameras
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
        return Capture([frames[numbers[index]] for index in chosen if numbers[index] in frames])

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
    stage, count, plates = "Importing pictures", len(names), {}
    with writing_several(folder / TRANSFORMS) as new:
        for number, (index, file) in enumerate(copied.items()):
            progress(stage, number / count)
            if file.resolve() != (folder / names[index]).resolve():
                copyfile(file, new / names[index])
        written = {*copied}
        for number, (index, frame) in enumerate(source.frames(files.keys() - copied), len(copied)):
            progress(stage, number / count)
            picture = Image.fromarray(frame.image)
            # fast rather than small: there may be thousands
            mode = "RGBA" if frame.image[..., 3].min() < 255 else "RGB"
            picture.convert(mode).save(new / names[index], "PNG", compress_level=1)
            written.add(index)
            if frame.plate is not None:
                plates[names[index]] = save_plate(frame.plate, new)
        shots = enumerate(zip(names, source.cameras, source.shots, strict=True))
        write_transforms(
            new,
            [
                (name, camera, shot.time, shot.view.held_out)
                for index, (name, camera, shot) in shots
                if index in written
            ],
            plates,
        )
    progress(stage, 1.0)
    return source


def _check_lens(lens: Lens, size: tuple[int, int], name: str, options: ImportOptions) -> None:
    """Raise UserError if no pinhole camera can be made of a lens for a picture of a size."""
    lens = fit_lens(lens, size, name, options.longest_side)
    check_focal_length(*lens.pinhole_focal_lengths, lens.width, lens.height, name)


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
        (source.turned, "turned by a quarter, with the cameras"),
        ([index for index, size in enumerate(sizes) if size not in (usual, turned)], ""),
    ):
        names = [source.names[index] for index in sorted(chosen)]
        resized = not change and all(_is_shape(sizes[index], usual, turned) for index in chosen)
        change = change or (f"read as {usual[0]} x {usual[1]}" if resized else "of another size or shape")
        if names:
            width, height = sizes[min(chosen)]
            source.findings.append(
                Finding(
                    f"{counted(len(names), 'picture is', 'pictures are')} {change}, such as one of {width} x "
                    f"{height} where most are {usual[0]} x {usual[1]}: {list_some(names)}.",
                    "Nothing is to be done.",
                )
            )


def _is_shape(size: tuple[int, int], *shapes: tuple[int, int]) -> bool:
    """Tell whether a width and height have the ratio of one of some others."""
    return any(abs(size[0] * height - size[1] * width) <= 0.01 * size[0] * height for width, height in shapes)
