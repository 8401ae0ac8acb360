# SPDX-License-Identifier: GPL-3.0-or-later
"""The tasks of a render farm: reconstruct, bake and render one shot of a batch. Each can run again at any time.

    python farm/task.py reconstruct SHOTS --out DIR --only 3 [arguments of python -m backend batch]
    python farm/task.py bake        SHOTS --out DIR --only 3 [--format ply] [--fps 24] [--blender blender]
    python farm/task.py render      SHOTS --out DIR --only 3 --frames 1-8 [--engine CYCLES] [--blender blender]
    python farm/task.py summary     SHOTS --out DIR

Baking leaves NAME.blend, the cloud with a camera on the timeline, and with --format also NAME.usda or a PLY for each
frame. Rendering leaves NAME/0001.png and so on; frames beyond the clip's end are left out.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from backend.__main__ import main as backend_main  # noqa: E402
from backend.batch.manifest import read_shots  # noqa: E402
from backend.batch.shots import DONE, Shot, read_record  # noqa: E402
from backend.console import stop_when_told  # noqa: E402
from backend.errors import UserError  # noqa: E402

FORMATS = ("none", "ply", "usd")


def main(arguments: list[str]) -> int:
    """Run a task and return its exit code: 0, or 2 for an error that one line explains, or that of what it ran."""
    if arguments[:1] in (["reconstruct"], ["summary"]):
        return backend_main(["batch", *arguments[1:]])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=("bake", "render"))
    parser.add_argument("shots", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", type=int, required=True)
    parser.add_argument("--blender", default="blender", help="the command that starts Blender")
    parser.add_argument("--format", choices=FORMATS, default="none")
    parser.add_argument("--fps", type=float, default=24.0)
    parser.add_argument("--frames", default="1-1", help="as 1-8, or as 1+8 for eight from the first on")
    parser.add_argument("--last", type=int, default=sys.maxsize, help="the last frame of all that are rendered")
    parser.add_argument("--engine", default="CYCLES")
    given = parser.parse_args(arguments)
    try:
        shots = read_shots(given.shots, given.out)
        if not 0 <= given.only < len(shots):
            raise UserError(f"There is no shot {given.only}; {given.shots} has shots 0 to {len(shots) - 1}.")
        return (bake if given.task == "bake" else render)(shots[given.only], given)
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2


def bake(shot: Shot, given: argparse.Namespace) -> int:
    """Write a shot's .blend file, and its cloud in another format if one is asked for; return Blender's exit code.

    Raises:
        UserError: the shot is not reconstructed, or a file cannot be written.
    """
    from backend.formats.exchange import frame_times, write_clip, write_sequence
    from backend.gaussians import load_cloud

    record = read_record(shot)
    if record is None or record["state"] != DONE:
        raise UserError(f"The shot '{shot.name}' is not reconstructed; run that task first.")
    splats = load_cloud(shot.cloud).to_splats()
    if given.format == "ply":
        write_sequence(splats, shot.cloud.with_suffix(".ply"), given.fps)
    elif given.format == "usd":
        write_clip(splats, shot.cloud.with_suffix(".usda"), frame_times(splats, given.fps), given.fps)
    with tempfile.TemporaryDirectory() as folder:
        request = Path(folder, "shot.json")
        write_clip(splats, Path(folder, "cloud.ply"), [], given.fps)
        blend = str(blend_of(shot).resolve())
        request.write_text(json.dumps({"camera": record.get("camera"), "fps": given.fps, "blend": blend}))
        return _run_blender(
            given, "--factory-startup", "--python", str(ROOT / "farm/in_blender.py"), "--", str(request)
        )


def render(shot: Shot, given: argparse.Namespace) -> int:
    """Render some frames of a shot's .blend file; return Blender's exit code.

    Raises:
        UserError: the shot is not baked, or the frames are no range.
    """
    blend = blend_of(shot)
    if not blend.is_file():
        raise UserError(f"The shot '{shot.name}' is not baked; run that task first.")
    try:
        first, end = map(int, re.split("[-+]", given.frames))
    except ValueError:
        raise UserError(f"'{given.frames}' is no range of frames; write it as 1-8 or 1+8.") from None
    end = first + end - 1 if "+" in given.frames else end
    last = min(end, given.last, json.loads(blend.with_suffix(".blend.json").read_text(encoding="utf-8"))["last"])
    if first > last:
        print(f"The shot '{shot.name}' has no frame {first}; there is nothing to render.")
        return 0
    target = str((shot.out / shot.name / "####").resolve())
    frames = ["--frame-start", str(first), "--frame-end", str(last), "--render-anim"]
    return _run_blender(given, str(blend.resolve()), "--engine", given.engine, "--render-output", target, *frames)


def blend_of(shot: Shot) -> Path:
    """Return the path of a shot's .blend file."""
    return shot.cloud.with_suffix(".blend")


def _run_blender(given: argparse.Namespace, *arguments: str) -> int:
    command = [*shlex.split(given.blender), "--background", "--python-exit-code", "1", *arguments]
    try:
        return subprocess.run(command, check=False).returncode
    except OSError as error:
        raise UserError(
            f"'{given.blender}' cannot be started ({error.strerror}); name Blender with --blender."
        ) from None


if __name__ == "__main__":
    stop_when_told()
    sys.exit(main(sys.argv[1:]))
