# SPDX-License-Identifier: GPL-3.0-or-later
"""Reconstruction and the command line: any rig, any world, plain errors; with a tiny model of random weights."""

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from backend import models
from backend.__main__ import main
from backend.calibrations.load import load_capture
from backend.camera import Similarity
from backend.capture import Capture, save_capture
from backend.errors import Cancelled, UserError
from backend.formats.exchange import read_splats
from backend.formats.ply import read_ply
from backend.gaussians import load_cloud, save_cloud
from backend.import_options import ImportOptions
from backend.lrm4d import LRM4D, LRM4DConfig
from backend.memory import reading_resolution
from backend.models import load_model
from backend.options import ReconstructOptions
from backend.rasterize import render_pictures
from backend.reconstruct import reconstruct
from tests.helpers.captures import small_capture
from tests.helpers.colmap_files import write_model

CONFIG = LRM4DConfig(layers=2, width=32, heads=2, opacity_bias=0.0, time_scale_bias=-0.7, time_scale_limit=4.0)
DEMO = Path(__file__).parents[2] / "backend" / "demo_capture"
CPU_24 = ReconstructOptions(device="cpu", resolution=24)


@pytest.fixture(scope="module")
def model() -> LRM4D:
    torch.manual_seed(0)
    return LRM4D(CONFIG).eval().requires_grad_(False)


@pytest.fixture
def weights(tmp_path, model, monkeypatch):
    monkeypatch.setitem(models.CONFIGS, "tiny", CONFIG)
    path = tmp_path / "weights" / "tiny.safetensors"
    path.parent.mkdir()
    models.save_weights(model.state_dict(), "tiny", path, {"licence": "none"})
    return path


def moved(capture: Capture, similarity: Similarity) -> Capture:
    return Capture([replace(frame, camera=similarity.apply_camera(frame.camera)) for frame in capture.frames])


def test_held_out_frames_are_not_used(model):
    capture = small_capture()
    cloud = reconstruct(capture, CPU_24, model)
    assert len(cloud) <= 3 * 24 * 24
    again = reconstruct(capture.inputs(), CPU_24, model)
    assert torch.equal(cloud.mean, again.mean)


def test_what_the_mattes_cut_away_is_not_in_the_cloud(model):
    capture = small_capture()
    pixels = sum((frame.image[..., 3] >= 128).sum() for frame in capture.square(24).inputs().frames)
    assert 0 < len(reconstruct(capture, CPU_24, model)) <= pixels < 3 * 24 * 24


@pytest.mark.parametrize("matted", [True, False])
def test_the_network_sees_a_white_subject_before_white_where_mattes_tell_it(model, monkeypatch, matted):
    """Its Gaussians start from the pictures' own colors all the same."""
    seen, colors, forward = [], [], model.forward

    def noted(images, *given, **others):
        seen.append(images)
        colors.append(others["colors"])
        return forward(images, *given, **others)

    monkeypatch.setattr(model, "forward", noted)
    solid = np.full((24, 24, 4), 255, np.uint8)
    if matted:
        solid[:, :8, 3] = 0
    frames = [replace(frame, image=solid) for frame in small_capture().frames]
    reconstruct(Capture(frames), CPU_24, model)
    assert (colors[0] == 1).all()
    assert seen[0][..., 12:].numpy() == pytest.approx(220 / 255 if matted else 1)
    assert (seen[0] == 1)[..., :4].all()


def test_the_network_sees_all_shades_of_a_subject(model, monkeypatch):
    """As dark as they have to be that white is seen."""
    seen, forward = [], model.forward

    def noted(images, *given, **others):
        seen.append(images)
        return forward(images, *given, **others)

    monkeypatch.setattr(model, "forward", noted)
    ramp = np.full((24, 24, 4), 255, np.uint8)
    ramp[..., :3] = np.linspace(0, 255, 24).astype(np.uint8)[:, None, None]
    ramp[:, :8, 3] = 0
    reconstruct(Capture([replace(frame, image=ramp) for frame in small_capture().frames]), CPU_24, model)
    assert 255 * seen[0][0, 0, 0, :, 20].numpy() == pytest.approx(ramp[:, 20, 0] * (220 / 255))


