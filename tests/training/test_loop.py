# SPDX-License-Identifier: GPL-3.0-or-later
"""The trainer: learns and resumes bit for bit; on shapes, which need no asset packs."""

import csv
import json
import re
import shutil
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from backend import models
from backend.__main__ import main
from backend.errors import UserError
from backend.facelift.gslrm import GSLRM, GSLRMConfig
from backend.facelift.weights import LICENCE
from backend.gaussians import Gaussians4D
from backend.lrm4d import LARGE_FROM_GSLRM, LRM4D, PIXEL_CHANNELS, SMALL
from backend.rasterize import over_white_srgb
from backend.training import checkpoints, loop, processes, tasks, validate
from backend.training.checkpoints import find_checkpoint
from backend.training.config import Batch, TrainConfig, read_config
from backend.training.loop import train
from backend.training.losses import geometry_errors, reconstruction_loss
from backend.training.predict import predict, predict_views
from backend.training.start import can_grow, grow, to_lrm4d
from backend.training.validate import validation_scenes, validation_sheet
from tests.helpers.files import full_disk
from tests.helpers.tiny_gslrm import save_checkpoint
from tests.helpers.tiny_lrm import rig
from tests.helpers.tiny_run import CONFIG, TINY

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(models.CONFIGS, "tiny", TINY)
    monkeypatch.setattr(loop, "LOG_EVERY", 2)
    monkeypatch.setattr(validate, "SHEET_SCENES", 1)
    monkeypatch.setattr(validate, "TARGETS", 1)


