# SPDX-License-Identifier: GPL-3.0-or-later
"""The asset packs that people are drawn from: small stand-ins, and the real ones where they are."""

from pathlib import Path

import pytest

from tests.helpers.packs import write_packs
from tests.helpers.shared import SHARED


@pytest.fixture(scope="session")
def stand_ins(tmp_path_factory) -> Path:
    """The folder of the stand-ins, written once although the tests of each file ask for the real packs in between."""
    return write_packs(tmp_path_factory.mktemp("packs"))


@pytest.fixture(scope="session", params=["stand-ins", pytest.param("real ones", marks=pytest.mark.oracle)])
def packs(request) -> Path:
    """The folder of the packs."""
    return SHARED / "assets" if request.param == "real ones" else request.getfixturevalue("stand_ins")
