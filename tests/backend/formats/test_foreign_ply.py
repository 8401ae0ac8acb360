# SPDX-License-Identifier: GPL-3.0-or-later
"""PLY files of other tools are read as they mean it, or refused by name."""

import numpy as np
import pytest

from backend.errors import UserError
from backend.formats.exchange import read_splats
from backend.formats.ply import read_ply
from backend.logs import collecting
from backend.splats import STATIC_SIGMA

GAUSSIAN = ("x", "y", "z", "f_dc_0", "f_dc_1", "f_dc_2", "opacity")
GAUSSIAN += ("scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3")


def columns(count: int = 20, **others: np.ndarray | float) -> dict[str, np.ndarray]:
    """Random Gaussians as a PLY stores them; others: further properties, one value for all or one for each."""
    values = np.random.default_rng(1).normal(size=(len(GAUSSIAN), count))
    return dict(zip(GAUSSIAN, values, strict=True)) | {name: np.broadcast_to(v, count) for name, v in others.items()}


def write(path, values: dict, order: str = "<", newline: str = "\n", before: str = "", after: str = "", body=b""):
    """Write a PLY of float properties; before, after: further lines of the header; body: bytes of what they declare."""
    table = np.stack(list(values.values()), 1).astype(f"{order}f4")
    names = {"<": "binary_little_endian", ">": "binary_big_endian", "=": "ascii"}
    lines = ["ply", f"format {names[order]} 1.0", *before.splitlines(), f"element vertex {len(table)}"]
    lines += [f"property float {name}" for name in values] + [*after.splitlines(), "end_header", ""]
    data = "\n".join(" ".join(map(repr, row.tolist())) for row in table).encode() if order == "=" else table.tobytes()
    path.write_bytes(newline.join(lines).encode() + (data + body if after else body + data))
    return path


FACES = "element face 1\nproperty list uchar int v"
SHARP = "element intrinsic 2\nproperty float intrinsic\nelement color_space 1\nproperty uchar color_space"


@pytest.mark.parametrize(
    "form",
    [
        {"order": "="},
        {"order": ">"},
        {"newline": "\r\n"},
        {"order": "=", "newline": "\r\n"},
        {"after": "element face 0\nproperty list uchar int v"},
        {"after": FACES, "body": b"\1\0\0\0\0"},
        {"after": SHARP, "body": bytes(9)},
        {"before": "element camera 2\nproperty double fov", "body": bytes(16)},
        {"before": "element camera 2\nproperty double fov", "body": b"0.5\n0.6\n", "order": "="},
    ],
)
def test_every_form_of_the_file_holds_the_same(tmp_path, form):
    plain = read_ply(write(tmp_path / "plain.ply", columns()))
    other = read_ply(write(tmp_path / "other.ply", columns(), **form))
    for name in ("position", "scale", "rotation", "opacity", "color"):
        np.testing.assert_array_equal(getattr(other, name), getattr(plain, name))


def test_2dgs_are_discs_and_plain_colors_are_srgb(tmp_path):
    values = columns(red=0.25, green=0.5, blue=1.0)
    for name in ("scale_2", "f_dc_0", "f_dc_1", "f_dc_2"):
        del values[name]
    cloud = read_ply(write(tmp_path / "discs.ply", values))
    assert len(cloud) == 20
    np.testing.assert_allclose(cloud.scale[:, 2], 1e-6)
    np.testing.assert_allclose(cloud.color, [[0.25, 0.5, 1]] * 20)


def test_bytes_of_color_go_to_255(tmp_path):
    values = columns(1)
    names = [name for name in values if not name.startswith("f_dc")]
    header = ["ply", "format ascii 1.0", "element vertex 1", *(f"property float {name}" for name in names)]
    header += [f"property uchar {name}" for name in ("red", "green", "blue")] + ["end_header"]
    row = " ".join([*(str(values[name][0]) for name in names), "255 51 0"])
    (tmp_path / "bytes.ply").write_text("\n".join([*header, row]))
    np.testing.assert_allclose(read_ply(tmp_path / "bytes.ply").color, [[1, 0.2, 0]], atol=1e-6)