def test_a_run_leaves_weights_that_load_and_a_log(tmp_path):
    train(CONFIG, tmp_path, tmp_path / "run")
    model = models.load_model(tmp_path / "run" / "tiny.safetensors")
    assert model.config == TINY
    assert json.loads((tmp_path / "run" / "tiny.json").read_text())["step"] == 4
    with (tmp_path / "run" / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["2", "4"]
    assert all(float(row["loss"]) > 0 for row in rows)
    seconds = [float(row["seconds"]) for row in rows]
    scenes = float(rows[1]["scenes_per_second"]) * (seconds[1] - seconds[0])
    assert scenes == pytest.approx(3, rel=0.05)  # a batch of two and a batch of one
    assert not list((tmp_path / "run").glob("*.part"))


def test_a_run_leaves_pictures_of_what_its_weights_show(tmp_path):
    train(replace(CONFIG, save_every=2), tmp_path, tmp_path / "run")
    pictures = sorted((tmp_path / "run" / "pictures").iterdir())
    assert [path.name for path in pictures] == ["0000002.png", "0000004.png"]
    model = models.load_model(tmp_path / "run" / "tiny.safetensors")
    scenes = validation_scenes("shapes", tmp_path, torch.device("cpu"))
    expected = validation_sheet(partial(predict_views, model), scenes, 2, 16)
    assert np.array_equal(np.asarray(Image.open(pictures[1])), expected)


def test_a_run_that_was_stopped_goes_on_bit_for_bit(tmp_path, monkeypatch):
    whole = train(CONFIG, tmp_path, tmp_path / "whole")
    monkeypatch.setattr(loop, "largest", lambda *_: 1.0)  # as if the time were up at the first look
    stopped = train(CONFIG, tmp_path, tmp_path / "parts")
    assert stopped.step == 2
    monkeypatch.undo()
    monkeypatch.setitem(models.CONFIGS, "tiny", TINY)
    resumed = train(CONFIG, tmp_path, tmp_path / "parts")
    assert resumed.step == 4
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name
    for name, value in whole.average.items():
        assert torch.equal(resumed.average[name], value), name


def test_a_run_learns_every_number_of_refinements_and_none(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(tasks, "predict", lambda *given: made.append(given[3]) or predict(*given))
    train(CONFIG, tmp_path, tmp_path / "run")
    assert made == [0, 1, 2, 0]


def test_a_new_run_starts_from_given_weights(tmp_path):
    train(CONFIG, tmp_path, tmp_path / "first")
    weights, card = tmp_path / "first" / "tiny.safetensors", tmp_path / "first" / "tiny.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"licence": "CC0-1.0"}))
    run = train(replace(CONFIG, steps=0), tmp_path, tmp_path / "second", weights=weights)
    loaded = models.load_model(weights).state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in run.model.state_dict().items())
    assert json.loads((tmp_path / "second" / "tiny.json").read_text())["licence"] == "CC0-1.0"


def test_a_run_starts_from_gs_lrm_and_learns_time(tmp_path, monkeypatch):
    """The weights, the form that their card tells and the licence are those of GS-LRM, also after going on."""
    sizes = {"layers": 1, "width": 64, "heads": 1}
    form = replace(LARGE_FROM_GSLRM, **sizes)
    monkeypatch.setitem(models.CONFIGS, "tiny_from_gslrm", form)
    model = GSLRM(GSLRMConfig(**sizes))
    weights = save_checkpoint(model, tmp_path / "ckpt.pt")
    config = replace(CONFIG, model="tiny_from_gslrm")
    run = train(replace(config, steps=0), tmp_path, tmp_path / "run", weights=weights)
    start = to_lrm4d(model).state_dict()
    assert all(torch.equal(value, start[name]) for name, value in run.model.state_dict().items())
    run = train(config, tmp_path, tmp_path / "run", weights=weights)
    clock = run.model.embed.weight.detach().unflatten(1, (-1, PIXEL_CHANNELS))[..., -1]
    assert not start["embed.weight"].unflatten(1, (-1, PIXEL_CHANNELS))[..., -1].any()
    assert clock.any()
    assert models.load_model(tmp_path / "run" / "tiny_from_gslrm.safetensors").config == form
    card = json.loads((tmp_path / "run" / "tiny_from_gslrm.json").read_text())
    assert (card["step"], card["licence"]) == (4, LICENCE)


def test_only_gs_lrm_of_the_same_form_can_start_a_run(tmp_path):
    weights = save_checkpoint(GSLRM(GSLRMConfig(layers=1, width=64, heads=1)), tmp_path / "ckpt.pt")
    with pytest.raises(UserError, match="of another form than 'tiny'"):
        train(CONFIG, tmp_path, tmp_path / "run", weights=weights)
    harmonics = GSLRM(GSLRMConfig(layers=1, width=64, heads=1, sh_degree=1))
    with pytest.raises(UserError, match=r"cannot start from .* degree 1"):
        train(CONFIG, tmp_path, tmp_path / "run", weights=save_checkpoint(harmonics, tmp_path / "ckpt.pt"))


def test_weights_of_another_form_are_refused(tmp_path, monkeypatch):
    """Numbers that fit but mean something else would train from nonsense."""
    train(CONFIG, tmp_path, tmp_path / "first")
    monkeypatch.setitem(models.CONFIGS, "tiny", replace(TINY, pixel_bound=False))
    with pytest.raises(UserError, match="of another form"):
        train(CONFIG, tmp_path, tmp_path / "second", weights=tmp_path / "first" / "tiny.safetensors")


def test_grown_weights_predict_the_same():
    small = LRM4D(replace(TINY, layers=2, refinements=2))
    large = LRM4D(replace(TINY, layers=3, expansion=TINY.expansion + 2, refinements=5, corrections=1))
    new = large.load_state_dict(grow(small.state_dict(), small.config, large.config), strict=False).missing_keys
    assert new and all(name.startswith("corrector.") for name in new)  # which adds nothing at first
    assert torch.equal(large(*rig())[0], small(*rig())[0])
    assert torch.equal(large.step_sizes[[0, 1, 2, 4]], small.step_sizes[[0, 1, 1, 1]])
    assert all(block.expand.weight.any() for block in large.blocks)  # otherwise a block would never learn


def test_only_smaller_weights_of_the_same_meaning_can_grow():
    deeper = replace(TINY, layers=TINY.layers + 1, close_ups=True)
    assert can_grow(TINY, deeper)
    assert not can_grow(deeper, TINY)
    assert not can_grow(replace(TINY, depth_range=1.0), deeper)
    corrected = [replace(TINY, corrections=count) for count in (0, 1, 2)]
    assert [can_grow(corrected[one], corrected[two]) for one, two in ((0, 2), (2, 2), (1, 2), (2, 0))] == [
        True,
        True,
        False,
        False,
    ]


def test_corrections_alone_can_learn(tmp_path, monkeypatch):
    """All else stays as it is, and is not even averaged anew; batches with missing cameras count, too."""
    monkeypatch.setitem(models.CONFIGS, "tiny", replace(TINY, completes=True))
    train(CONFIG, tmp_path, tmp_path / "first")
    monkeypatch.setitem(models.CONFIGS, "tiny", replace(TINY, completes=True, corrections=1))
    first = tmp_path / "first" / "tiny.safetensors"
    batches = (Batch(2, 16, 2), Batch(1, 16, 2, 2, "photos"))
    config = replace(CONFIG, corrections_only=True, batches=batches, blind_share=0.0)
    run = train(config, tmp_path, tmp_path / "second", weights=first)
    before, after = models.load_model(first).state_dict(), run.model.state_dict()
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed == {"step_sizes"}
    assert run.model.corrector.decode.weight.any() and run.failures == 0
    averaged = models.load_model(tmp_path / "second" / "tiny.safetensors").state_dict()
    assert all(torch.equal(value, averaged[name]) for name, value in before.items() if name != "step_sizes")
    assert averaged["corrector.decode.weight"].any()


def test_corrections_of_a_model_without_any_are_refused(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('model = "base"\nsteps = 1\ncorrections_only = true\n')
    with pytest.raises(UserError, match="'base' has no corrections; remove it"):
        read_config(path)


def broken_loss(*arguments):
    loss, decibels = reconstruction_loss(*arguments)
    return loss * torch.nan, decibels


def test_a_step_with_a_broken_gradient_is_skipped(tmp_path, monkeypatch):
    run = loop.Run(replace(CONFIG, weight_decay=0.0), tmp_path, torch.device("cpu"))
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    monkeypatch.setattr(tasks, "reconstruction_loss", broken_loss)
    run.advance()
    assert all(torch.equal(value, before[name]) for name, value in run.model.state_dict().items())
    monkeypatch.undo()
    run.advance()
    assert any(not torch.equal(value, before[name]) for name, value in run.model.state_dict().items())


def test_a_run_that_only_fails_stops_and_keeps_its_last_good_state(tmp_path, monkeypatch):
    train(CONFIG, tmp_path, tmp_path / "run")
    good = find_checkpoint(tmp_path / "run")
    monkeypatch.setattr(loop, "MOST_FAILURES", 2)
    monkeypatch.setattr(tasks, "reconstruction_loss", broken_loss)
    with pytest.raises(UserError, match="no finite gradient"):
        train(replace(CONFIG, steps=9, save_every=1), tmp_path, tmp_path / "run")
    assert find_checkpoint(tmp_path / "run") == good and good.name == "00000004"


def test_a_checkpoint_that_was_not_finished_is_passed_over(tmp_path):
    run = train(replace(CONFIG, steps=2), tmp_path, tmp_path / "run")
    good = find_checkpoint(tmp_path / "run")
    shutil.copytree(good, good.with_name("00000003"))
    (good.with_name("00000003") / ".metadata").unlink()
    assert find_checkpoint(tmp_path / "run") == good
    assert train(CONFIG, tmp_path, tmp_path / "run").step == 4 > run.step
    assert [path.name for path in good.parent.iterdir()] == ["00000004"]


def test_a_checkpoint_of_an_earlier_version_is_named(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "state.pt").touch()
    with pytest.raises(UserError, match=r"state.pt is of an earlier version"):
        train(CONFIG, tmp_path, tmp_path / "run")


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path):
    train(replace(CONFIG, steps=2), tmp_path, tmp_path / "run")
    good = find_checkpoint(tmp_path / "run")
    with full_disk(20_000), pytest.raises(UserError, match=r"cannot be written .*; make room"):
        checkpoints.save_checkpoint({"value": torch.zeros(10_000)}, tmp_path / "run", 3)
    assert find_checkpoint(tmp_path / "run") == good


def test_a_batch_that_does_not_fit_is_named(tmp_path, monkeypatch):
    def advance(run):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(loop.Run, "advance", advance)
    with pytest.raises(UserError, match=r"batch \[2, 16, 2\] does not fit .* say to 1"):
        train(CONFIG, tmp_path, tmp_path / "run")
    with pytest.raises(UserError, match=r"batch \[2, 16, 1\] does not fit .* its first two or set activation_ch"):
        train(replace(CONFIG, batches=((2, 16, 1),)), tmp_path, tmp_path / "run")


def test_activations_computed_anew_give_the_same_weights(tmp_path):
    kept = train(CONFIG, tmp_path, tmp_path / "kept").model.state_dict()
    anew = train(replace(CONFIG, activation_checkpointing=True), tmp_path, tmp_path / "anew").model.state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in anew.items())


