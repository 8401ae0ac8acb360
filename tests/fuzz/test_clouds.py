# SPDX-License-Identifier: GPL-3.0-or-later
"""Malformed clouds end in one sentence; those that are accepted are sound, and every format can write them."""

import gzip
import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.errors import UserError
from backend.formats.exchange import frame_times, read_splats, write_clip, write_splats
from backend.formats.ply import PROPERTIES, PROPERTIES_4D, write_ply, write_ply_4d
from backend.formats.spz import write_spz
from backend.gaussians import load_cloud, save_cloud
from backend.splats import ARRAYS, MovingSplats, is_clip
from tests.helpers import mutations
from tests.helpers.clouds import random_cloud, recorded_cloud
from tests.helpers.limits import ends_well

pytestmark = pytest.mark.slow

TYPES = ("float", "double", "uchar", "int", "short", "uint", "list uchar int", "half", "")
NAMES = (*PROPERTIES_4D, "red", "trbf_center", "ttt", "t_scale", "motion_0", "packed_position", "min_x", "é", "")
ENCODINGS = ("binary_little_endian 1.0", "binary_big_endian 1.0", "ascii 1.0", "binary 2.0", "")
COUNTS = (0, 1, 3, 4, -1, 2**31, 10**12, 10**30, 1.5, "")
CLIPS = ("[1, 0]", "[0]", "[NaN, 1]", "[0, 1e9]", "{}", "[null, 1]", "[" * 9999, "", "[0,0]")
COMMENTS = ("compositing linear", "compositing x", "time nan", "time_range 0 1", "time_range 1 0", "time_range -1e9 0")
COMMENTS += ("time_range 0 1e400", "time_range 1", "time 1e300", "time", "", "time_range 0 1000")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("clouds")


def check(cloud: MovingSplats | None, folder) -> None:
    """Check that a cloud that was read is sound, and that every format can write it."""
    if cloud is None:
        return
    assert all(np.isfinite(getattr(cloud, name)).all() for name in ARRAYS)
    assert (cloud.scale > 0).all() and (cloud.time_sigma > 0).all()
    assert ((cloud.opacity >= 0) & (cloud.opacity <= 1)).all()
    np.testing.assert_allclose(np.linalg.norm(cloud.rotation, axis=1), 1, atol=1e-3)
    assert is_clip(cloud.time_range) and cloud.compositing in ("linear", "srgb")
    middle = sum(cloud.time_range) / 2
    for suffix in (".ply", ".spz", ".glb", ".usda"):
        ends_well(write_splats, cloud, folder / f"written{suffix}", middle)
    ends_well(write_clip, cloud, folder / "written.ply", [], 24.0)
    ends_well(frame_times, cloud, 24.0)


def read_moving(path) -> MovingSplats:
    return load_cloud(path).to_splats()


