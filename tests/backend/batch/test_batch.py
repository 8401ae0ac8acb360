# SPDX-License-Identifier: GPL-3.0-or-later
"""The command batch: what it does and leaves out, records and goes on with; the steps are taken in this process."""

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from backend import memory, planning, windows
from backend.__main__ import main
from backend.batch import local, steps
from backend.batch.failures import Report
from backend.batch.manifest import read_shots
from backend.batch.shots import DONE, FAILED, OPEN, state_of
from backend.batch.units import MOST_TRIES, Tries, Unit
from backend.calibrations.load import load_capture
from backend.capture import TRANSFORMS
from backend.errors import UserError
from backend.gaussians import load_cloud
from backend.models import load_model
from backend.reconstruct import reconstruct
from tests.helpers.batches import run_here, write_capture, write_shots
from tests.helpers.files import full_disk
from tests.helpers.tiny_completing import write_model

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def batch(tmp_path, model, monkeypatch):
    """The command for tmp_path/shots; returns the exit code and the names of the shots that were worked on."""
    monkeypatch.setattr(local, "run_locally", run_here)
    worked = []
    write = steps.write

    def watch(predicted):
        outcome = write(predicted)
        worked.append(outcome.unit.name)
        return outcome

    monkeypatch.setattr(steps, "write", watch)

    def run(*more: str, shots: Path | None = None) -> tuple[int, list[str]]:
        worked.clear()
        given = [str(shots or tmp_path / "shots"), "--out", str(tmp_path / "out"), "--model", str(model)]
        code = main(["batch", *given, "--complete", "off", "--device", "cpu", *more])
        return code, sorted(name.removesuffix(".-1") for name in worked)

    return run


def record(tmp_path: Path, name: str) -> dict:
    return json.loads((tmp_path / "out" / f"{name}.json").read_text())


def test_what_is_finished_is_left_out_and_what_has_changed_is_made_again(batch, tmp_path):
    shots = write_shots(tmp_path / "shots", 2)
    names = ["shot_000", "shot_001"]
    assert batch() == (0, names)
    assert batch() == (0, [])
    os.utime(shots / "shot_000" / TRANSFORMS)  # copied, perhaps: its content is the same
    assert batch() == (0, [])
    picture = next((shots / "shot_000").glob("*.png"))
    Image.fromarray(255 - np.asarray(Image.open(picture))).save(picture)
    assert batch() == (0, names[:1])
    assert batch("--refinements", "0", "--seed", "5") == (0, names)
    assert batch("--refinements", "0", "--seed", "5") == (0, [])


def test_half_of_a_shot_is_made_again(batch, tmp_path):
    write_shots(tmp_path / "shots", 2)
    batch()
    (tmp_path / "out/shot_000.json").unlink()
    (tmp_path / "out/shot_001.safetensors").write_bytes(b"half")
    assert batch() == (0, ["shot_000", "shot_001"])
    assert len(load_cloud(tmp_path / "out/shot_001.safetensors")) == record(tmp_path, "shot_001")["gaussians"]


def test_an_input_that_was_put_away_leaves_its_finished_shot(batch, tmp_path):
    shots = write_shots(tmp_path / "shots", 2)
    (tmp_path / "shots.csv").write_text("input\nshots/shot_000\nshots/shot_001\n")
    batch(shots=tmp_path / "shots.csv")
    shutil.rmtree(shots / "shot_000")
    assert batch(shots=tmp_path / "shots.csv") == (0, [])


def test_a_shot_that_fails_is_recorded_and_stops_no_other(batch, tmp_path):
    shots = write_shots(tmp_path / "shots", 3, broken=(0, 2))
    assert batch() == (1, ["shot_000", "shot_001", "shot_002"])
    assert record(tmp_path, "shot_000")["error"].startswith(f"There is no capture at {shots / 'shot_000'} that can be")
    assert "cannot be read as JSON" in record(tmp_path, "shot_002")["error"]
    assert record(tmp_path, "shot_001")["state"] == DONE
    assert batch() == (1, [])
    assert batch("--retry-failed") == (1, ["shot_000", "shot_002"])
    write_capture(shots / "shot_002", 2)
    assert batch() == (1, ["shot_002"])