def test_a_few_bad_gaussians_are_left_out_and_flat_ones_flattened_with_one_warning(tmp_path):
    values = columns()
    values["x"][3], values["opacity"][4], values["scale_0"][5] = np.nan, np.nan, np.inf
    for name in ("rot_0", "rot_1", "rot_2", "rot_3"):
        values[name][6] = 0
    values["scale_2"][10:15] = -np.inf
    with collecting() as warnings:
        cloud = read_ply(write(tmp_path / "bad.ply", values))
    assert len(cloud) == 16
    assert (np.sort(cloud.scale.min(1))[:5] == np.float32(1e-6)).all()
    (warning,) = warnings
    assert "left out 4 of 20" in warning
    assert "made 5 of 20" in warning


def test_without_the_right_rotation_gaussians_fade_and_stand_still(tmp_path):
    """As in 4DGS with rot_4d off, where exp(scale_t) is the variance and rot_* a plain quaternion."""
    values = columns(t=np.linspace(0, 1, 20), scale_t=-2.0)
    still = read_ply(write(tmp_path / "still.ply", columns()))
    cloud = read_ply(write(tmp_path / "fading.ply", values))
    np.testing.assert_allclose(cloud.at(0.7)[0], still.position)
    np.testing.assert_array_equal(cloud.rotation, still.rotation)
    expected = still.opacity * np.exp(-0.5 * (0.7 - values["t"]) ** 2 / np.exp(-2.0))
    np.testing.assert_allclose(cloud.at(0.7)[1], expected, rtol=1e-5)
    assert cloud.time_range == pytest.approx((0, 1))


