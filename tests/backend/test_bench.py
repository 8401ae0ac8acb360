# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmark measures what it says, and compares with what an earlier run has written."""

import json

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from backend import rasterize
from backend.__main__ import main
from backend.bench import files, measure, network, splatting
from backend.bench.measure import Bench
from backend.bench.report import format_table, read_report, write_report
from backend.calibrations.load import load_capture
from backend.errors import UserError
from backend.lrm4d import LRM4D, SMALL
from backend.reconstruct import reconstruct

MACHINE = {
    "processor": "Abacus",
    "cores": 2,
    "threads": 1,
    "gpu": None,
    "system": "Wood",
    "kernel": "hand",
    "load": 0.0,
    "command": "bench",
    "versions": {"python": "3"},
}


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """The clock of measure.py, which only work moves on; its one entry is the time in seconds."""
    now = [0.0]
    monkeypatch.setattr(measure.time, "perf_counter", lambda: now[0])
    return now


def test_the_first_round_does_not_count_and_the_median_does(clock):
    seconds = iter([50e-3, 1e-3, 9e-3, 2e-3])

    def work() -> None:
        clock[0] += next(seconds)

    bench = Bench(quick=True, group="files")
    assert bench.time("work", work) == pytest.approx(2e-3)
    (measured,) = bench.measurements
    assert (measured.median, measured.low, measured.high) == pytest.approx((2, 1, 9))
    assert (measured.unit, measured.rounds, measured.key) == ("ms", 3, "files: work")


def test_long_work_is_done_once(clock):
    rounds = []

    def work() -> None:
        clock[0] += 40
        rounds.append(None)

    bench = Bench(group="reconstruct")
    assert bench.time("work", work, "s") == 40
    assert len(rounds) == 1 and bench.measurements[0].median == 40


@pytest.mark.skipif(measure.sys.platform != "linux", reason="only Linux tells the peak of a process")
def test_the_peak_is_that_of_the_work_alone():
    bench = Bench(group="reconstruct")
    for name, size in (("large", 600), ("small", 1)):
        with bench.peak(name):
            bytearray(size * 2**20)
    large, small = (measurement.median for measurement in bench.measurements)
    assert 500 < large - small < 700


def count(work) -> int:
    with FlopCounterMode(display=False) as counted, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        work()
    return counted.get_total_flops()


@pytest.mark.slow
def test_the_products_are_those_of_a_layer_and_the_operations_those_of_the_network():
    """Reading the patches and writing the Gaussians is left out, and takes little."""
    factors = network.make_factors(SMALL, 300, Bench())
    assert count(lambda: network.multiply(*factors)) == network.count_products(SMALL, 300)
    model, images = LRM4D(SMALL), torch.rand(1, 3, 3, 128, 128)
    counted = count(lambda: model(images, *network.make_rig(3, 128)))
    assert network.count_operations(SMALL, 3 * 16**2) == pytest.approx(counted, rel=0.05)


def test_the_cameras_look_at_the_subject():
    poses, intrinsics, times = network.make_rig(5, 64)
    centre = torch.linalg.inv(poses)[0, :, :3, 3]
    torch.testing.assert_close(centre, torch.tensor([[0, 0, 2.7]]).expand(5, 3), atol=1e-5, rtol=0)
    assert intrinsics.shape == (1, 5, 4) and times[0, 0] == -times[0, -1] == -1