@st.composite
def ply_files(draw) -> bytes:
    """Make a PLY of three Gaussians whose header, values or end may be wrong."""
    names = list(draw(st.sampled_from([PROPERTIES, PROPERTIES_4D])))
    types = ["float"] * len(names)
    count, written = 3, 3
    lines = ["ply", f"format {ENCODINGS[0]}", "", "element vertex 3"]
    values = np.random.default_rng(draw(st.integers(0, 3))).normal(size=(3, len(names))).astype(np.float32)
    for place in draw(st.lists(st.integers(0, len(names) - 1), max_size=2)):
        action = draw(st.integers(0, 3))
        if action == 0:
            types[place] = draw(st.sampled_from(TYPES))
        elif action == 1:
            names[place] = draw(st.sampled_from(NAMES))
        else:
            values[draw(st.integers(0, 2)), place] = draw(st.sampled_from(mutations.FLOATS))
    if draw(st.integers(0, 3)) == 0:
        count = draw(st.sampled_from(COUNTS))
        lines[3] = f"element vertex {count}"
    if draw(st.integers(0, 3)) == 0:
        lines[1] = f"format {draw(st.sampled_from(ENCODINGS))}"
    if draw(st.integers(0, 2)) == 0:
        lines[2] = f"comment facet4d {draw(st.sampled_from(COMMENTS))}"
    if draw(st.integers(0, 9)) == 0:
        lines.insert(3, f"element {draw(st.sampled_from(['face', 'chunk', 'vertex']))} {draw(st.sampled_from(COUNTS))}")
    lines += [f"property {kind} {name}" for kind, name in zip(types, names, strict=True)]
    end = draw(st.sampled_from(["\n", "\n", "\n", "\r\n", "\r"]))
    head = end.join([*(line for line in lines if line), "end_header", ""]).encode()
    body = " ".join(map(str, values.ravel())).encode() if "ascii" in lines[1] else values.tobytes()
    content = head + body[: len(body) * written // 3]
    return draw(mutations.files(content, len(head))) if draw(st.booleans()) else content


@given(ply_files())
def test_ply(folder, content):
    (folder / "cloud.ply").write_bytes(content)
    check(ends_well(read_splats, folder / "cloud.ply"), folder)


def compressed_ply() -> bytes:
    """Make a compressed PLY of SuperSplat with a chunk and two Gaussians."""
    axes = ("x", "y", "z", "scale_x", "scale_y", "scale_z")
    bounds = [f"property float {end}_{axis}" for end in ("min", "max") for axis in axes]
    lines = ["ply", "format binary_little_endian 1.0", "element chunk 1", *bounds]
    packed = [f"property uint packed_{name}" for name in ("position", "rotation", "scale", "color")]
    head = "\n".join([*lines, "element vertex 2", *packed, "end_header", ""]).encode()
    return head + np.linspace(-1, 1, 12, dtype="<f4").tobytes() + np.arange(8, dtype="<u4").tobytes()


@given(mutations.files(compressed_ply(), 700))
def test_compressed_ply(folder, content):
    (folder / "cloud.ply").write_bytes(content)
    check(ends_well(read_splats, folder / "cloud.ply"), folder)


@st.composite
def spz_files(draw) -> bytes:
    """Make an SPZ of four Gaussians whose header, arrays or compression may be wrong."""
    version = draw(st.sampled_from([1, 2, 3, 4, 0, 5, 2**31]))
    count = draw(st.sampled_from([4, 4, 4, 0, 1, 5, 10_000_000, 2**31, 2**32 - 1]))
    degree = draw(st.sampled_from([0, 0, 0, 1, 3, 4, 5, 255]))
    bits = draw(st.sampled_from([12, 12, 0, 23, 24, 255]))
    head = struct.pack("<4sIIBBBB", b"NGSP", version, count, degree, bits, 0, draw(st.sampled_from([0, 5, 6, 255])))
    width = (6 if version == 1 else 9) + 7 + (4 if version >= 3 else 3) + {1: 9, 2: 24, 3: 45, 4: 72}.get(degree, 0)
    body = np.random.default_rng(version).integers(0, 256, 4 * width, np.uint8).tobytes()
    body = draw(st.sampled_from([body, body[:-1], body + b"more", b"", bytes(len(body)), b"\xff" * len(body)]))
    if version == 4:
        head += struct.pack("<I", draw(st.sampled_from([20, 20, 0, 2**31, 32])))
    packed = head + body if draw(st.integers(0, 9)) == 0 else gzip.compress(head + body, 1)
    return draw(mutations.files(packed, 24)) if draw(st.integers(0, 2)) == 0 else packed


@given(spz_files())
def test_spz(folder, content):
    (folder / "cloud.spz").write_bytes(content)
    check(ends_well(read_splats, folder / "cloud.spz"), folder)


@pytest.fixture(scope="module")
def spz_4(folder) -> bytes:
    write_spz(recorded_cloud(), folder / "good.spz", 0.0, version=4)
    return (folder / "good.spz").read_bytes()


@given(data=st.data())
def test_spz_4(folder, spz_4, data):
    """Of version 4 are the sizes of the streams and what zstd has packed."""
    (folder / "cloud.spz").write_bytes(data.draw(mutations.files(spz_4, 32 + 16 * spz_4[15])))
    check(ends_well(read_splats, folder / "cloud.spz"), folder)


@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 300), min_size=10, max_size=12), st.integers(0, 255))
def test_sizes_of_spz_4(folder, spz_4, sizes, count):
    table = b"".join(size.to_bytes(8, "little") for size in sizes)
    content = spz_4[:15] + bytes([count]) + spz_4[16:32] + table + spz_4[32 + len(table) :]
    (folder / "cloud.spz").write_bytes(content)
    check(ends_well(read_splats, folder / "cloud.spz"), folder)


@given(mutations.files(np.arange(160, dtype="<f4").tobytes()))
def test_splat(folder, content):
    (folder / "cloud.splat").write_bytes(content[: len(content) // 32 * 32] if len(content) % 2 else content)
    check(ends_well(read_splats, folder / "cloud.splat"), folder)


@pytest.mark.parametrize("write", [write_ply_4d, lambda cloud, path: write_ply(cloud, path, 0.0)])
def test_the_good_files_are_read(folder, spz_4, write):
    write(recorded_cloud(), folder / "good.ply")
    assert len(read_splats(folder / "good.ply")) > 2
    (folder / "good.spz").write_bytes(spz_4)
    assert len(read_splats(folder / "good.spz")) > 2


CLOUD = random_cloud(3).to_splats()


@st.composite
def safetensors_files(draw) -> bytes:
    """Make a cloud of three Gaussians whose fields, values, head or end may be wrong."""
    fields = {"mean": (3, 4), "scale": (3, 4), "left": (3, 4), "right": (3, 4), "opacity": (3,), "color": (3, 3)}
    body, head = b"", {}
    for name, shape in fields.items():
        values = np.full(shape, 0.5, np.float32)
        if draw(st.integers(0, 7)) == 0:
            values.flat[draw(st.integers(0, values.size - 1))] = draw(st.sampled_from(mutations.FLOATS))
        head[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [len(body), len(body) + values.nbytes]}
        body += values.tobytes()
    head["__metadata__"] = {"format": "facet4d-cloud-1", "compositing": "linear", "time_range": "[0.0, 1.0]"}
    if draw(st.integers(0, 2)) == 0:
        head["__metadata__"]["time_range"] = draw(st.sampled_from(CLIPS))
    text = json.dumps(head).encode()
    if draw(st.integers(0, 2)) == 0:
        text = draw(mutations.documents(head))
    content = struct.pack("<Q", len(text)) + text + body
    return draw(mutations.files(content, len(text))) if draw(st.integers(0, 3)) == 0 else content


@given(safetensors_files())
def test_safetensors(folder, content):
    (folder / "cloud.safetensors").write_bytes(content)
    check(ends_well(read_moving, folder / "cloud.safetensors"), folder)


def test_what_is_accepted_is_written(folder):
    """Without this, the tests above could pass because everything is refused."""
    save_cloud(random_cloud(3).to(dtype := random_cloud(1).mean.float().dtype), folder / "good.safetensors")
    assert dtype and len(read_moving(folder / "good.safetensors")) == 3
    with pytest.raises(UserError):
        read_moving(folder / "written.glb")
