# SPDX-License-Identifier: GPL-3.0-or-later
"""Any arguments of the command line end with exit code 0 or 2 and a sentence, and never with a traceback."""

import json
import os
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from backend.__main__ import main
from backend.gaussians import save_cloud
from backend.lrm4d import LRM4D
from tests.helpers.calibration_files import write_transforms
from tests.helpers.clouds import random_cloud
from tests.helpers.limits import ends_well
from tests.helpers.tiny_run import TINY

pytestmark = pytest.mark.slow

NUMBERS = ["0", "1", "-1", "2", "24", "1e-9", "1e300", "nan", "inf", "-inf", "1e9", "9" * 20, "", "x", "\u0661"]
LISTS = ["0", "0,1", "0-1", "1-0", "-1", "99999999999", "0,,1", "a", "", "0-99999999", "1,2,3", "nan,0,0", "0,0,1e300"]
WORDS = ["auto", "cpu", "cuda:99", "meta", "small", "none", "off", "0", "é", "\udcff", "", "x" * 300]
PATHS = [
    *("cloud.safetensors", "cloud.ply", "capture", "capture/transforms.json", "capture/a1.png", "missing", "", "."),
    *("folder", "folder.ply", "\udcff.ply", "\udcff", "x" * 300 + ".ply", "new/deep/out.ply", "out.safetensors"),
    *("out.spz", "out.glb", "out.usda", "out.xyz", "/dev/full", "/proc/self/mem", "text.ply", "empty.safetensors"),
    *("/", "out.PLY", "..", "loop", "capture/out", "-", "--", "~", "out.ply/", "%s.ply", "text.mp4", "empty.json"),
]
REQUIRED = ("--out", "--cameras", "--inputs", "--config", "--assets")
# of each command: its places, and its flags with what may follow them
COMMANDS: dict[str, tuple[int, dict[str, list[str] | None]]] = {
    "convert": (2, {"--time": NUMBERS, "--all": None, "--fps": NUMBERS, "--strict": None}),
    "render": (1, {"--cameras": PATHS, "--out": PATHS, "--device": WORDS}),
    "check": (1, {"--pictures": PATHS, "--fps": NUMBERS, "--times": PATHS, "--start": NUMBERS, "--every": NUMBERS}),
    "import": (1, {"--out": PATHS, "--longest-side": NUMBERS, "--fixed-rig": None, "--strict": None}),
    "reconstruct": (1, {"--out": PATHS, "--resolution": NUMBERS, "--centre": LISTS, "--model": PATHS + WORDS}),
    "evaluate": (1, {"--inputs": LISTS, "--targets": LISTS, "--json": PATHS, "--refinements": NUMBERS}),
    "portrait": (1, {"--out": PATHS, "--model": WORDS, "--matting": WORDS, "--face": NUMBERS, "--views": PATHS}),
    "train": (0, {"--config": PATHS, "--assets": PATHS, "--out": PATHS, "--minutes": NUMBERS, "--dry-run": None}),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("line")
    write_transforms(_made(folder / "capture"))
    cloud = random_cloud(20)
    save_cloud(cloud.to(cloud.mean.float().dtype), folder / "cloud.safetensors")
    (folder / "tiny.safetensors").write_bytes(save(LRM4D(TINY).state_dict()))
    (folder / "tiny.json").write_text(json.dumps({"config": asdict(TINY)}))
    for name in ("folder", "folder.ply"):
        (folder / name).mkdir()
    for name in ("text.ply", "text.mp4"):
        (folder / name).write_text("a text")
    for name in ("empty.safetensors", "empty.json", "empty.png"):
        (folder / name).touch()
    if os.name != "nt":
        (folder / "loop").symlink_to("loop")
    return folder


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


@st.composite
def command_lines(draw) -> list[str]:
    command = draw(st.sampled_from(sorted(COMMANDS)))
    places, flags = COMMANDS[command]
    arguments = [command, *(draw(st.sampled_from(PATHS)) for _ in range(places))]
    if command in ("reconstruct", "evaluate"):
        arguments += ["--model", "tiny.safetensors"]  # succeeds within the limits
    chosen = {flag for flag in sorted(flags) if flag in REQUIRED or draw(st.booleans())}
    for flag in sorted(chosen):
        values = flags[flag]
        arguments += [flag] if values is None else [flag, draw(st.sampled_from(values))]
    return arguments


@given(arguments=command_lines())
def test_arguments(folder, coarse, monkeypatch, capsys, arguments):
    monkeypatch.chdir(folder)

    def run() -> int | str | None:
        try:
            return main(arguments)
        except SystemExit as stop:  # argparse's
            return stop.code

    assert ends_well(run) in (0, 2)
    told = capsys.readouterr().err
    assert "Traceback" not in told and os.getcwd() == str(folder)
