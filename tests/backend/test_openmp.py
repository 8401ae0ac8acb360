# SPDX-License-Identifier: GPL-3.0-or-later
"""Threads that wait for work leave the processor to others, unless the user has said how they wait."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SHOW = "import os, backend; print(os.environ.get('GOMP_SPINCOUNT'))"


@pytest.mark.parametrize(
    ("own", "value"),
    [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")],
    ids=["by itself", "the user's count", "the user's policy"],
)
def test_threads_wait_briefly(own, value):
    environment = {name: text for name, text in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    shown = subprocess.run(
        [sys.executable, "-c", SHOW], cwd=ROOT, env=environment | own, capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == value
