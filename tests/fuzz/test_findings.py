# SPDX-License-Identifier: GPL-3.0-or-later
"""What the other tests here have found, each with the sentence that it now ends in."""

import gzip
import json
import os
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from backend.__main__ import main
from backend.calibrations.load import open_capture
from backend.errors import UserError
from backend.facelift.gslrm import load_gslrm
from backend.formats.exchange import read_splats, write_splats
from backend.gaussians import load_cloud, save_cloud
from backend.import_options import ImportOptions
from backend.movies import read_movie
from backend.picture_files import read_image
from tests.helpers import tiny_gslrm
from tests.helpers.calibration_files import FORMATS, write_transforms
from tests.helpers.clouds import random_cloud
from tests.helpers.complaints import complaint
from tests.helpers.limits import ends_well
from tests.helpers.movie_files import write_movie


def capture(folder: Path, name: str, file: str, old: str, new: str) -> Path:
    """Write a good capture, and replace a text in one of its files."""
    FORMATS[name][0](folder)
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new, 1))
    return folder


@pytest.mark.parametrize(
    ("name", "file", "old", "new", "told"),
    [
        ("metashape", "cameras.xml", 'encoding="UTF-8"', 'encoding="nan"', "unknown encoding: nan"),
        (
            "metashape",
            "cameras.xml",
            'adjusted"><resolution width="16"',
            'adjusted"><resolution width="wide"',
            "resolution of sensor .* it must be 2 finite",
        ),
        ("realityscan csv", "cameras.csv", "33.5", "1" * 140_000, "cannot be read as CSV .*field larger"),
        ("table", "times.csv", "0.5", "1" * 140_000, "cannot be read .*field larger"),
        ("easymocap", "intri.yml", "rows: 3", "rows: inf", "has not as many numbers as it says"),
        ("easymocap", "extri.yml", "cols: 3", "cols: inf", "has not as many numbers as it says"),
        ("nersemble", "camera_params.json", "15.0", "1" + "0" * 400, "no matrix of finite numbers"),
        ("opencv json", "b2.json", "15.0", "0", "focal length of 'b2' is 0 x 15"),
        ("opencv json", "b2.json", "15.0", "1" + "0" * 400, "has not as many numbers as it says"),
        (
            "colmap text",
            "sparse/0/cameras.txt",
            "0.01",
            "inf",
            "principal point or the distortion of '.*' is not finite",
        ),
        ("colmap text", "sparse/0/cameras.txt", "16 12", "16000000 12000000", "size of '.*' is 16000000 x 12000000"),
    ],
)
def test_a_calibration(tmp_path, name, file, old, new, told):
    folder = capture(tmp_path, name, file, old, new)
    assert re.search(told, complaint(folder, ImportOptions(times=folder / file if file == "times.csv" else None)))


def test_a_nest_of_maps(tmp_path):
    FORMATS["opencv json"][0](tmp_path)
    nest = '{"a": ' * 900 + "1" + "}" * 900
    text = (tmp_path / "b2.json").read_text()
    (tmp_path / "b2.json").write_text(text.replace('"image_width": 16', f'"image_width": 16, "x": {nest}', 1))
    ends_well(open_capture, tmp_path)


def test_a_name_with_a_line_break_is_told_in_one_line(tmp_path):
    write_transforms(tmp_path)
    document = json.loads((tmp_path / "transforms.json").read_text())
    document["frames"][1] |= {"file_path": "two\nlines.png", "transform_matrix": 1}
    (tmp_path / "transforms.json").write_text(json.dumps(document))
    assert re.search(r"The pose of 'two\\nlines.png' is no 4x4", complaint(tmp_path))


def test_a_splat_that_is_almost_nothing(tmp_path):
    values = np.zeros(2, [("position", "<f4", 3), ("scale", "<f4", 3), ("color", "u1", 4), ("rotation", "u1", 4)])
    values["scale"], values["color"], values["rotation"] = [1e-44, 1e-20, 1], 255, 255
    values.tofile(tmp_path / "cloud.splat")
    cloud = read_splats(tmp_path / "cloud.splat")
    np.testing.assert_allclose(cloud.scale, [[1e-6, 1e-6, 1]] * 2)
    assert ends_well(write_splats, cloud, tmp_path / "cloud.spz", 0.0) == 2


