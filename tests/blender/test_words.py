# SPDX-License-Identifier: GPL-3.0-or-later
"""Every text that the add-on shows is said once, in an artist's words.

`words()` lists them all: print it to read them aloud.
"""

import ast
import difflib
import itertools
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.helpers.layout import draw_layout
from tests.helpers.stage import FakeCloud

bpy = pytest.importorskip("bpy")
import blender_addon as addon
from blender_addon.cloud.nodes import _INPUTS
from blender_addon.panels.input import FACET4D_PT_input
from blender_addon.panels.portrait import FACET4D_PT_portrait
from blender_addon.panels.result import FACET4D_PT_result
from blender_addon.panels.run import FACET4D_PT_reconstruct
from blender_addon.panels.status import FACET4D_PT_status
from blender_addon.run import operators

pytestmark = pytest.mark.blender

PANELS = (FACET4D_PT_status, FACET4D_PT_input, FACET4D_PT_reconstruct, FACET4D_PT_portrait, FACET4D_PT_result)
PROGRAMMERS = re.compile(
    r"\b(API|array|backend|boolean|callback|class|context|datablock|data-block|float|handler|index|integer|JSON|kwargs|"
    r"module|null|operator|parameter|parse|poll|pointer|RNA|string|subprocess|tensor|thread|vector)s?\b"
)


class Text(NamedTuple):
    """A label and its tooltip. place: where it stands, such as FACET4D_OT_retime.preset.LOOP."""

    place: str
    label: str
    tooltip: str


def words() -> list[Text]:
    """All buttons, settings and choices, the cloud's inputs among them; the add-on must be registered."""
    every = [Text(f"Evaluate.{name}", name, tooltip) for name, *_, tooltip in _INPUTS]
    for name in dir(bpy.types):
        if name.startswith("FACET4D_OT_"):
            kind = getattr(bpy.ops.facet4d, name.removeprefix("FACET4D_OT_")).get_rna_type()
            every += [Text(name, kind.name, kind.description), *_settings(name, kind)]
    scene, image = bpy.context.scene, bpy.data.images.new("Picture", 1, 1)
    for settings in (scene.facet4d, scene.facet4d.portrait, image.facet4d):
        every += _settings(type(settings).__name__, settings.bl_rna)
    return every


def _settings(owner: str, kind) -> Iterator[Text]:
    known = {*kind.base.properties.keys()} if kind.base else set()
    blenders = {"directory", "filepath", "files", "check_existing", "bl_idname", "name"}
    for prop in kind.properties:
        is_group = prop.type == "POINTER" and "PropertyGroup" in str(prop.fixed_type.base)
        if prop.identifier in known | blenders or prop.is_hidden or is_group:
            continue
        place = f"{owner}.{prop.identifier}"
        yield Text(place, prop.name, prop.description)
        if prop.type == "ENUM":
            yield from (Text(f"{place}.{item.identifier}", item.name, item.description) for item in prop.enum_items)


def test_no_two_buttons_have_one_name(registered):
    labels = Counter(text.label for text in words() if "." not in text.place)
    assert [label for label, count in labels.items() if count > 1] == []


def test_no_tooltip_says_what_another_says(registered):
    """Except of one setting of two runs, which has one label and one tooltip, and of the choices of one setting."""
    once = {(text.label, text.tooltip): text for text in words()}.values()
    alike = [
        (one.place, other.place, one.tooltip)
        for one, other in itertools.combinations(once, 2)
        if one.place.rpartition(".")[0] != other.place.rpartition(".")[0] or "." not in one.place
        if difflib.SequenceMatcher(None, one.tooltip, other.tooltip).quick_ratio() > 0.9
        and difflib.SequenceMatcher(None, one.tooltip, other.tooltip).ratio() > 0.9
    ]
    assert alike == []


def test_every_button_and_setting_has_a_tooltip_that_adds_to_its_label(registered):
    for text in words():
        assert text.tooltip and text.tooltip.lower() != text.label.lower(), text
        assert text.tooltip == " ".join(text.tooltip.split()) and text.tooltip[-1] != ".", text
        assert text.tooltip[0] == text.tooltip[0].upper(), text
        assert len(text.label) <= 30 or text.place.endswith(".accepted"), text


def test_texts_use_no_programmers_words(registered):
    for text in words():
        assert not PROGRAMMERS.search(f"{text.label} {text.tooltip}"), text


def named_labels(source: str) -> set[str]:
    """Return what messages in Python's source put in quotes as the label of a button or setting, such as 'Centre'."""
    strings = (node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant))
    texts = (text for text in strings if isinstance(text, str) and "\n" not in text)
    return {label for text in texts for label in re.findall(r"'([A-Z][a-z]+(?: [A-Za-z]+)*)…?'", text)}


def test_messages_name_buttons_and_settings_that_there_are(registered):
    labels = {text.label.rstrip("…") for text in words()}
    sources = (path.read_text("utf-8") for path in Path(addon.__file__).parent.rglob("*.py"))
    named = set().union(*map(named_labels, sources))
    assert "Centre" in named
    assert named - labels == set()


@pytest.mark.slow
def test_no_panel_says_a_text_twice(filmed):
    operators.put_in_scene(bpy.context, filmed, FakeCloud().to_splats())
    for panel in PANELS:
        texts = [text for text in draw_layout(panel).texts if re.search("[a-z]{3}", text)]
        rows = {"Leave Out", *(text for text in texts if text.endswith("name") or text == "Name")}  # of the cameras
        twice = [text for text, count in Counter(texts).items() if count > 1 and text not in rows]
        assert twice == [], panel.bl_label