def test_an_input_that_is_missing_fails_alone_until_it_comes(batch, tmp_path):
    write_capture(tmp_path / "there")
    table = tmp_path / "shots.csv"
    table.write_text("input\nthere\nlater\nphoto.jpg\n")
    assert batch(shots=table) == (1, ["later", "photo", "there"])
    assert "There is no capture at" in record(tmp_path, "later")["error"]
    assert "photo.jpg is missing" in record(tmp_path, "photo")["error"]
    write_capture(tmp_path / "later")
    assert batch(shots=table) == (1, ["later"])


def test_an_unexpected_error_fails_its_shot_alone_with_its_traceback(batch, tmp_path, monkeypatch):
    write_shots(tmp_path / "shots", 2)
    draw, calls = steps.draw_strip, []

    def draw_once(*arguments):
        calls.append(1)
        return draw(*arguments) if len(calls) > 1 else 1 / 0

    monkeypatch.setattr(steps, "draw_strip", draw_once)
    assert batch() == (1, ["shot_000", "shot_001"])
    assert record(tmp_path, "shot_000")["error"].startswith("Unexpected ZeroDivisionError")
    assert "draw_once" in record(tmp_path, "shot_000")["details"]


def test_a_record_tells_how_a_cloud_was_made(batch, tmp_path):
    write_shots(tmp_path / "shots", 1)
    batch("--seed", "7")
    found = record(tmp_path, "shot_000")
    assert found["settings"]["seed"] == 7 and found["settings"]["weights"]
    assert found["versions"].keys() == {"facet4d", "python", "torch", "machine"}
    assert found["seconds"].keys() == {"decode", "prepare", "predict", "score", "write"} and found["device"] == "CPU"
    assert len(found["files"]) == 4 and found["bytes_in"] == sum(size for size, _ in found["files"].values())
    assert found["bytes_out"] == (tmp_path / "out/shot_000.safetensors").stat().st_size
    assert found["pictures"] == 3 and found["windows"] == 1 and found["sharing"] == 1 and 5 < found["psnr"] < 30


def test_what_is_prepared_ahead_is_not_prepared_again_and_gives_the_same_cloud(tmp_path, model, monkeypatch):
    given = {"model": str(model), "complete": "off", "device": "cpu"}
    (shot,) = read_shots(write_shots(tmp_path / "shots", 1), tmp_path / "out", given)
    tries = Tries(tmp_path / "tries")
    predictor = steps.Predictor(tries)
    (unit,) = steps.split(tries, Unit(shot))
    decoded = steps.decode(tries, unit)
    assert predictor.prepare_ahead(decoded) is decoded  # for a processor
    in_turn = predictor.predict(decoded)
    monkeypatch.setattr(steps, "pick_device", lambda _: torch.device("cuda"))
    monkeypatch.setattr(predictor, "_load", lambda _: load_model(model))
    ahead = predictor.prepare_ahead(decoded)
    monkeypatch.undo()
    monkeypatch.setattr(steps, "prepare", None)
    assert all(map(torch.equal, predictor.predict(ahead).cloud.tensors(), in_turn.cloud.tensors()))


@pytest.mark.gpu
def test_a_gpu_predicts_what_was_prepared_and_scores_it_beside(tmp_path, model):
    given = {"model": str(model), "complete": "off", "device": "cuda"}
    (shot,) = read_shots(write_shots(tmp_path / "shots", 1), tmp_path / "out", given)
    tries = Tries(tmp_path / "tries")
    predictor = steps.Predictor(tries)
    (unit,) = steps.split(tries, Unit(shot))
    ahead = predictor.prepare_ahead(steps.decode(tries, unit))
    assert ahead.prepared.views.images.is_pinned()
    predicted = predictor.predict(ahead)
    assert predicted.cloud.mean.is_cuda
    scored = steps.score(tries, predicted)
    assert not scored.cloud.mean.is_cuda and scored.report.record["psnr"] > 5 and scored.strip is not None
    alone = reconstruct(load_capture(shot.input), shot.options, load_model(model, "cuda"))
    assert all(map(torch.equal, scored.cloud.tensors(), alone.tensors()))


def test_the_summary_shows_every_shot(batch, tmp_path):
    write_shots(tmp_path / "shots", 2, broken=(1,))
    batch()
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert (summary["done"], summary["failed"], summary["open"]) == (1, 1, 0)
    assert [(row["name"], row["state"]) for row in summary["shots"]] == [("shot_000", DONE), ("shot_001", FAILED)]
    page = (tmp_path / "out/summary.html").read_text()
    assert 'src="shot_000.jpg"' in page and "2 shots: 1 done, 1 failed, 0 open" in page
    assert "<tr class=failed><td>shot_001<td colspan=6>There is no capture at" in page
    strip = np.asarray(Image.open(tmp_path / "out/shot_000.jpg"))
    assert strip.shape == (32, 5 * 32, 3)


