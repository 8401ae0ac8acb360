# SPDX-License-Identifier: GPL-3.0-or-later
"""The formats of calibrations, and which of them a file or folder is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from tarfile import is_tarfile
from zipfile import is_zipfile

from ..capture import TRANSFORMS
from ..errors import UserError
from ..import_options import ImportOptions
from . import colmap, llff, metashape, nersemble, opencv, realityscan, transforms
from .calibration import Calibration, Sieve, check_lens
from .pictures import Library, pictures_folder


@dataclass(frozen=True)
class Format:
    """A format.

    files: how they are called. find: returns what a file or folder holds of it, for `read`, or None. inner: the names
    of folders for calibrations, beside which the pictures are.
    """

    name: str
    files: str
    find: Callable[[Path], Path | None]
    read: Callable[[Path, Library], Calibration]
    inner: tuple[str, ...] = ()


MOST_TRIED = 50  # files that are looked into for a transforms.json of another name

FORMATS = (
    Format("transforms.json", "", transforms.find, transforms.read_transforms),
    Format("Metashape", "an XML file", metashape.find, metashape.read_metashape),
    Format("RealityScan CSV", "", realityscan.find_csv, realityscan.read_csv),
    Format("RealityScan XMP", "beside the pictures", realityscan.find_xmp, realityscan.read_xmp),
    Format("NeRSemble", nersemble.FILE, nersemble.find, nersemble.read_nersemble, ("calibration",)),
    Format("LLFF", llff.FILE, llff.find, llff.read_llff),
    Format("EasyMocap", f"{opencv.INTRI} and {opencv.EXTRI}", opencv.find_easymocap, opencv.read_easymocap),
    Format("OpenCV", "YAML, XML or JSON of FileStorage", opencv.find_opencv, opencv.read_opencv, ("calibration",)),
    Format(
        "COLMAP",
        "cameras and images, .bin or .txt",
        colmap.find,
        colmap.read_colmap,
        ("0", "sparse", "colmap", "distorted"),
    ),
)


def _find_transforms(folder: Path) -> Path | None:
    """Return a file like a transforms.json that a folder, or one in it, has under another name."""
    files = chain(sorted(folder.glob("*.json")), sorted(folder.glob("*/*.json")))
    return next((file for file in islice(files, MOST_TRIED) if transforms.find(file)), None)


def read_calibration(path: Path, options: ImportOptions) -> tuple[Calibration, Library, Path]:
    """Read a calibration of any format; return it, the pictures that may belong to it, and the folder of both.

    Raises:
        UserError: there is none, or two that differ; or something in it is missing, malformed or not supported.
    """
    if not path.exists():
        raise UserError(f"There is no capture at {path}; give a folder with a {TRANSFORMS} or another calibration.")
    matches = [(entry, source) for entry in FORMATS if (source := entry.find(path)) is not None]
    if not matches:
        if path.is_file() and (is_zipfile(path) or is_tarfile(path)):
            raise UserError(f"{path} is an archive; unpack it, and give its folder.")
        if other := _find_transforms(path):
            raise UserError(f"There is no {TRANSFORMS} in {path}, but {other} is one; give that file.")
        names = ", ".join(f"{entry.name} ({entry.files})" if entry.files else entry.name for entry in FORMATS)
        raise UserError(
            f"There is no capture at {path} that can be read; give the folder or the file of a calibration. The "
            f"formats are {names}."
        )
    entry, source = matches[0]
    if len(matches) > 1 and entry.name != TRANSFORMS:
        raise UserError(f"{path} holds both {source} and {matches[1][1]}; name the one to read.")
    place = source if source.is_dir() else source.parent
    while place.name in entry.inner:
        place = place.parent
    library = Library(options.pictures or pictures_folder(place))
    calibration = entry.read(source, library)
    sieve, views, checked = Sieve("cameras"), [], set()
    for view in calibration.views:
        with sieve:
            if id(view.lens) not in checked:
                check_lens(view.lens, view.name)
                checked.add(id(view.lens))
            views.append(view)
    return replace(calibration, views=views, findings=calibration.findings + sieve.findings(len(views))), library, place
