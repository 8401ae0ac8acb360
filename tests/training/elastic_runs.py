# SPDX-License-Identifier: GPL-3.0-or-later
"""What test_elastic.py runs under torchrun: a run of two processes, of which one kills itself at its third step.

Leaves the run in the folder given, and the step at which each start began.
"""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

from backend import models
from backend.training import loop, validate
from tests.helpers.tiny_run import CONFIG, TINY

validate.SHEET_SCENES = validate.TARGETS = 1
models.CONFIGS["tiny"] = TINY
RUN = replace(CONFIG, fsdp=True, save_every=1)
restarts = int(os.environ["TORCHELASTIC_RESTART_COUNT"])


def main(out: Path, mortal: bool) -> None:
    advance = loop.Run.advance

    def advance_or_die(run: loop.Run):
        if run.rank == 0:
            with (out / "steps.txt").open("a") as file:
                file.write(f"{restarts}:{run.step} ")
        if mortal and run.rank == 1 and run.step == 2 and not restarts:
            os.kill(os.getpid(), signal.SIGKILL)
        return advance(run)

    loop.Run.advance = advance_or_die
    loop.train(RUN, out, out / "run")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] == "mortal")
