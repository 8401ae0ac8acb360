# SPDX-License-Identifier: GPL-3.0-or-later
"""Go through the add-on in a real window, and take pictures of it.

python -m tests.blender.gui ZIP [--blender blender] [--pytorch FOLDER] [--portrait PHOTO] [--out out/gui]

Installs the extension into a fresh folder of user settings, and PyTorch with it if Blender's Python has none. Runs
`window_steps.py` inside Blender under Xvfb, and does what it asks for: pictures of the screen with ImageMagick, and
the mouse with xdotool. In the end it checks the pictures: a cloud shows, in color, and moves.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

SETUP, STEPS = (Path(__file__).with_name(f"window_{name}.py") for name in ("setup", "steps"))
WIDTH, HEIGHT = 1600, 1000
TIME_LIMIT = 2400  # seconds, of which a processor without help from a GPU needs most to reconstruct
VIEWPORT = (330, 140, 980, 790)  # within the camera's frame: left, top, right, bottom
NEEDED = {"Xvfb": "xvfb", "import": "imagemagick", "xdotool": "xdotool"}  # programs, and Debian's packages of them


class Failure(Exception):
    """What went wrong, in words, with the exit code: 2 if something is missing."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def main() -> int:
    """Run the walk-through from the command line and return the exit code."""
    parser = argparse.ArgumentParser(prog="build.py gui", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("zip", type=Path, help="the extension")
    parser.add_argument("--blender", default="blender", help="the Blender to run")
    parser.add_argument("--pytorch", metavar="FOLDER", help="a folder with PyTorch for Blender's Python")
    parser.add_argument("--portrait", type=Path, metavar="PHOTO", help="make a head of a photo, instead of the sample")
    parser.add_argument("--out", type=Path, default=Path("out/gui"), help="folder for the pictures")
    options = parser.parse_args()
    out = options.out.resolve()
    try:
        find_programs(options.blender)
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        with tempfile.TemporaryDirectory(dir=out) as user, display() as screen:
            environment = os.environ | {"DISPLAY": screen, "BLENDER_USER_RESOURCES": user}
            install(options.blender, options.zip.resolve(), options.pytorch, out, environment)
            show(options.blender, out, environment, options.portrait)
        if failures := check_portrait(out) if options.portrait else check(out):
            raise Failure("\n".join(failures))
    except Failure as failure:
        print(f"build.py gui: {failure}", file=sys.stderr)
        return failure.exit_code
    print(f"The window shows what it should; look at {out}")
    return 0


def find_programs(blender: str) -> None:
    """Raise Failure unless all programs are there; it says what to install."""
    missing = [name for name in NEEDED if not shutil.which(name)]
    if missing:
        names = ", ".join(f"{name} (on Debian the package {NEEDED[name]})" for name in missing)
        raise Failure(f"Not found: {names}. Install what is missing and try again.", exit_code=2)
    if not shutil.which(blender):
        raise Failure(f"There is no Blender '{blender}'; say where it is with --blender PATH.", exit_code=2)


@contextmanager
def display() -> Iterator[str]:
    """Start an X server, and return the name of its display. It ends with the context."""
    reading, writing = os.pipe()
    screen = ["-screen", "0", f"{WIDTH}x{HEIGHT}x24", "-displayfd", str(writing)]
    server = subprocess.Popen(["Xvfb", *screen], pass_fds=[writing], stderr=subprocess.DEVNULL)
    try:
        yield f":{os.read(reading, 16).decode().strip()}"
    finally:
        server.terminate()
        server.wait()


def install(blender: str, extension: Path, pytorch: str | None, out: Path, environment: dict[str, str]) -> None:
    """Install the extension, and let it find PyTorch.

    Raises:
        Failure: Blender refuses the extension, or has no PyTorch that works.
    """
    log = out / "setup.log"
    folder = [str(Path(pytorch).resolve())] if pytorch else []
    commands = (
        [blender, "--command", "extension", "install-file", "-r", "user_default", "--enable", str(extension)],
        [blender, "--background", "--online-mode", "--python-exit-code", "1", "--python", str(SETUP), "--", *folder],
    )
    for command in commands:
        result = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        with log.open("a", encoding="utf-8") as file:
            file.write(result.stdout)
        print(result.stdout.strip(), flush=True)
        if result.returncode != 0:
            raise Failure(f"Setting up Blender failed; {log} says why.")


def show(blender: str, out: Path, environment: dict[str, str], photo: Path | None) -> None:
    """Run the steps in a window, those of a portrait if there is a photo, and do what they ask for.

    Raises:
        Failure: Blender did not come to the end.
    """
    command = [blender, "-p", "0", "0", str(WIDTH), str(HEIGHT), "--python", str(STEPS), "--", str(out)]
    if photo:
        command.append(str(shutil.copy(photo, out)))
    start = time.monotonic()
    with (out / "blender.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        while process.poll() is None and time.monotonic() < start + TIME_LIMIT:
            for request in (path for path in out.iterdir() if path.suffix in REQUESTS):
                subprocess.run(REQUESTS[request.suffix](request), env=environment, check=True)
                print(f"{time.monotonic() - start:6.0f} s  {request.name}", flush=True)
                request.unlink()
            time.sleep(0.1)
        process.terminate()
        process.wait()
    if (out / "failed").exists():
        raise Failure((out / "failed").read_text(encoding="utf-8"))
    if not (out / "done").exists():
        raise Failure(f"Blender did not come to the end; {out / 'blender.log'} has its last words.")


def picture(request: Path) -> list[str]:
    """Return the command that takes a picture of the screen."""
    return ["import", "-window", "root", str(request.with_suffix(".png"))]


def turn_wheel(request: Path) -> list[str]:
    """Return the command that turns the mouse's wheel: to the top, or down by less than a page."""
    button, repeat = ("4", "100") if request.stem == "up" else ("5", "10")
    return ["xdotool", "click", "--repeat", repeat, "--delay", "10", button]


# What window_steps.py asks for, by the ending of the file.
REQUESTS = {".picture": picture, ".wheel": turn_wheel, ".click": lambda _: ["xdotool", "click", "1"]}


def check(out: Path) -> list[str]:
    """Return what is wrong with the pictures, in words."""
    failures = check_log(out)
    frames = [viewport(path) for path in sorted(out.glob("frame*.png"))]
    pictures = {
        "new cloud": viewport(out / "result.png"),
        "cloud": frames[0],
        "solid cloud": viewport(out / "solid.png"),
    }
    pictures |= {path.stem: read(path) for path in out.glob("render_*.png")}
    failures += check_color(pictures)
    if np.abs(frames[0] - frames[-1]).mean() < 0.2:
        failures.append("The cloud does not move between the first and the last frame.")
    return failures


def check_portrait(out: Path) -> list[str]:
    """Return what is wrong with the pictures of a portrait, in words."""
    pictures = {name: viewport(out / f"{name}.png") for name in ("head", "another", "side")}
    failures = check_log(out) + check_color(pictures)
    if not list(out.glob("head_step*.png")):
        failures.append("The head does not appear before it is finished.")
    if np.abs(pictures["head"] - pictures["another"]).mean() < 0.2:
        failures.append("Another Back makes the same head.")
    return failures


def check_log(out: Path) -> list[str]:
    """Return whether the add-on raised an error, in words."""
    if "Traceback" not in (out / "blender.log").read_text(encoding="utf-8", errors="replace"):
        return []
    return [f"The add-on raised an error; {out / 'blender.log'} has it."]


def check_color(pictures: dict[str, np.ndarray]) -> list[str]:
    """Return which pictures show nothing in color, in words."""
    shares = {name: (np.ptp(pixels, axis=-1) > 20).mean() for name, pixels in pictures.items()}
    return [
        f"The {name} does not show in color: {share:.0%} of the view has any."
        for name, share in shares.items()
        if share < 0.1
    ]


def read(path: Path) -> np.ndarray:
    """Return the pixels [H, W, 3] of a picture."""
    return np.asarray(Image.open(path).convert("RGB"), np.float32)


def viewport(path: Path) -> np.ndarray:
    """Return the pixels [H, W, 3] of the camera's view in a picture of the screen."""
    left, top, right, bottom = VIEWPORT
    return read(path)[top:bottom, left:right]


if __name__ == "__main__":
    sys.exit(main())