@pytest.mark.parametrize(("still", "views"), [(False, 2), (True, 2), (True, 6)])
def test_a_long_take_is_divided_and_joined_to_what_reconstruct_makes(
    still, views, batch, tmp_path, model, caplog, monkeypatch
):
    """With six cameras these are aligned once, also where windows are made apart."""

    def align(capture, *_):
        given = [frame.camera.camera_to_world for frame in capture.frames]
        moves = [np.outer([0.02 * (number % views), 0, 0, 0], [0, 0, 0, 1]) for number in range(len(given))]
        return {pose.tobytes(): pose + move for pose, move in zip(given, moves, strict=True)}

    monkeypatch.setattr(windows, "align_rig", align)
    write_capture(tmp_path / "shots/long", moments=40, views=views, still=still)
    code, units = batch()
    assert code == 0 and units[0] == "long.-2" and len(units) == 1 + record(tmp_path, "long")["windows"] > 3
    whole = tmp_path / "whole.safetensors"
    given = ["--model", str(model), "--complete", "off", "--device", "cpu"]
    caplog.clear()
    assert main(["reconstruct", str(tmp_path / "shots/long"), "--out", str(whole), *given]) == 0
    assert ("stands still and is kept once" in caplog.text) == still
    joined, expected = load_cloud(tmp_path / "out/long.safetensors"), load_cloud(whole)
    assert joined.time_range == expected.time_range
    assert all(torch.equal(*pair) for pair in zip(joined.tensors(), expected.tensors(), strict=True))
    assert not (tmp_path / "out/long.windows").exists()


def test_a_long_take_goes_on_with_the_windows_that_it_lacks(batch, tmp_path, monkeypatch):
    write_capture(tmp_path / "shots/long", moments=40, views=2)
    make, left = steps.fade_window, [2]

    def make_two(*arguments):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return make(*arguments)

    monkeypatch.setattr(steps, "fade_window", make_two)
    assert batch()[0] == 130
    monkeypatch.setattr(steps, "fade_window", make)
    code, units = batch()
    assert code == 0 and len(units) == 1 + record(tmp_path, "long")["windows"] - 2


def test_a_photo_becomes_a_head(batch, tmp_path):
    from tests.helpers.faces import astronaut

    (tmp_path / "shots").mkdir()
    Image.fromarray(astronaut()).save(tmp_path / "shots/collins.png")
    assert batch("--steps", "1", "--complete", "2") == (0, ["collins"])
    found = record(tmp_path, "collins")
    assert found["settings"]["complete"] == 2 and found["gaussians"] > 0 and "psnr" in found


def test_a_full_disk_stops_the_batch_and_it_goes_on_later(batch, tmp_path, capsys):
    write_shots(tmp_path / "shots", 3)
    with full_disk(60_000):  # more than a record, and less than a cloud
        assert batch()[0] == 2
    assert "cannot be written (File too large)" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("shot_*"))
    assert batch() == (0, ["shot_000", "shot_001", "shot_002"])


def test_what_was_finished_and_not_told_before_the_batch_stopped_is_in_the_summary(batch, tmp_path, monkeypatch):
    write_shots(tmp_path / "shots", 3, broken=(1,))

    def run_and_stop(units, tries, gpus, on_outcome, strict):
        run_here(units[:2], tries, gpus, lambda outcome: [], strict)
        raise UserError("The disk is full.")

    monkeypatch.setattr(local, "run_locally", run_and_stop)
    assert batch()[0] == 2
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert (summary["done"], summary["failed"], summary["open"]) == (1, 1, 1)


def test_a_shot_that_no_memory_holds_is_recorded_with_what_to_lower(batch, tmp_path, monkeypatch):
    write_shots(tmp_path / "shots", 1)
    monkeypatch.setattr(planning, "free_memory", lambda: 2**20)
    monkeypatch.setattr(memory, "free_memory", lambda: 2**40)
    assert batch() == (1, ["shot_000"])
    assert "use fewer pictures or a lower resolution" in record(tmp_path, "shot_000")["error"]
    assert batch() == (1, [])


