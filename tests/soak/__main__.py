# SPDX-License-Identifier: GPL-3.0-or-later
"""The endurance suite: python3 build.py soak --kills 200 --cycles 100 --shots 40.

Processes are stopped while they write over what is there; see kills.py. Then Blender goes through cycles; see
blender.py. Last, batches of so many shots are killed, on this machine and on a Ray cluster. What was done is printed,
and the exit code is 1 if anything was lost or remained.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BATCHES = [f"tests/backend/batch/test_{place}.py" for place in ("local", "cluster")]
GROWTH = {"memory": 0.15}  # the share by which what is held may grow; all else may not


def main() -> int:
    """Run all parts, and return 1 if something is wrong."""
    parser = argparse.ArgumentParser(prog="build.py soak")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--cycles", type=int, default=100)
    parser.add_argument("--shots", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    wrong = []
    with tempfile.TemporaryDirectory(prefix="facet4d-soak-") as folder:
        os.environ["BLENDER_USER_RESOURCES"] = folder  # bpy reads it when it is imported
        if given.kills:
            from .kills import run as run_kills

            start = time.monotonic()
            done, wrong = run_kills(given.kills, Path(folder), given.seed)
            print(f"{time.monotonic() - start:.0f} s: " + ", ".join(f"{count} {what}" for what, count in done.items()))
        if given.cycles:
            from .blender import run as run_cycles

            start = time.monotonic()
            happened, before, after = run_cycles(given.cycles, Path(folder), given.seed)
            print(f"{time.monotonic() - start:.0f} s: " + ", ".join(f"{n} {what}" for what, n in happened.items()))
            for what, held in before.items():
                print(f"{what}: {held}, in the end {after[what]}")
                if after[what] > held * (1 + GROWTH.get(what, 0)):
                    wrong.append(f"{what} grew from {held} to {after[what]}")
    if given.shots:
        command = [sys.executable, "-m", "pytest", "-q", "-k", "killed", *BATCHES]
        environment = os.environ | {"FACET4D_SHOTS": str(given.shots)}
        if subprocess.run(command, env=environment, check=False).returncode:
            wrong.append("A batch that was killed did not end as it must; see above.")
    for sentence in wrong:
        print(f"WRONG: {sentence}")
    return min(len(wrong), 1)


if __name__ == "__main__":
    sys.exit(main())