@pytest.mark.parametrize("count", [1, 8, 24, 64, 128])
def test_the_sample_is_taken_again_and_again_at_later_times(count):
    capture = load_capture(splatting.SAMPLE).inputs()
    taken = splatting.take_pictures(capture, count)
    assert len({frame.name for frame in taken.frames}) == len(taken.frames) == count
    first, last = capture.time_range
    assert taken.time_range[1] <= first + (last - first) * -(-count // len(capture.frames))


def small_reconstruction(capture, options):
    return reconstruct(capture.select(range(2)), options)


@pytest.mark.slow
def test_all_that_draws_here_is_timed_and_draws_the_same(monkeypatch):
    known = splatting.list_rasterizers(torch.device("cpu"))
    assert list(known)[-1] == "PyTorch" and len(known) == 1 + rasterize.is_compiled(torch.device("cpu"))
    pictures = []

    class Kept(splatting.Work):
        def draw(self):
            pictures.append(super().draw()[0].detach())

        def differentiate(self):
            """Only drawing is compared."""

    monkeypatch.setattr(splatting, "Work", Kept)
    monkeypatch.setattr(splatting, "reading_resolution", lambda *_: 32)
    monkeypatch.setattr(splatting, "reconstruct", small_reconstruction)
    bench = Bench(quick=True, group="splatting")
    splatting.measure_splatting(bench)
    assert len(bench.measurements) == 2 * len(known)
    for picture in pictures:
        torch.testing.assert_close(picture, pictures[0], atol=2e-3, rtol=0)
    assert pictures[0].max() > 0.1


def test_the_gradient_reaches_all_parts_of_the_splats(monkeypatch):
    place = torch.tensor([[0.1, 0, 2], [-0.1, 0.1, 2.1], [0, -0.1, 2.2]])[None]
    splats = place, 0.01 * torch.eye(3).expand(1, 3, 3, 3), torch.full((1, 3), 0.5)
    views = torch.eye(4)[None], torch.tensor([[16.0, 16, 8, 8]])
    gaussians = rasterize.ConditionedGaussians(*splats)
    work = splatting.Work(rasterize._rasterize_torch, gaussians, torch.rand(3, 3), views, 16)
    gradients, grad = [], torch.autograd.grad
    monkeypatch.setattr(torch.autograd, "grad", lambda *given: gradients.append(grad(*given)))
    work.differentiate()
    (parts,) = gradients
    assert len(parts) == 4 and all(part.abs().sum() > 0 for part in parts)


def noted(values: dict[str, float]) -> Bench:
    bench = Bench(group="files")
    for name, value in values.items():
        bench.note(name, "ms", [value, 2 * value])
    return bench


def test_a_later_run_is_compared_with_what_was_written(tmp_path):
    path = tmp_path / "earlier.json"
    write_report(noted({"read": 10.0, "gone": 1.0}), MACHINE, path)
    now = noted({"read": 5.0, "new": 7.0})
    now.skip("large", "it needs a GPU")
    machine = MACHINE | {"cores": 4, "versions": {"python": "4"}}
    table = format_table(now, machine, read_report(path)).splitlines()
    assert "| files: read | 7.5 ms | 5 to 10 | 15 | 0.50 |" in table
    assert "| files: new | 10.5 ms | 7 to 14 |  |  |" in table
    assert "| files: large | not measured: it needs a GPU | | | |" in table
    assert table[-1] == "The earlier run differs in: cores, python."
    assert len({line.count("|") for line in table if line.startswith("|")}) == 1


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"machine": {}, "measurements": [{"name": 1}]}'])
def test_a_file_that_is_no_report_is_refused(tmp_path, content, capsys):
    path = tmp_path / "earlier.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=r"earlier\.json.* with --json"):
        read_report(path)
    assert main(["bench", "--only", "files", "--against", str(path)]) == 2
    assert "with --json" in capsys.readouterr().err


def test_the_command_prints_a_table_and_writes_json(tmp_path, capsys, monkeypatch):
    make = files.make_splats
    monkeypatch.setattr(files, "make_splats", lambda count: make(count // 1000))
    path = tmp_path / "now.json"
    command = ["bench", "--quick", "--only", "files", "--device", "cpu", "--json", str(path)]
    assert main(command) == 0
    told = capsys.readouterr().out
    for name in ("PLY", "SPZ"):
        for what in ("written", "read", "size"):
            assert f"| files: {name}, 100,000 Gaussians: {what} |" in told
    content = json.loads(path.read_text())
    assert {entry["group"] for entry in content["measurements"]} == {"files"}
    assert content["machine"]["versions"]["torch"] == torch.__version__
    assert content["machine"]["kernel"] == rasterize.name_rasterizer(torch.device("cpu"))
    assert main([*command, "--against", str(path)]) == 0
    assert "now / earlier" in capsys.readouterr().out