def test_processes_that_are_started_again_on_several_nodes_need_a_store_of_their_own(tmp_path, monkeypatch):
    """Of a single node, test_sharding.py shows that they find one another."""
    told = {"WORLD_SIZE": "16", "GROUP_WORLD_SIZE": "2", "TORCHELASTIC_MAX_RESTARTS": "3"}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.distributed, "rendezvous", lambda url: iter([(torch.distributed.HashStore(), 0, 16)]))
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    with pytest.raises(UserError, match="Set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 on all nodes before torchrun"):
        train(CONFIG, tmp_path, tmp_path / "run")
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "False")
    assert processes._meeting() == "start"


def test_a_state_of_another_model_is_named(tmp_path, monkeypatch):
    train(CONFIG, tmp_path, tmp_path / "run")
    monkeypatch.setitem(models.CONFIGS, "tiny", replace(TINY, width=64))
    with pytest.raises(UserError, match="of another model than 'tiny'"):
        train(CONFIG, tmp_path, tmp_path / "run")


def test_rate_warms_up_holds_and_decays():
    config = TrainConfig(model="tiny", steps=1000, warmup=100, decay=200, learning_rate=1.0)
    assert config.rate(0) == pytest.approx(0.01)
    assert config.rate(500) == 1
    assert config.rate(900) == pytest.approx(0.5)
    assert config.rate(999) == pytest.approx(0.005)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("model = 'small'\nsteps = 9\nspeed = 3", "sets speed, which the trainer does not know"),
        ("model = 'small'", "incomplete"),
        ("model =", "cannot be read as TOML"),
        ("model = 'huge'\nsteps = 9", "names the model 'huge'; choose one of"),
        ("model = 'small'\nsteps = 'many'", "sets steps to 'many', which should be of type int"),
        ("model = 'small'\nsteps = 9\nfsdp = 1", "sets fsdp to 1, which should be of type bool"),
        ("model = 'small'\nsteps = true", "sets steps to True, which should be of type int"),
        ("model = 'small'\nsteps = 1" + "0" * 400, "sets steps to what is too large"),
        ("model = 'small'\nsteps = 9\nlearning_rate = nan", "sets learning_rate to what is too large or no number"),
        ("model = " + "[" * 10_000, "cannot be read as TOML"),
        ("model = 'small'\nsteps = 9\nbatches = [[8, 128]]", "list of \\[inputs, resolution, scenes\\]"),
    ],
)
def test_bad_configs_are_named(tmp_path, text, sentence):
    (tmp_path / "run.toml").write_text(text)
    with pytest.raises(UserError, match=sentence):
        read_config(tmp_path / "run.toml")