def test_scale_t_0_is_scale_t(tmp_path):
    right = {f"rot_r_{index}": np.random.default_rng(index).normal(size=20) for index in range(4)}
    times = np.linspace(0, 1, 20)
    one, other = (
        read_ply(write(tmp_path / f"{name}.ply", columns(t=times, **{name: -1.0}, **right)))
        for name in ("scale_t", "scale_t_0")
    )
    assert np.abs(one.velocity).max() > 0.1
    for name in ("position", "velocity", "time_sigma", "scale"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_the_motion_of_4dv_is_straight_and_a_second(tmp_path):
    motion = dict(ttt=np.linspace(0, 1, 20), t_scale=-1.0, motion_0=0.5, motion_1=-1.0, motion_2=0.0)
    values = columns(**motion)
    cloud = read_ply(write(tmp_path / "moving.ply", values))
    elapsed = (0.3 - values["ttt"])[:, None]
    still = read_ply(write(tmp_path / "still.ply", columns()))
    np.testing.assert_allclose(cloud.at(0.3)[0], still.position + elapsed * [0.5, -1, 0], atol=1e-6)
    expected = still.opacity * np.exp(-0.5 * elapsed[:, 0] ** 2 / np.exp(-1.0) ** 2)
    np.testing.assert_allclose(cloud.at(0.3)[1], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("motion", "sentence"),
    [
        ({"trbf_center": 0, "trbf_scale": 0, "motion_0": 1, "motion_8": 1}, "SpacetimeGaussians' fields .*motion_0"),
        ({"mu_t": 0.5}, "mu_t"),
        ({"t": 0.5}, r"another tool's fields \(t\)"),
        ({"t": 0.5, "scale_t": 0, "velocity_0": 1}, "velocity_0"),
        ({"t": 0.5, "scale_t": 0, "rot_r_0": 1}, "rot_r_0"),
        ({"ttt": 0, "t_scale": 0, "motion_0": 1, "motion_1": 1, "motion_2": 1, "omega_1": 2}, "omega_1"),
        ({"ttt": 0, "t_scale": 0}, "t_scale, ttt"),
    ],
)
def test_motion_in_unknown_fields_is_refused_by_name(tmp_path, motion, sentence):
    """A still cloud of all times at once would look like a fault of the clip."""
    with pytest.raises(UserError, match=sentence):
        read_ply(write(tmp_path / "motion.ply", columns(**motion)))


def test_a_gaussian_far_in_time_does_not_lengthen_the_clip(tmp_path):
    times = np.linspace(0, 1, 20)
    times[7] = 57
    with collecting() as warnings:
        cloud = read_ply(write(tmp_path / "far.ply", columns(t=times, scale_t=-2.0)))
    assert len(cloud) == 20
    assert cloud.time_range == pytest.approx((0, 1))
    assert "1 of 20" in warnings[0]
    times[:16] = 0.5  # most at one moment: the others are the clip
    times[16:] = 0, 1, 2, 3
    assert read_ply(write(tmp_path / "crowd.ply", columns(t=times, scale_t=-2.0))).time_range == pytest.approx((0, 3))


def test_compressed_ply_is_unpacked(tmp_path):
    """Packed here as the format says: 11, 10 and 11 bits within the chunk's bounds, and so on."""
    ends = [f"{end}_{axis}" for axis in ("x", "y", "z", "scale_x", "scale_y", "scale_z") for end in ("min", "max")]
    bounds = np.array([[-1, 1, 0, 4, 2, 3, -5, -1, -4, -2, -3, -3]], "<f4")
    which_y, half = 2 << 30, 512
    packed = np.array(
        [
            [0 << 21 | 1023 << 11 | 2047, 0 << 30 | 511 << 20 | 512 << 10 | 511, 2047 << 21 | 0 << 11 | 5, 0xFF8000FF],
            [2047 << 21 | 0 << 11 | 0, which_y | half << 20 | half << 10 | 1023, 0, 0x00FF0080],
        ],
        "<u4",
    )
    lines = ["ply", "format binary_little_endian 1.0", "element chunk 1", *(f"property float {end}" for end in ends)]
    names = [f"packed_{name}" for name in ("position", "rotation", "scale", "color")]
    lines += ["element vertex 2", *(f"property uint {name}" for name in names), "end_header", ""]
    path = tmp_path / "scene.compressed.ply"
    path.write_bytes("\n".join(lines).encode() + bounds.tobytes() + packed.tobytes())
    cloud = read_splats(path)
    np.testing.assert_allclose(cloud.position, [[-1, 4, 3], [1, 0, 2]], atol=1e-6)
    np.testing.assert_allclose(np.log(cloud.scale), [[-1, -4, -3], [-5, -4, -3]], atol=1e-5)
    np.testing.assert_allclose(cloud.color, [[1, 128 / 255, 0], [0, 1, 0]], atol=1e-6)
    np.testing.assert_allclose(cloud.opacity, [1, 128 / 255], atol=1e-6)
    np.testing.assert_allclose(cloud.rotation, [[1, 0, 0, 0], [0, 0, 0.5**0.5, 0.5**0.5]], atol=2e-3)
    path.write_bytes(path.read_bytes().replace(b"min_scale_x", b"min_scale_q"))
    with pytest.raises(UserError, match="without all of its parts"):
        read_splats(path)


def test_splat_files_are_read(tmp_path):
    row = np.array([1, 2, 3, 0.1, 0.2, 0.3], "<f4").tobytes() + bytes([255, 51, 0, 102]) + bytes([128, 0, 128, 128])
    (tmp_path / "cloud.splat").write_bytes(2 * row)
    cloud = read_splats(tmp_path / "cloud.splat")
    np.testing.assert_allclose(cloud.position, [[1, 2, 3]] * 2)
    np.testing.assert_allclose(cloud.scale, [[0.1, 0.2, 0.3]] * 2)
    np.testing.assert_allclose(cloud.color, [[1, 0.2, 0]] * 2, atol=1e-6)
    np.testing.assert_allclose(cloud.opacity, [0.4] * 2, atol=1e-6)
    np.testing.assert_allclose(np.abs(cloud.rotation), [[0, 1, 0, 0]] * 2)
    assert (cloud.time_sigma == STATIC_SIGMA).all()
    for damaged in (b"", row[:-1]):
        (tmp_path / "cloud.splat").write_bytes(damaged)
        with pytest.raises(UserError, match=r"not a \.splat file"):
            read_splats(tmp_path / "cloud.splat")


@pytest.mark.parametrize("name", ["dx", "lifespan", "segment"])
def test_properties_that_are_not_read_are_named(tmp_path, name):
    with collecting() as warnings:
        assert len(read_ply(write(tmp_path / "cloud.ply", columns(**{name: 0.5, "nx": 0, "f_rest_44": 0})))) == 20
    assert [warning.partition(" has ")[2] for warning in warnings] == [f"fields that are not read: {name}."]
