# SPDX-License-Identifier: GPL-3.0-or-later
"""Says what will be done with a capture: what is used, left out, changed and assumed."""

from __future__ import annotations

from ..wording import counted
from .load import Source


def describe_use(source: Source, mattes: dict[int, bool], cut: int) -> list[str]:
    """Return a line for each thing that a reconstruction would do with a capture; what is odd is in its findings.

    mattes: of each shot that could be read, by its number, whether it has a matte. cut: how many of them borders cut.
    """
    shots, matted = [source.shots[index] for index in mattes], sum(mattes.values())
    count, held_out = len(shots), sum(shot.view.held_out for shot in shots)
    masked = sum(shot.view.mask is not None for shot in shots)
    bent = sum(not shot.view.lens.is_pinhole for shot in shots)
    lines = [f"Used: {count - held_out} of {count} pictures"]
    if held_out:
        lines.append(
            f"Left out: {counted(held_out, 'picture, which is', 'pictures, which are')} held out to be compared with"
        )
    if masked:
        lines.append(f"Used: the masks of {counted(masked, 'picture')}, as their mattes")
    if bent:
        lines.append(f"Changed: the distortion of the lens is taken out of {counted(bent, 'picture')}")
    if 2 * matted <= count:
        lines.append(
            f"Assumed: {counted(matted, 'picture has', 'pictures have')} a matte, so the subject is cut out as "
            "--background says"
        )
    elif matted < count:
        lines.append(
            f"Assumed: {counted(count - matted, 'picture without a matte shows', 'pictures without a matte show')} the "
            "subject and nothing else"
        )
    if cut:
        lines.append(f"Left open: what the border cuts off the subject in {cut} of {matted} pictures with a matte")
    if count > 1 and len({shot.time for shot in shots}) == 1:
        lines.append("Assumed: all pictures are of one moment, because their times are equal or not told")
    return lines