@pytest.mark.parametrize("path", sorted(Path(loop.__file__).parent.glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_configs_train_the_model_they_are_named_after(path):
    config = read_config(path)
    assert config.model == path.stem.removesuffix("_corrections")
    assert config.warmup + config.decay < config.steps


def test_configs_are_read_as_written(tmp_path):
    text = "\n".join(f"{key} = {json.dumps(value)}" for key, value in asdict(CONFIG).items())
    (tmp_path / "run.toml").write_text(text)
    assert read_config(tmp_path / "run.toml") == CONFIG


def test_loss_is_zero_for_the_truth_and_sees_background_in_the_matte():
    truth = torch.rand(2, 16, 16, 4)
    truth[..., :3] *= truth[..., 3:]
    loss, decibels = reconstruction_loss(truth[..., :3], truth[..., 3], truth, 0.1, 0.5)
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert decibels > 90
    white = torch.ones(2, 16, 16)  # opaque white where there is nothing looks right over white, and is wrong
    loss, decibels = reconstruction_loss(
        white[..., None].expand(-1, -1, -1, 3), white, torch.zeros(2, 16, 16, 4), 0, 0.5
    )
    assert decibels > 90
    assert loss.item() == pytest.approx(0.5)


def test_what_is_emphasised_counts_more():
    truth, predicted = torch.rand(2, 16, 16, 4), torch.rand(2, 16, 16, 3)
    truth[..., :3] *= truth[..., 3:]
    emphasis = torch.zeros(2, 16, 16)
    emphasis[0, 4:8, 2:9] = 3.0
    plain, _ = reconstruction_loss(predicted, truth[..., 3], truth, 0.1, 0.5)
    more, _ = reconstruction_loss(predicted, truth[..., 3], truth, 0.1, 0.5, emphasis)
    encoded = [over_white_srgb(color, truth[..., 3]) for color in (predicted, truth[..., :3])]
    there = (encoded[0] - encoded[1]).square().mean(-1)[emphasis > 0].sum().item()
    assert more.item() == pytest.approx(plain.item() + 3 * there / emphasis.numel(), rel=1e-4)


def test_geometry_errors_measure_distance_at_the_pictures_time():
    """A cloud that sits a known way off the surface, at the picture's time and not at its own mean time."""
    points = torch.rand(1, 1, 8, 8, 3)
    covered = torch.ones(1, 1, 8, 8, dtype=torch.bool)
    covered[..., :4, :] = False
    times = torch.tensor([[0.5]])
    turned = torch.nn.functional.normalize(torch.tensor([1.0, 0.1, 0, 0]), dim=0)
    unit = torch.tensor([1.0, 0, 0, 0])
    cloud = Gaussians4D(
        mean=torch.zeros(1, 64, 4),
        scale=torch.tensor([0.01, 0.01, 0.01, 1.0]).expand(1, 64, 4),
        left=turned.expand(1, 64, 4),
        right=unit.expand(1, 64, 4),
        opacity=torch.full((1, 64), 0.6),
        color=torch.zeros(1, 64, 3),
    )
    speed, variance, _ = cloud.motion()
    cloud.mean[..., :3] = points.view(1, 64, 3) - 0.5 * speed + torch.tensor([0.0, 0.3, 0.4])
    velocity = speed.view(1, 1, 8, 8, 3) + torch.tensor([0.2, 0.0, 0.0])
    errors = geometry_errors(cloud.to_moving(), times, points, velocity, covered, patch=8)
    assert errors.position.item() == pytest.approx(0.5, abs=1e-4)
    assert errors.velocity.item() == pytest.approx(0.2, abs=1e-3)
    assert errors.empty.item() == pytest.approx(0.6 * torch.exp(-0.125 / variance[0, 0]).item(), abs=1e-4)


def test_a_dry_run_rehearses_every_part_and_leaves_nothing(tmp_path, monkeypatch, capsys):
    """From the command line, with the bundled model's config and one of its layers, on shapes."""
    monkeypatch.setitem(models.CONFIGS, "small", replace(SMALL, layers=1, refinements=1))
    monkeypatch.chdir(tmp_path)
    text = (Path(loop.__file__).parent / "small.toml").read_text()
    text = re.sub(r'\[[^][]*"(photos|clip)"\],', "", text)  # they show heads
    for field in ("heads_share", "missing_perceptual_weight"):  # these need packs
        text = re.sub(rf"^{field} = .*", f"{field} = 0.0", text, flags=re.MULTILINE)
    (tmp_path / "run.toml").write_text(text)
    before = set(tmp_path.iterdir())
    assert main(["train", "--config", "run.toml", "--assets", str(tmp_path), "--out", "runs", "--dry-run"]) == 0
    assert "The run would start: {'scenes': 1" in capsys.readouterr().out
    assert set(tmp_path.iterdir()) == before