@pytest.mark.slow
def test_a_white_subject_is_no_hole_to_the_bundled_model():
    """The demo's head in plain white, which over white cannot be seen at all: alpha of views that are held out."""
    frames = load_capture(DEMO).frames
    white = [replace(frame, image=frame.image | np.uint8([255, 255, 255, 0])) for frame in frames]
    inputs = [frame for frame in white if not frame.held_out][::3]
    held_out = [frame for frame in white if frame.held_out][::2]
    cloud = reconstruct(Capture(inputs), ReconstructOptions(device="cpu", resolution=64, refinements=1))
    pictures = render_pictures(cloud, [(frame.camera, frame.time) for frame in held_out])
    errors = [np.abs(a[..., 3] / 255 - b.image[..., 3] / 255).mean() for a, b in zip(pictures, held_out, strict=True)]
    assert np.mean(errors) < 0.05


def test_a_model_with_a_border_reads_only_patches_near_the_mattes(model, monkeypatch):
    near = LRM4D(replace(CONFIG, border=0)).eval().requires_grad_(False)
    near.load_state_dict(model.state_dict())
    read, forward = [], near.forward

    def noted(*given, kept: torch.Tensor, **others):
        read.append(kept.shape[1])
        return forward(*given, kept=kept, **others)

    monkeypatch.setattr(near, "forward", noted)
    capture, options = small_capture(), replace(CPU_24, resolution=192)
    pixels = sum((frame.image[..., 3] >= 128).sum() for frame in capture.square(192).inputs().frames)
    assert 0 < len(reconstruct(capture, options, near)) <= pixels
    assert pixels / 64 <= read[0] < 3 * 24 * 24


@pytest.mark.parametrize("size", [0.01, 1.0, 300.0])
def test_a_moved_and_scaled_rig_gives_the_moved_and_scaled_cloud(model, size):
    capture = small_capture()
    here = reconstruct(capture, CPU_24, model)
    similarity = Similarity(size, np.eye(3), size * np.array([8.0, -3.0, 2.0]))
    there = reconstruct(moved(capture, similarity), CPU_24, model)
    assert len(here) == len(there)
    expected = here.transform(similarity)
    assert torch.allclose(there.mean[:, :3], expected.mean[:, :3], atol=2e-3 * size)
    for time in (0.0, 0.13):
        clock = torch.tensor([time])
        for part, other in zip(there.at(clock), expected.at(clock), strict=True):
            assert (part - other).abs().max() < 2e-3 * max(size, 1.0)


def test_a_calibration_of_another_program_gives_the_cloud_of_the_same_capture(tmp_path, model):
    capture = small_capture().inputs()
    folder = save_capture(capture, tmp_path / "images").parent
    names = [f"{frame.name}.png" for frame in capture.frames]
    write_model(tmp_path / "sparse" / "0", [frame.camera for frame in capture.frames], names, binary=True)
    (tmp_path / "times.csv").write_text(
        "picture,time\n" + "".join(f"{name},{frame.time}\n" for name, frame in zip(names, capture.frames, strict=True))
    )
    ours = reconstruct(load_capture(folder), CPU_24, model)
    theirs = reconstruct(load_capture(tmp_path, ImportOptions(times=tmp_path / "times.csv")), CPU_24, model)
    assert torch.allclose(ours.mean, theirs.mean, atol=1e-5) and torch.allclose(ours.color, theirs.color, atol=1e-4)


def test_the_clip_is_the_captures_seconds(model):
    """A capture that plays ten times slower, and later, gives the cloud that does."""
    capture = small_capture()
    slow = Capture([replace(frame, time=10 * frame.time + 5) for frame in capture.frames])
    here, there = reconstruct(capture, CPU_24, model), reconstruct(slow, CPU_24, model)
    assert there.time_range == pytest.approx((5.0, 5.0 + 10 * here.time_range[1]))
    mean, _, opacity = here.at(torch.tensor([0.1]))
    other, _, alpha = there.at(torch.tensor([6.0]))
    assert (mean - other).abs().max() < 1e-3
    assert (opacity - alpha).abs().max() < 1e-3


def test_a_capture_of_one_moment_stands_still(model):
    frames = [replace(frame, time=3.0) for frame in small_capture().inputs().frames]
    cloud = reconstruct(Capture(frames), CPU_24, model)
    velocity, variance, _ = cloud.motion()
    assert velocity.abs().max() < 1e-5
    assert variance.min() > 1e5
    assert cloud.time_range == (3.0, 3.0)


