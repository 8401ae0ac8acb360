# SPDX-License-Identifier: GPL-3.0-or-later
"""A take is the same in whatever format it is written: its cameras, its times, and what is reconstructed from it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from backend.calibrations.load import open_capture, read_capture
from backend.capture import Capture
from backend.gaussians import TENSORS, Gaussians4D
from backend.lrm4d import LRM4D, LRM4DConfig
from backend.options import ReconstructOptions
from backend.reconstruct import reconstruct
from tests.helpers import one_take, spots

OPTIONS = ReconstructOptions(device="cpu", resolution=24)


@pytest.fixture(scope="module")
def model() -> LRM4D:
    torch.manual_seed(0)
    config = LRM4DConfig(layers=2, width=32, heads=2, opacity_bias=0.0, time_scale_bias=-0.7, time_scale_limit=4.0)
    return LRM4D(config).eval().requires_grad_(False)


def read(form: one_take.Format, folder) -> Capture:
    """Return the take as it is read, in the order of times and cameras; the first moment is 0."""
    folder.mkdir()
    source = open_capture(folder, form.write(folder))
    assert source.findings == []
    frames = read_capture(source).frames
    first = min(frame.time for frame in frames)
    frames = [replace(frame, time=frame.time - first) for frame in frames]
    return Capture(sorted(frames, key=lambda frame: (round(frame.time, 4), *frame.camera.position.round(3))))


@pytest.mark.parametrize("name", one_take.FORMATS)
def test_a_take_is_the_same_as_its_transforms_json(tmp_path, model, name):
    form = one_take.FORMATS[name]
    expected = read(replace(one_take.TRANSFORMS, bends=form.bends, central=form.central), tmp_path / "expected")
    found = read(form, tmp_path / "found")
    spots.assert_same_cameras([f.camera for f in found.frames], [f.camera for f in expected.frames])
    assert [f.time for f in expected.frames] == pytest.approx([0.0] * 4 + [0.04] * 4 + [0.08] * 4)
    assert [f.time for f in found.frames] == pytest.approx([f.time for f in expected.frames], abs=1e-5)
    for frame, other in zip(found.frames, expected.frames, strict=True):
        assert np.abs(frame.image.astype(int) - other.image).max() <= 1  # a value half way between two is rounded
    assert_same_clouds(reconstruct(found, OPTIONS, model), reconstruct(expected, OPTIONS, model))


def assert_same_clouds(found: Gaussians4D, expected: Gaussians4D) -> None:
    assert len(found) == len(expected) > 100
    for field in TENSORS:
        torch.testing.assert_close(getattr(found, field), getattr(expected, field), rtol=1e-3, atol=1e-3)
