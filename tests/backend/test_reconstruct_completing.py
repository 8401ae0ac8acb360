# SPDX-License-Identifier: GPL-3.0-or-later
"""What no picture shows is completed: when, where, from which noise; with a tiny model of random weights."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from backend import memory, models
from backend.__main__ import main
from backend.capture import Capture, save_capture
from backend.complete import noise_levels
from backend.errors import Cancelled, UserError
from backend.gaussians import load_cloud
from backend.lrm4d import GAUSSIAN_CHANNELS, LRM4D, OPACITY, LRM4DConfig, Noisy
from backend.options import ReconstructOptions
from backend.planning import make_plan
from backend.reconstruct import predict, prepare, reconstruct
from tests.helpers.captures import small_capture

CONFIG = LRM4DConfig(layers=2, width=32, heads=2, opacity_bias=0.0, pixel_bound=True, refinements=2, completes=True)
SMALL = ReconstructOptions(device="cpu", resolution=16, refinements=0, steps=2)
CENTRE = (0.1, -0.2, 0.05)


@pytest.fixture(scope="module")
def model() -> LRM4D:
    torch.manual_seed(0)
    model = LRM4D(CONFIG).eval().requires_grad_(False)
    torch.nn.init.normal_(model.unseen, std=0.1)
    torch.nn.init.normal_(model.level.weight, std=0.1)
    return model


@pytest.fixture
def photo() -> Capture:
    """One picture whose subject is opaque."""
    (frame,) = small_capture().select([0]).frames
    frame.image[..., 3] = 255
    return Capture([frame])


def test_one_photo_is_completed_and_the_log_says_so(model, photo, caplog):
    caplog.set_level("INFO", "facet4d")
    cloud = reconstruct(photo, SMALL, model, CENTRE)
    assert "No camera stands in 360 degrees around the subject: 5 views there are completed (seed 0)." in caplog.text
    assert 16 * 16 < len(cloud) <= 6 * 16 * 16
    assert not any(record.levelname == "WARNING" for record in caplog.records)


def test_a_cloud_of_one_moment_holds_nothing_that_shows_at_others_alone(model, photo):
    """Gaussians with times of their own, far from the photo's, are left out."""
    timely = copy.deepcopy(model)
    with torch.no_grad():
        channels = timely.decode.weight.view(-1, sum(GAUSSIAN_CHANNELS), CONFIG.width)
        channels[:, OPACITY + 1 : OPACITY + 3] *= 100
    cloud, whole = (reconstruct(photo, SMALL, network, CENTRE) for network in (timely, model))
    assert 0 < len(cloud) < 0.9 * len(whole)
    assert cloud.opacity.min() >= 0.05


def test_where_every_side_is_seen_all_is_as_if_nothing_could_be_completed(model):
    ring = Capture([replace(frame, held_out=False) for frame in small_capture().frames])  # 90 degrees apart
    auto, off = (reconstruct(ring, replace(SMALL, complete=how), model) for how in ("auto", "off"))
    for one, other in zip(auto.tensors(), off.tensors(), strict=True):
        assert torch.equal(one, other)
    assert len(make_plan(ring, replace(SMALL, complete=3), model).missing) == 3


def test_a_camera_that_looks_past_the_subject_is_warned_about(model, photo, caplog):
    camera = photo.frames[0].camera
    beside = camera.position + camera.forward + 2 * camera.camera_to_world[:3, 0]
    assert len(reconstruct(photo, SMALL, model, beside))
    assert "No picture shows the subject's centre" in caplog.text


def test_empty_pictures_are_not_completed(model, photo):
    photo.frames[0].image[..., 3] = 0
    with pytest.raises(UserError, match="their mattes are empty; cut the subject out again"):
        reconstruct(photo, SMALL, model, CENTRE)


def test_the_seed_decides_what_is_completed(model, photo):
    first, again, other = (reconstruct(photo, replace(SMALL, seed=seed, steps=1), model, CENTRE) for seed in (4, 4, 5))
    assert torch.equal(first.mean, again.mean) and torch.equal(first.color, again.color)
    assert len(first) != len(other) or not torch.equal(first.color, other.color)