def test_one_picture_works_with_a_warning(model, caplog):
    assert len(reconstruct(small_capture().select([0]), CPU_24, model))
    assert "One picture alone tells no depth" in caplog.text


def test_progress_rises_and_cancels(model):
    seen = []
    reconstruct(small_capture(), CPU_24, model, progress=lambda stage, fraction: seen.append((stage, fraction)))
    fractions = [fraction for _, fraction in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert len({stage for stage, _ in seen}) >= 3

    def stop(stage: str, fraction: float) -> None:
        if stage == "Predicting Gaussians":
            raise Cancelled

    with pytest.raises(Cancelled):
        reconstruct(small_capture(), CPU_24, model, progress=stop)
    assert not any(block._forward_pre_hooks for block in model.blocks)  # the next run is not cancelled too


def test_too_many_pictures_say_what_they_need(model, monkeypatch):
    monkeypatch.setattr("backend.planning._free_memory", lambda device: 2**10)
    with pytest.raises(UserError, match=r"GiB are needed.*fewer pictures or a lower resolution"):
        reconstruct(small_capture(), CPU_24, model)


@pytest.mark.parametrize(
    "failure", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: no")]
)
def test_memory_that_runs_out_says_what_to_lower(model, monkeypatch, failure):
    def fail(*_):
        raise failure

    monkeypatch.setattr(model.blocks[1].attention, "forward", fail)
    with pytest.raises(UserError, match=r"GiB are needed.*fewer pictures or a lower resolution"):
        reconstruct(small_capture(), CPU_24, model)


def test_a_resolution_that_does_not_divide_is_refused(model):
    for resolution, better in ((100, 96), (0, 8), (-8, 8)):
        with pytest.raises(UserError, match=f"{resolution} is not a multiple of 8; try {better}"):
            reconstruct(small_capture(), ReconstructOptions(device="cpu", resolution=resolution), model)


@pytest.mark.parametrize(("trained", "read"), [(16, 16), (128, 40)])
def test_pictures_are_read_as_the_model_was_trained_or_as_they_allow(model, monkeypatch, trained, read):
    sizes = []
    cut = Capture.cut_squares
    monkeypatch.setattr(
        Capture, "cut_squares", lambda self, squares, size: sizes.append(size) or cut(self, squares, size)
    )
    monkeypatch.setattr(model, "config", replace(CONFIG, resolution=trained))
    reconstruct(small_capture(), ReconstructOptions(device="cpu"), model)
    assert sizes == [read]


@pytest.mark.parametrize(
    ("pictures", "on_gpu", "on_cpu"),
    [(1, 384, 256), (8, 384, 256), (10, 384, 240), (16, 312, 192), (24, 256, 160), (32, 256, 136), (500, 256, 128)],
)
def test_many_pictures_are_read_smaller(pictures, on_gpu, on_cpu):
    assert reading_resolution(384, 8, pictures, 512, on_cpu=False) == on_gpu
    assert reading_resolution(384, 8, pictures, 512, on_cpu=True) == on_cpu
    assert reading_resolution(64, 8, pictures, 512, on_cpu=False) == 64
    assert reading_resolution(64, 8, pictures, 512, on_cpu=True) == 64


@pytest.mark.parametrize(
    ("pictures", "missing", "on_gpu", "on_cpu"),
    [(1, 5, 192, 192), (4, 5, 192, 192), (8, 2, 384, 240), (24, 5, 256, 144)],
)
def test_mostly_missing_views_are_read_as_they_are_trained(pictures, missing, on_gpu, on_cpu):
    """A photo on both alike, so that a seed gives the same head on both."""
    assert reading_resolution(384, 8, pictures, 512, on_cpu=False, missing=missing) == on_gpu
    assert reading_resolution(384, 8, pictures, 512, on_cpu=True, missing=missing) == on_cpu
    assert reading_resolution(128, 8, pictures, 512, on_cpu=False, missing=missing) == 128


@pytest.mark.parametrize(("side", "read"), [(8, 16), (100, 152), (128, 192), (170, 256), (171, 256), (math.inf, 256)])
def test_small_pictures_are_read_half_as_large_again(side, read):
    assert reading_resolution(256, 8, 4, side, on_cpu=False) == read
    assert reading_resolution(256, 8, 4, side, on_cpu=True) == read


def test_weights_round_trip(weights, model):
    """Large matrices within half a step of 127 for each row's largest value, all else as fp16."""
    loaded = load_model(weights)
    assert loaded.config == CONFIG
    for name, value in model.state_dict().items():
        if value.ndim == 2 and value.numel() > models.LARGE_MATRIX:
            step = value.abs().amax(1, keepdim=True) / 127
            assert ((loaded.state_dict()[name] - value).abs() <= 0.5001 * step).all()
        else:
            assert torch.equal(loaded.state_dict()[name], value.half().float())


def test_large_matrices_take_a_byte_a_number(weights, model):
    assert weights.stat().st_size < 1.5 * sum(value.numel() for value in model.state_dict().values())


def write_config(path, **values):
    path.with_suffix(".json").write_text(json.dumps({"config": asdict(CONFIG) | values}))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:5000]), "are damaged"),
        (lambda path: path.write_bytes(b""), "are damaged"),
        (lambda path: path.unlink(), "are not at"),
        (lambda path: path.with_suffix(".json").unlink(), "card"),
        (lambda path: path.with_suffix(".json").write_text('{"config": {"depth": 3}}'), "does not describe a model"),
        (lambda path: path.with_suffix(".json").write_text("[]"), "does not describe a model"),
        (lambda path: write_config(path, layers=3), "belong to another model"),
        (lambda path: write_config(path, layers=10**7), "does not describe a model"),
        (lambda path: write_config(path, width=10**400), "does not describe a model"),
        (lambda path: write_config(path, layers=True), "does not describe a model"),
        (lambda path: write_config(path, scale_limit=float("nan")), "does not describe a model"),
        (lambda path: path.with_suffix(".json").write_text("[" * 100_000), "cannot be read"),
        (lambda path: write_config(path, layers="2"), "does not describe a model"),
        (lambda path: write_config(path, heads=3), "does not describe a model"),
        (lambda path: write_config(path, patch=-8), "does not describe a model"),
        (lambda path: write_config(path, scale_bias=None), "does not describe a model"),
    ],
)
def test_bad_weights_are_named(weights, damage, sentence):
    damage(weights)
    with pytest.raises(UserError, match=sentence):
        load_model(weights)


