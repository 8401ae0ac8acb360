# SPDX-License-Identifier: GPL-3.0-or-later
"""The asset packs that people are drawn from: small stand-ins, and the real ones where they are."""

from pathlib import Path

import pytest

from tests.helpers.packs import write_packs
from tests.helpers.shared import SHARED


@pytest.fixture(scope="session", params=["stand-ins", pytest.param("real ones", marks=pytest.mark.oracle)])
def packs(request, tmp_path_factory) -> Path:
    """The folder of the packs."""
    return SHARED / "assets" if request.param == "real ones" else write_packs(tmp_path_factory.mktemp("packs"))