def test_a_model_that_cannot_complete_does_not_unless_it_must(photo, caplog):
    caplog.set_level("INFO", "facet4d")
    model = LRM4D(replace(CONFIG, completes=False)).eval().requires_grad_(False)
    assert len(make_plan(photo, SMALL, model).missing) == 0
    assert "the unseen sides will be missing" in caplog.text and "completed" not in caplog.text
    with pytest.raises(UserError, match="This model cannot complete what no picture shows; choose another, or 'off'"):
        reconstruct(photo, replace(SMALL, complete=2), model)


@pytest.mark.parametrize("wrong", [0, 9, -1, "all", "5 views"])
def test_a_number_of_views_that_cannot_be_completed_is_refused(model, photo, wrong):
    with pytest.raises(UserError, match="cannot be completed; choose auto, off or 1 to 8"):
        reconstruct(photo, replace(SMALL, complete=wrong), model, CENTRE)


def test_one_camera_without_a_centre_is_warned_about(model, photo, caplog):
    frames = [replace(photo.frames[0], time=time, name=f"{time}") for time in (0.0, 0.5, 1.0)]
    assert len(reconstruct(Capture(frames), SMALL, model))
    assert "One camera alone does not tell how far away the subject is" in caplog.text


def test_the_subject_is_where_its_centre_is_said_to_be(model, photo):
    near, far = (photo.frames[0].camera.position * (1 - share) for share in (0.3, 0.6))
    near, far = (reconstruct(photo, SMALL, model, centre).mean[:, :3].mean(0) for centre in (near, far))
    position = torch.tensor(photo.frames[0].camera.position, dtype=torch.float32)
    assert (far - position).norm() / (near - position).norm() == pytest.approx(2, rel=0.01)


def test_every_step_gives_a_cloud_and_the_last_is_the_result(model, photo):
    clouds = []
    cloud = reconstruct(photo, replace(SMALL, steps=3), model, CENTRE, on_cloud=clouds.append)
    assert len(clouds) == 3
    assert torch.equal(clouds[-1].mean, cloud.mean) and clouds[0].time_range == cloud.time_range
    assert not torch.equal(clouds[0].mean, cloud.mean)


def test_a_step_reads_what_the_last_one_drew_with_its_outline_decided(model, photo, monkeypatch):
    alpha = torch.full((1, 1, 16, 16), 0.6)
    alpha[..., 8:] = 0.4
    black = torch.zeros(1, 1, 16, 16, 3)
    read, forward = [], model.forward

    def reading(*given, noisy: Noisy, **others):
        read.append(noisy.pictures)
        return forward(*given, noisy=noisy, **others)

    monkeypatch.setattr("backend.reconstruct.render_moving", lambda *_, **__: (black, alpha))
    monkeypatch.setattr(model, "forward", reading)
    reconstruct(photo, replace(SMALL, complete=1), model, CENTRE)
    kept = noise_levels(2)[1]  # of the noise
    drawn = (read[1] - kept * read[0]) / (1 - kept)
    torch.testing.assert_close(drawn[..., :8], torch.full_like(drawn[..., :8], -1))  # black
    torch.testing.assert_close(drawn[..., 8:], torch.full_like(drawn[..., 8:], 1))  # white


def test_pictures_are_read_as_light_as_they_are_where_views_are_completed(model, photo, monkeypatch):
    seen, forward = [], model.forward

    def reading(images, *given, **others):
        seen.append(torch.equal(images, others["colors"]))
        return forward(images, *given, **others)

    monkeypatch.setattr(model, "forward", reading)
    reconstruct(photo, replace(SMALL, complete=1), model, CENTRE)
    assert seen and all(seen)