def test_unknown_model_and_device_are_named():
    with pytest.raises(UserError, match="no model 'huge'; choose one of small"):
        load_model("huge")
    for device in ("quantum", "meta", ""):
        with pytest.raises(UserError, match=f"no device '{device}'"):
            reconstruct(small_capture(), ReconstructOptions(device=device))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_named():
    with pytest.raises(UserError, match=r"device 'cuda' cannot be used .* choose 'auto' or 'cpu'"):
        reconstruct(small_capture(), ReconstructOptions(device="cuda"))


@pytest.fixture
def capture_folder(tmp_path):
    save_capture(small_capture(), tmp_path / "capture")
    return tmp_path / "capture"


def run(*arguments) -> int:
    return main([str(argument) for argument in arguments])


@pytest.mark.slow
def test_command_line_from_capture_to_pictures_and_ply(tmp_path, capture_folder, weights, capsys):
    cloud = tmp_path / "new" / "cloud.safetensors"
    network = ("--model", weights, "--device", "cpu", "--resolution", 24)
    assert run("reconstruct", capture_folder, "--out", cloud, *network) == 0
    assert run("render", cloud, "--cameras", capture_folder / "transforms.json", "--out", tmp_path / "pictures") == 0
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == [f"view_{i}.png" for i in range(4)]
    scores = tmp_path / "scores.json"
    assert run("evaluate", capture_folder, "--inputs", "0-2", "--json", scores, *network) == 0
    document = json.loads(scores.read_text())
    assert document["targets"] == [3]
    assert document["pictures"]["view_3"]["psnr"] == pytest.approx(document["psnr"])
    assert f"{document['psnr']:.3f} dB" in capsys.readouterr().out
    assert run("evaluate", capture_folder, "--json", tmp_path / "default.json", *network) == 0
    assert json.loads((tmp_path / "default.json").read_text()) == document
    assert run("convert", cloud, tmp_path / "all.ply", "--all", "--fps", 12) == 0
    assert len(list(tmp_path.glob("all_*.ply"))) == 4  # 0.25 s at 12 frames a second
    assert run("convert", cloud, tmp_path / "4d.ply") == 0
    assert run("convert", tmp_path / "4d.ply", tmp_path / "back.safetensors") == 0
    assert torch.allclose(load_cloud(tmp_path / "back.safetensors").mean, load_cloud(cloud).mean)
    assert len(read_ply(tmp_path / "4d.ply")) == len(load_cloud(cloud))
    for ending in (".spz", ".glb", ".usda"):
        assert run("convert", cloud, tmp_path / f"moment{ending}", "--time", 0.1) == 0
    assert run("convert", cloud, tmp_path / "clip.usda", "--fps", 12) == 0
    assert "endTimeCode = 3\n" in (tmp_path / "clip.usda").read_text()
    assert run("convert", tmp_path / "moment.spz", tmp_path / "moment.glb") == 0
    assert run("convert", tmp_path / "moment.spz", tmp_path / "from_spz.safetensors") == 0
    assert len(load_cloud(tmp_path / "from_spz.safetensors")) == len(read_splats(tmp_path / "moment.spz"))
    assert run("info") == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("reconstruct", "nowhere", "--out", "new/cloud.safetensors"),
        ("reconstruct", "capture", "--out", "capture/transforms.json"),
        ("reconstruct", "capture", "--out", "capture"),
        ("reconstruct", "capture", "--out", "capture/view_0.png/cloud.safetensors"),
        ("reconstruct", "capture", "--out", "x" * 300 + ".safetensors"),
        ("reconstruct", "x" * 5000, "--out", "cloud.safetensors"),
        ("reconstruct", "capture", "--out", "cloud.safetensors", "--model", "huge"),
        ("reconstruct", "capture", "--out", "/proc/cannot/cloud.safetensors"),
        ("render", "capture/view_0.png", "--cameras", "capture/transforms.json", "--out", "pictures"),
        ("evaluate", "capture", "--inputs", "0,9"),
        ("render", "cloud.safetensors", "--cameras", "capture", "--out", "capture/view_0.png"),
        ("evaluate", "capture", "--json", "capture"),
        ("evaluate", "capture", "--inputs", ""),
        ("evaluate", "capture", "--inputs", "2-0"),
        ("evaluate", "capture", "--inputs", "0-"),
        ("evaluate", "capture", "--inputs", "0-999999999"),
        ("evaluate", "capture", "--inputs", "zero"),
        ("evaluate", "capture", "--inputs", "0-3"),
        ("convert", "capture/view_0.png", "out.ply"),
        ("convert", "cloud.safetensors", "out.obj"),
        ("convert", "cloud.safetensors", "out.safetensors", "--all"),
        ("convert", "cloud.safetensors", "out.ply", "--time", "nan"),
        ("convert", "cloud.safetensors", "out.ply", "--time", "0.5"),
        ("convert", "cloud.safetensors", "out.ply", "--all", "--fps", "inf"),
        ("convert", "cloud.safetensors", "out.usda", "--fps", "0"),
        ("convert", "cloud.safetensors", "out.spz"),
        ("convert", "capture/transforms.json", "out.glb"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, capture_folder, model, monkeypatch, capsys, arguments):
    monkeypatch.chdir(tmp_path)
    save_cloud(reconstruct(small_capture(), CPU_24, model), "cloud.safetensors")
    before = sorted(tmp_path.rglob("*"))
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("Error: ")
    assert error.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.slow
def test_a_render_outside_the_clip_warns(tmp_path, capture_folder, model, capsys):
    cloud = reconstruct(small_capture(), CPU_24, model)
    cloud.time_range = (0.0, 0.1)
    save_cloud(cloud, tmp_path / "cloud.safetensors")
    assert run("render", tmp_path / "cloud.safetensors", "--cameras", capture_folder, "--out", tmp_path / "out") == 0
    assert "2 frames lie outside the cloud's 0 to 0.1 s" in capsys.readouterr().err


def test_interrupted_work_leaves_in_one_line(tmp_path, capture_folder, monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("backend.windows.reconstruct", interrupt)
    assert run("reconstruct", capture_folder, "--out", tmp_path / "new" / "cloud.safetensors") == 130
    assert capsys.readouterr().err == "Cancelled.\n"
    assert not (tmp_path / "new").exists()
