# SPDX-License-Identifier: GPL-3.0-or-later
"""A batch's summary: summary.json for programs, and summary.html, a table with pictures, for people."""

from __future__ import annotations

import html
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..files import writing
from ..wording import counted
from .shots import DONE, FAILED, OPEN, SUMMARY, Shot, read_record

COLUMNS = ("name", "state", "error", "input", "psnr", "ssim", "gaussians", "windows", "pictures", "device")
COPIED = ("seconds", "sharing", "bytes_in", "bytes_out", "warnings", "versions")

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 15px/1.4 system-ui, sans-serif; margin: 2rem; color: #222 }}
table {{ border-collapse: collapse }}
th, td {{ text-align: left; padding: .3rem .8rem; border-bottom: 1px solid #ddd; vertical-align: middle }}
th {{ white-space: nowrap }}
.number {{ text-align: right; font-variant-numeric: tabular-nums }}
tr.failed td {{ background: #fdecea }}
tr.open td {{ color: #888 }}
img {{ display: block; height: 96px }}
</style>
<h1>{title}</h1>
<p>{counts}. Each strip shows an input, the cloud from the same camera, and three frames of a turntable; PSNR and SSIM
are the means over at most eight of the inputs.</p>
<table>
<tr><th>Shot<th>Pictures<th class=number>PSNR, dB<th class=number>SSIM<th class=number>Gaussians<th class=number>Seconds
<th>Notes</tr>
{rows}
</table>
</html>
"""


def write_summary(shots: Sequence[Shot], states: dict[str, str], out: Path) -> dict[str, int]:
    """Write the summary of a batch's shots, whose states are given by name; return how many are of each state.

    Raises:
        UserError: it cannot be written.
    """
    rows = [_row(shot, states.get(shot.name, OPEN)) for shot in shots]
    counts = Counter(row["state"] for row in rows)
    totals = {state: counts[state] for state in (DONE, FAILED, OPEN)}
    out.mkdir(parents=True, exist_ok=True)
    with writing(out / f"{SUMMARY}.json") as partial:
        partial.write_text(json.dumps({**totals, "shots": rows}, indent=1) + "\n", encoding="utf-8")
    words = f"{counted(len(rows), 'shot')}: {counts[DONE]} done, {counts[FAILED]} failed, {counts[OPEN]} open"
    page = PAGE.format(title=html.escape(out.resolve().name), counts=words, rows="\n".join(map(_html_row, rows)))
    with writing(out / f"{SUMMARY}.html") as partial:
        partial.write_text(page, encoding="utf-8")
    return totals


def _row(shot: Shot, state: str) -> dict[str, Any]:
    """Return what the summary says of a shot."""
    record = (read_record(shot) or {}) if state != OPEN else {}
    values = {"name": shot.name, "state": state, "input": str(shot.input)}
    values |= {name: record.get(name) for name in (*COLUMNS, *COPIED) if name not in values}
    values["strip"] = f"{shot.name}.jpg" if state == DONE and shot.strip.is_file() else None
    return values


def _html_row(row: dict[str, Any]) -> str:
    def number(value: float | None, form: str) -> str:
        return f"<td class=number>{'' if value is None else format(value, form)}"

    name, strip = f"<td>{html.escape(row['name'])}", ""
    if row["state"] != DONE:
        return f"<tr class={row['state']}>{name}<td colspan=6>{html.escape(row['error'] or '')}</tr>"
    if row["strip"]:
        strip = f'<img loading="lazy" src="{quote(row["strip"])}" alt="">'
    cells = [
        name,
        f"<td>{strip}",
        number(row["psnr"], ".1f"),
        number(row["ssim"], ".3f"),
        number(row["gaussians"], ","),
        number(sum(row["seconds"].values()) if row["seconds"] else None, ".1f"),
        f"<td>{'<br>'.join(map(html.escape, row['warnings'] or []))}",
    ]
    return f"<tr class={DONE}>{''.join(cells)}</tr>"
