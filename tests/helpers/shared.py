# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the reference data are that tests marked `oracle` compare with."""

import os
from pathlib import Path

# beside the repository, unless the environment names another folder; one that is not there skips those tests
SHARED = Path(os.environ.get("FACET4D_SHARED", Path(__file__).resolve().parents[3] / "shared"))
