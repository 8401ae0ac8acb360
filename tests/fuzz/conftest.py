# SPDX-License-Identifier: GPL-3.0-or-later
"""How many inputs are tried: a slice that is the same every time, or new ones all night (`build.py fuzz`)."""

import os

import pytest
from hypothesis import HealthCheck, Phase, settings

from backend.splat_cpu import load_loops

CASES = 60  # of each test in the slice

everything = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
settings.register_profile(
    "slice",
    derandomize=True,
    database=None,
    max_examples=CASES,
    deadline=None,
    suppress_health_check=everything,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
)
settings.register_profile(
    "night",
    max_examples=int(os.environ.get("FACET4D_FUZZ_CASES", "1000")),
    deadline=None,
    suppress_health_check=everything,
    print_blob=True,
)
settings.load_profile("night" if "FACET4D_FUZZ_CASES" in os.environ else "slice")


@pytest.fixture(scope="session", autouse=True)
def loops() -> None:
    """Compiles the loops, which takes fifteen seconds in a fresh checkout; the first input would seem to take them."""
    load_loops()
