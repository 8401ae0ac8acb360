# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the user's guides as HTML pages, with an anchor for each heading.

python docs/page.py FOLDER    writes blender.html, captures.html and portrait.html to FOLDER, and copies their picture
"""

import re
import shutil
import sys
from pathlib import Path

from markdown_it import MarkdownIt

HERE = Path(__file__).parent
GUIDES = ("blender", "captures", "portrait")
PICTURES = ("blender.png", "native.png")
PAGE = """<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><title>Facet4D</title>
<style>body {{ max-width: 50em; margin: 2em auto; padding: 0 1em; font-family: sans-serif; line-height: 1.5 }}
img {{ max-width: 100% }} td, th {{ text-align: left; vertical-align: top; padding: 0.2em 0.8em 0.2em 0 }}</style>
{body}</html>
"""


def write_pages(folder: Path) -> None:
    """Write the guides and their pictures into a folder; create it if it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    for guide in GUIDES:
        body = MarkdownIt().enable("table").render((HERE / f"{guide}.md").read_text(encoding="utf-8"))
        body = re.sub(r"<(h[23])>(.+)</\1>", _with_anchor, body)
        body = re.sub(rf'href="({"|".join(GUIDES)})\.md', r'href="\1.html', body)
        (folder / f"{guide}.html").write_text(PAGE.format(body=body), encoding="utf-8")
    for picture in PICTURES:
        shutil.copy(HERE / picture, folder)


def _with_anchor(heading: re.Match[str]) -> str:
    """Return the heading with the anchor that GitHub gives it."""
    level, text = heading.groups()
    anchor = re.sub(r"[^\w-]", "", text.lower().replace(" ", "-"))
    return f'<{level} id="{anchor}">{text}</{level}>'


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]))