def test_progress_names_the_step_and_stops_there(model, photo):
    seen = []
    reconstruct(photo, SMALL, model, CENTRE, progress=lambda *report: seen.append(report))
    assert {stage for stage, _ in seen if "Completing" in stage} == {
        "Completing, step 1 of 2",
        "Completing, step 2 of 2",
    }
    fractions = [fraction for _, fraction in seen]
    assert fractions == sorted(fractions) and fractions[-1] == 1

    def stop(stage: str, fraction: float) -> None:
        if stage == "Completing, step 2 of 2":
            raise Cancelled

    clouds = []
    with pytest.raises(Cancelled):
        reconstruct(photo, SMALL, model, CENTRE, progress=stop, on_cloud=clouds.append)
    assert len(clouds) == 1
    assert not any(block._forward_pre_hooks for block in model.blocks)


def test_too_many_missing_views_say_what_to_lower(model, photo, monkeypatch):
    sizes = CONFIG.layers, CONFIG.width, CONFIG.patch
    few, many = (memory.reconstruction_bytes(*sizes, (1 + views) * 4, missing=views) for views in (1, 8))
    monkeypatch.setattr("backend.planning._free_memory", lambda device: (few + many) / 2)
    assert len(make_plan(photo, replace(SMALL, complete=1), model, CENTRE).missing) == 1
    with pytest.raises(UserError, match=r"GiB are needed.*complete fewer views, use fewer pictures or a lower resol"):
        make_plan(photo, replace(SMALL, complete=8), model, CENTRE)


def test_refinements_leave_what_no_known_picture_sees_alone(model, photo):
    """What lies in the photo's frame changes; what lies far outside of it stays, bit for bit."""
    model = copy.deepcopy(model)
    model.decode.weight *= 30
    model.config = replace(CONFIG, depth_range=6.0, scale_limit=0.01)  # small Gaussians all over the place
    plain, refined = (prepare(photo, replace(SMALL, refinements=count), model, CENTRE) for count in (0, 2))
    before, after = (predict(prepared) for prepared in (plain, refined))
    plan = plain.plan
    camera = plan.capture.frames[0].camera
    assert len(before) == len(after)
    pixel = camera.project(plan.normalisation.inverse().apply_points(before.at(torch.zeros(1)).mean[0].numpy()))
    outside = torch.from_numpy((np.abs(pixel - camera.width / 2) > camera.width).any(-1))
    assert outside.any() and not outside.all()
    assert torch.equal(before.mean[outside], after.mean[outside])
    assert not torch.equal(before.color[~outside], after.color[~outside])


def test_the_command_line_completes(tmp_path, model, photo, monkeypatch, capsys):
    monkeypatch.setitem(models.CONFIGS, "tiny", CONFIG)
    weights = tmp_path / "tiny.safetensors"
    models.save_weights(model.state_dict(), "tiny", weights, {})
    save_capture(photo, tmp_path / "photo")
    how = ["--model", weights, "--device", "cpu", "--resolution", 16, "--refinements", 0, "--steps", 1]

    def run(*arguments) -> int:
        return main([str(argument) for argument in ("reconstruct", tmp_path / "photo", *how, *arguments)])

    assert run("--out", tmp_path / "auto.safetensors", "--centre", "-0.1,0,0") == 0
    assert "5 views there are completed (seed 0)" in capsys.readouterr().out
    assert run("--out", tmp_path / "off.safetensors", "--complete", "off") == 0
    assert len(load_cloud(tmp_path / "off.safetensors")) < len(load_cloud(tmp_path / "auto.safetensors"))
    capsys.readouterr()
    for wrong, sentence in (
        (("--complete", "9"), "'9' views cannot be completed; choose auto, off or 1 to 8."),
        (("--centre", "1,2"), "'1,2' is not a point; write it as x,y,z"),
        (("--steps", "0"), "--steps is a number from 1 to 64"),
        (("--seed", "-1"), "--seed is a number from 0"),
    ):
        assert run("--out", tmp_path / "wrong.safetensors", *wrong) == 2
        assert sentence in capsys.readouterr().err