def test_a_cloud_of_huge_gaussians(tmp_path):
    cloud = random_cloud(3)
    cloud = cloud.to(cloud.mean.float().dtype)
    cloud.scale[1, 2] = 3e38
    save_cloud(cloud, tmp_path / "cloud.safetensors")
    with pytest.raises(UserError, match="not finite or have no size"):
        load_cloud(tmp_path / "cloud.safetensors")


@pytest.mark.parametrize("version", [2, 3])
def test_an_spz_whose_rotations_are_longer_than_one(tmp_path, version):
    head = struct.pack("<4sIIBBBB", b"NGSP", version, 1, 0, 12, 0, 0)
    body = bytes(9) + b"\xff" * 7 + (b"\xff" * 4 if version == 3 else b"\0\0\0")
    (tmp_path / "cloud.spz").write_bytes(gzip.compress(head + body))
    rotation = read_splats(tmp_path / "cloud.spz").rotation
    np.testing.assert_allclose(np.linalg.norm(rotation, axis=1), 1, atol=1e-6)


def test_a_picture_of_a_kind_that_pillow_only_half_knows(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "picture.dds")
    content = bytearray((tmp_path / "picture.dds").read_bytes())
    content[80:84] = (16384).to_bytes(4, "little")  # flags of its pixels
    (tmp_path / "picture.dds").write_bytes(content)
    with pytest.raises(UserError, match=r"cannot be read as a picture .*export it again"):
        read_image(tmp_path / "picture.dds")


@pytest.mark.parametrize("place", [200, 250, 300, 400])
def test_a_damaged_checkpoint(tmp_path, place):
    path = tiny_gslrm.save_checkpoint(tiny_gslrm.random_model(), tmp_path / "gslrm.pt")
    content = path.read_bytes()
    path.write_bytes(content[:place] + b"\xff.\xff" + content[place + 3 :])
    with pytest.raises(UserError, match=r"gslrm.pt is damaged|holds no GS-LRM"):
        load_gslrm(path, 16)


def test_weights_that_are_not_numbers(tmp_path):
    path = tiny_gslrm.save_checkpoint(tiny_gslrm.random_model(), tmp_path / "gslrm.pt")
    load_gslrm(path, 16)
    model = tiny_gslrm.random_model()
    model.free_tokens.data[0, 0] = np.nan
    tiny_gslrm.save_checkpoint(model, path)
    with pytest.raises(UserError, match="holds values that are not finite"):
        load_gslrm(path, 16)


@pytest.mark.skipif(os.name == "nt", reason="there is no /dev/zero")
def test_a_file_without_end(tmp_path, capsys):
    write_transforms(tmp_path / "capture")
    for given in (
        ["check", str(tmp_path / "capture"), "--times", "/dev/zero"],
        ["train", "--config", "/dev/zero", "--assets", str(tmp_path), "--out", str(tmp_path / "out")],
    ):
        assert ends_well(main, given) == 2
        assert "/dev/zero cannot be read" in (told := capsys.readouterr().err) or "no ordinary file" in told


def test_a_name_that_is_no_text(tmp_path, capsys):
    cloud = random_cloud(3)
    save_cloud(cloud.to(cloud.mean.float().dtype), tmp_path / "cloud.safetensors")
    name = f"{tmp_path}/\udcff.ply" if os.name != "nt" else f"{tmp_path}/é.ply"
    assert main(["convert", str(tmp_path / "cloud.safetensors"), name]) == 0
    assert "3 Gaussians" in capsys.readouterr().out


@pytest.mark.slow
def test_a_damaged_state_of_a_network(tmp_path):
    """Weights as FaceLift's UNet has them, with a value that is no number, are refused by name."""
    from backend.facelift.mvdiffusion import _read_weights  # brings diffusers along, which takes seconds

    save_file({"conv": tiny_gslrm.random_model().free_tokens.data * np.nan}, tmp_path / "weights.safetensors")
    assert load_file(tmp_path / "weights.safetensors")["conv"].isnan().all()
    with pytest.raises(UserError, match=r"cannot be loaded .*conv"):
        _read_weights(tmp_path / "weights.safetensors")


def test_a_movie_whose_title_is_no_text(tmp_path):
    write_movie(tmp_path / "movie.mov", [np.zeros((16, 16, 3), np.uint8)], [0.0], "01:00:00:00")
    content = (tmp_path / "movie.mov").read_bytes()
    assert b"Lavf" in content
    (tmp_path / "movie.mov").write_bytes(content.replace(b"Lavf", b"\xff\xffvf"))
    assert ends_well(read_movie, tmp_path / "movie.mov").timecode == "01:00:00:00"
