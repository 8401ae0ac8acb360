# SPDX-License-Identifier: GPL-3.0-or-later
"""The add-on in a real window, with pictures of it: python -m tests.blender.gui ZIP [--blender blender] [--out out/gui]

Installs the extension into a fresh folder of user settings, runs `window_steps.py` inside Blender under Xvfb, takes a
picture of the screen at each of its stops with ImageMagick, and checks the pictures: a cloud shows, in color, and
moves.
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

STEPS = Path(__file__).with_name("window_steps.py")
WIDTH, HEIGHT = 1600, 1000
PATIENCE = 2400  # seconds, of which a processor without help from a GPU needs most to reconstruct
VIEWPORT = (330, 140, 980, 790)  # within the camera's frame: left, top, right, bottom


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("zip", type=Path, help="the extension")
    parser.add_argument("--blender", default="blender", help="the Blender to run")
    parser.add_argument("--out", type=Path, default=Path("out/gui"), help="folder for the pictures")
    options = parser.parse_args()
    if missing := [name for name in (options.blender, "Xvfb", "import") if not shutil.which(name)]:
        print(f"Not found: {', '.join(missing)}. Install Blender, Xvfb and ImageMagick.", file=sys.stderr)
        return 2
    out = options.out.resolve()
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    with tempfile.TemporaryDirectory(dir=out) as user, display() as screen:
        environment = os.environ | {"DISPLAY": screen, "BLENDER_USER_RESOURCES": user}
        install = [options.blender, "--command", "extension", "install-file", "-r", "user_default", "--enable"]
        subprocess.run([*install, str(options.zip.resolve())], env=environment, check=True)
        show(options.blender, out, environment)
    failures = check(out)
    print("\n".join(failures) or f"The window shows what it should; look at {out}")
    return 1 if failures else 0


@contextmanager
def display() -> Iterator[str]:
    """The name of an X display that lasts as long as the context."""
    reading, writing = os.pipe()
    screen = ["-screen", "0", f"{WIDTH}x{HEIGHT}x24", "-displayfd", str(writing)]
    server = subprocess.Popen(["Xvfb", *screen], pass_fds=[writing], stderr=subprocess.DEVNULL)
    try:
        yield f":{os.read(reading, 16).decode().strip()}"
    finally:
        server.terminate()
        server.wait()


def show(blender: str, out: Path, environment: dict[str, str]) -> None:
    """Runs the steps, and takes a picture whenever they wait for one."""
    command = [blender, "-p", "0", "0", str(WIDTH), str(HEIGHT), "--python", str(STEPS), "--", str(out)]
    end = time.monotonic() + PATIENCE
    with (out / "blender.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        while process.poll() is None and time.monotonic() < end:
            for ready in out.glob("*.ready"):
                time.sleep(1.0)  # the last drawing reaches the screen
                target = str(ready.with_suffix(".png"))
                subprocess.run(["import", "-window", "root", target], env=environment, check=True)
                ready.unlink()
            time.sleep(0.2)
        process.terminate()


def check(out: Path) -> list[str]:
    """What is wrong with the pictures, in words."""
    if (out / "failed").exists():
        return [(out / "failed").read_text()]
    if not (out / "done").exists():
        return [f"Blender did not come to the end; {out / 'blender.log'} has its last words."]
    failures = []
    if "Traceback" in (out / "blender.log").read_text():
        failures.append(f"The add-on raised an error; {out / 'blender.log'} has it.")
    frames = [viewport(path) for path in sorted(out.glob("frame*.png"))]
    for name, picture in (("cloud", frames[0]), ("solid cloud", viewport(out / "solid.png"))):
        colored = (np.ptp(picture, axis=-1) > 20).mean()
        if colored < 0.1:
            failures.append(f"The {name} does not show in color: {colored:.0%} of the view has any.")
    if np.abs(frames[0] - frames[-1]).mean() < 0.2:
        failures.append("The cloud does not move between the first and the last frame.")
    return failures


def viewport(path: Path) -> np.ndarray:
    """The pixels [H, W, 3] of the camera's view in a picture of the screen."""
    return np.asarray(Image.open(path).convert("RGB").crop(VIEWPORT), np.float32)


if __name__ == "__main__":
    sys.exit(main())
