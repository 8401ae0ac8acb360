# SPDX-License-Identifier: GPL-3.0-or-later
"""Functions with which panels and operators draw options and sentences."""

from typing import TYPE_CHECKING

import blf
from bpy.types import Context, UILayout, bpy_struct

from . import _backend as backend
from . import jobs
from .option_properties import shown_properties, value_note

if TYPE_CHECKING:
    from bpy.stub_internal.rna_enums import IconItems

# pixels of the region's width, at a scale of 1, that a text with an icon and the text of a progress bar do not have
BESIDE_TEXT, BESIDE_BAR = 80, 60


def draw_options(context: Context, layout: UILayout, settings: bpy_struct, options: type, hidden: str = "") -> None:
    """Draw every option of a class like backend's ReconstructOptions; each group of options has a fold of its own.

    A value that does not tell what it does, such as a 0 that means automatic, has a note beneath. hidden: a group that
    has no effect now.
    """
    known = [option for option in backend.options.list_options(options) if not option.group or option.group != hidden]
    bodies = {"": layout.column()}
    bodies[""].active = jobs.current is None
    for group in dict.fromkeys(option.group for option in known if option.group):
        header, bodies[group] = layout.panel(f"facet4d_{group.lower()}", default_closed=True)
        header.label(text=group)
    for option in known:
        kind = option.kind
        # three words, where a file of one's own can be chosen, too, are cut off
        has_buttons = isinstance(kind, backend.options.Choices) and len(kind.choices) == 2 and not kind.own_file
        if body := bodies[option.group]:
            note = value_note(option, settings)
            column = body.column(align=True) if note else body
            for name in shown_properties(option, settings):
                (column.row() if has_buttons else column).prop(settings, name, expand=has_buttons)
            if note:
                draw_note(context, column, note)


def wrap(text: str, width: float) -> list[str]:
    """Return the lines of a text, none of which is wider than `width` pixels in the font of blf unless one word is."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and blf.dimensions(0, longer)[0] <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def draw_text(context: Context, layout: UILayout, text: str, icon: "IconItems") -> None:
    """Draw a sentence as a label, in as many lines as the width of the region needs."""
    column = _make_tight_column(layout)
    for number, line in enumerate(_lines(context, text)):
        column.label(text=line, icon="BLANK1" if number else icon, translate=False)


def draw_note(context: Context, layout: UILayout, text: str) -> None:
    """Draw a sentence beneath the value that it explains, at the right, in as many lines as the width needs."""
    column = _make_tight_column(layout)
    column.alignment = "RIGHT"
    for line in _lines(context, text):
        column.label(text=line, translate=False)


def draw_bar(context: Context, layout: UILayout, factor: float, text: str) -> UILayout:
    """Draw a progress bar with a text such as "Reading pictures: 40%", and return the bar's row.

    Where the text is wider than the bar, the stage stands above it.
    """
    column = layout.column(align=True)
    if len(_lines(context, text, BESIDE_BAR)) > 1:
        stage, _, text = text.rpartition(": ")
        for line in _lines(context, stage):
            column.label(text=line, translate=False)
    row = column.row(align=True)
    row.progress(factor=factor, text=text)
    return row


def _make_tight_column(layout: UILayout) -> UILayout:
    """Return a column for the lines of a sentence."""
    column = layout.column(align=True)
    column.scale_y = 0.8
    return column


def _lines(context: Context, text: str, beside: float = BESIDE_TEXT) -> list[str]:
    """Return the lines of a text that fit into the region, less some pixels beside at a scale of 1."""
    style, scale = context.preferences.ui_styles[0].widget, context.preferences.system.ui_scale
    blf.size(0, style.points * scale)
    return wrap(text, context.region.width - beside * scale)