def test_a_unit_whose_process_ends_again_and_again_is_given_up(tmp_path):
    write_capture(tmp_path / "shots/killer")
    (shot,) = read_shots(tmp_path / "shots", tmp_path / "out")
    tries = Tries(tmp_path / "tries")
    for _ in range(MOST_TRIES):
        tries.begin(Unit(shot), "decode")
    with pytest.raises(UserError, match=f"ended {MOST_TRIES} times, most likely for lack of memory; lower"):
        tries.begin(Unit(shot), "decode")
    failure = steps.decode(tries, Unit(shot))
    assert steps.write(failure, sharing=2).state == OPEN and state_of(shot) == OPEN
    assert isinstance(steps.decode(tries.afresh(), steps.split(tries.afresh(), Unit(shot))[0]), steps.Decoded)
    assert steps.write(failure).state == FAILED and state_of(shot) == FAILED


@pytest.mark.parametrize(
    "error, says, again",
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "The GPU's memory is too small for the step 'score'; use", True),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED"), "Unexpected RuntimeError: CUBLAS_STATUS_ALLOC_FAILED", True),
        (UserError("The pictures show nothing."), "The pictures show nothing.", False),
    ],
)
def test_what_may_be_a_lack_of_memory_is_left_open_beside_others(tmp_path, monkeypatch, error, says, again):
    write_capture(tmp_path / "shots/one")
    (shot,) = read_shots(tmp_path / "shots", tmp_path / "out")

    def fail(*_):
        raise error

    monkeypatch.setattr(steps, "draw_strip", fail)
    monkeypatch.setattr(steps, "score_inputs", lambda *_: {})
    sight = SimpleNamespace(inputs=load_capture(shot.input))
    predicted = steps.Predicted(Unit(shot), Report(), steps._nothing(), sight)
    failure = steps.score(Tries(tmp_path / "tries"), predicted)
    assert steps.write(failure, sharing=2).state == (OPEN if again else FAILED)
    assert state_of(shot) == (OPEN if again else FAILED)
    assert steps.write(failure).state == FAILED and failure.sentence.startswith(says)


def test_a_unit_whose_neighbour_ends_its_process_is_not_given_up(tmp_path):
    write_capture(tmp_path / "shots/innocent")
    (shot,) = read_shots(tmp_path / "shots", tmp_path / "out")
    (unit,) = steps.split(Tries(tmp_path / "tries"), Unit(shot))
    for _ in range(MOST_TRIES + 2):  # decoded, and lost with its process before anything was made of it
        assert isinstance(steps.decode(Tries(tmp_path / "tries"), unit), steps.Decoded)


def test_a_second_batch_in_the_same_folder_is_refused(batch, tmp_path, monkeypatch, capsys):
    write_shots(tmp_path / "shots", 1)
    codes = []

    def run_twice(*arguments):
        monkeypatch.setattr(local, "run_locally", run_here)
        codes.append(batch()[0])
        run_here(*arguments)

    monkeypatch.setattr(local, "run_locally", run_twice)
    assert batch()[0] == 0 and codes == [2]
    assert "Another batch is writing to" in capsys.readouterr().err


def test_a_farms_task_works_on_its_own_shots(batch, tmp_path):
    write_shots(tmp_path / "shots", 4, broken=(3,))
    assert batch("--only", "1-2") == (0, ["shot_001", "shot_002"])
    assert not (tmp_path / "out/summary.json").exists()
    assert batch("--only", "3") == (1, ["shot_003"])
    assert batch("--only", "4")[0] == 2
    assert batch() == (1, ["shot_000"])


def test_with_strict_a_warning_fails_its_shot(batch, tmp_path):
    write_capture(tmp_path / "shots/single", views=1)
    assert batch() == (0, ["single"])
    assert any("One picture alone" in warning for warning in record(tmp_path, "single")["warnings"])
    assert batch("--strict", "--seed", "1") == (1, ["single"])
    assert "One picture alone" in record(tmp_path, "single")["error"]


def test_a_shot_is_open_until_it_has_a_record_that_can_be_read(batch, tmp_path, model):
    write_shots(tmp_path / "shots", 1)
    batch()
    given = {"model": str(model), "complete": "off", "device": "cpu"}
    (shot,) = read_shots(tmp_path / "shots", tmp_path / "out", given)
    assert state_of(shot) == DONE
    for content in ("", "[]", '{"format": "facet4d-shot-1"}', "[" * 100_000):
        shot.record.write_text(content)
        assert state_of(shot) == OPEN
