# SPDX-License-Identifier: GPL-3.0-or-later
"""Malformed calibrations end in one sentence; of those that are accepted, pictures, cameras and times are sound."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.calibrations.load import load_cameras, open_capture
from backend.capture import Capture
from backend.import_options import ImportOptions
from backend.lrm4d import LRM4D
from backend.options import ReconstructOptions
from backend.planning import make_plan
from tests.helpers import calibration_files, mutations
from tests.helpers.limits import ends_well
from tests.helpers.tiny_run import TINY

pytestmark = pytest.mark.slow

NETWORK = LRM4D(TINY)


def read(folder: Path, options: ImportOptions) -> None:
    """Read a capture with all its pictures, and plan its reconstruction."""
    source = open_capture(folder, options)
    capture = Capture([frame for _, frame in source.frames()])
    capture.validate()
    assert source.summary() and all(str(finding) for finding in source.findings)
    for frame in capture.frames:
        assert frame.image.shape == (frame.camera.height, frame.camera.width, 4)
        assert np.isfinite(frame.camera.intrinsics).all()
    plan = make_plan(capture, ReconstructOptions(resolution=16), NETWORK)
    assert np.isfinite([*plan.normalisation.translation, plan.normalisation.scale]).all()


# of each format: what writes a good capture, and the strategies that spoil its files
FORMATS: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = calibration_files.FORMATS


@pytest.fixture(scope="module")
def captures(tmp_path_factory) -> dict[str, Path]:
    folders = {}
    for name, (write, files) in FORMATS.items():
        folders[name] = tmp_path_factory.mktemp(name)
        write(folders[name])
        for file in files:
            (folders[name] / file).with_name(f"{Path(file).name}.good").write_bytes((folders[name] / file).read_bytes())
    return folders


def spoil(path: Path, good: bytes) -> st.SearchStrategy[bytes]:
    """Spoil a file as its ending tells."""
    if path.suffix == ".json":
        return mutations.documents(json.loads(good))
    if path.suffix in (".bin", ".npy"):
        return mutations.files(good, 128)
    return mutations.texts(good.decode())


@pytest.mark.parametrize(("name", "file"), [(name, file) for name, (_, files) in FORMATS.items() for file in files])
@given(data=st.data())
def test_a_spoiled_calibration(captures, name, file, data):
    path = captures[name] / file
    good = path.with_name(f"{path.name}.good").read_bytes()
    options = ImportOptions(times=path) if path.name == "times.csv" else ImportOptions()
    try:
        path.write_bytes(data.draw(spoil(path, good)))
        ends_well(read, captures[name], options)
        ends_well(load_cameras, captures[name])
    finally:
        path.write_bytes(good)


@pytest.mark.parametrize("name", FORMATS)
def test_the_good_captures_are_read(captures, name):
    """Without this, the test above could pass because everything is refused."""
    read(captures[name], ImportOptions())
