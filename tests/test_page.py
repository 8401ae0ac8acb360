# SPDX-License-Identifier: GPL-3.0-or-later
"""The pages of the manual, as docs/page.py makes them."""

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

PICTURES = {"blender.png", "native.png"}
SCRIPT = Path(__file__).resolve().parents[1] / "docs" / "page.py"


@pytest.fixture(scope="module")
def manual(tmp_path_factory) -> dict[str, str]:
    """The text of each page by its file's name."""
    folder = tmp_path_factory.mktemp("work") / "manual"
    subprocess.run([sys.executable, SCRIPT, folder], check=True)
    assert {picture.name for picture in folder.glob("*.png")} == PICTURES
    return {page.name: page.read_text(encoding="utf-8") for page in folder.glob("*.html")}


def test_every_link_and_picture_of_the_manual_leads_somewhere(manual):
    """An artist has the zip alone, without the rest of the documentation."""
    assert manual.keys() == {"blender.html", "captures.html", "portrait.html"}
    dead = []
    for name, page in manual.items():
        for address in re.findall(r'(?:href|src)="([^"]+)"', page):
            link = urlsplit(address)
            target = link.path or name
            anchored = not link.fragment or f'id="{link.fragment}"' in manual.get(target, "")
            if not link.scheme and not (target in {*manual, *PICTURES} and anchored):
                dead.append(f"{name}: {address}")
    assert not dead
