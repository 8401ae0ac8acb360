# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the guide to the add-on as a page that a browser shows, with an anchor for each heading.

python docs/page.py FOLDER    makes FOLDER/blender.html, and puts the guide's picture beside it
"""

import re
import shutil
import sys
from pathlib import Path

from markdown_it import MarkdownIt

HERE = Path(__file__).parent
PAGE = """<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><title>Facet4D</title>
<style>body {{ max-width: 50em; margin: 2em auto; padding: 0 1em; font-family: sans-serif; line-height: 1.5 }}
img {{ max-width: 100% }} td, th {{ text-align: left; vertical-align: top; padding: 0.2em 0.8em 0.2em 0 }}</style>
{body}</html>
"""


def write_page(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    body = MarkdownIt().enable("table").render((HERE / "blender.md").read_text(encoding="utf-8"))
    body = re.sub(r"<h2>(.+)</h2>", lambda match: f'<h2 id="{_anchor(match[1])}">{match[1]}</h2>', body)
    (folder / "blender.html").write_text(PAGE.format(body=body), encoding="utf-8")
    shutil.copy(HERE / "blender.png", folder)


def _anchor(heading: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w-]", "", heading.lower().replace(" ", "-"))


if __name__ == "__main__":
    write_page(Path(sys.argv[1]))
