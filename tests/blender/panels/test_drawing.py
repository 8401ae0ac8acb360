# SPDX-License-Identifier: GPL-3.0-or-later
"""What draws uses icons, attributes, arguments, properties and operators that Blender has; the tests' layout checks."""

import functools
import itertools
from types import SimpleNamespace

import pytest

from tests.helpers.layout import Layout, draw, wide_context

bpy = pytest.importorskip("bpy")
import blf

import backend.options
from blender_addon import jobs, layouts
from blender_addon.panels.input import FACET4D_PT_input
from blender_addon.panels.portrait import FACET4D_PT_portrait
from blender_addon.panels.run import FACET4D_PT_reconstruct

pytestmark = pytest.mark.blender

FAULTS = {
    "an icon": lambda layout: layout.label(text="", icon="NO_SUCH_ICON"),
    "an icon of a button": lambda layout: layout.operator("render.render", icon="NO_SUCH_ICON"),
    "an attribute": lambda layout: setattr(layout.row(), "scale_why", 1.5),
    "an attribute that is read": lambda layout: layout.row().scale_why,
    "an attribute's value": lambda layout: setattr(layout, "alignment", "MIDDLE"),
    "an attribute's type": lambda layout: setattr(layout, "scale_y", "large"),
    "a function": lambda layout: layout.rwo(),
    "an argument": lambda layout: layout.row(aling=True),
    "an argument's type": lambda layout: layout.label(text=3),
    "an argument too many": lambda layout: layout.prop(bpy.context.scene, "frame_start", property="frame_end"),
    "no argument": lambda layout: layout.prop(bpy.context.scene),
    "a property": lambda layout: layout.prop(bpy.context.scene, "frame_begin"),
    "an operator": lambda layout: layout.operator("render.rendr"),
    "an operator's property": lambda layout: setattr(layout.operator("render.render"), "animated", True),
    "an operator's menu": lambda layout: layout.operator_menu_enum("render.render", "animation"),
    "a list": lambda layout: layout.template_list(
        "FACET4D_UL_nothing", "", bpy.data, "objects", bpy.context.scene, "frame_start"
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_tests_layout_refuses_what_blender_does_not_know(scene, fault):
    with pytest.raises((AttributeError, KeyError, TypeError, ValueError)):
        FAULTS[fault](Layout())


def test_the_tests_layout_takes_what_blender_takes(scene):
    layout = Layout()
    row = layout.split(factor=0.5).box().row(align=True, heading="Row")
    row.scale_y, row.alignment, row.active = 2, "RIGHT", False
    row.label(text="words", icon="INFO")
    row.prop(scene, "frame_start", text="Start", icon="NONE", slider=True)
    row.operator("render.render", icon="RENDER_STILL").animation = True
    header, body = layout.panel("identifier", default_closed=True)
    header.separator()
    body.label(text="body")
    assert {"words", "Start", "Render", "body"} <= set(layout.texts)
    assert row.alignment == "RIGHT" and layout.alignment == "EXPAND"


def test_every_dialog_and_menu_draws(registered):
    """The panels are drawn where their buttons are tested."""
    dialogs = [cls for cls in bpy.types.Operator.__subclasses__() if cls.__name__.startswith("FACET4D_OT_")]
    dialogs = [cls for cls in dialogs if "draw" in vars(cls)]
    assert len(dialogs) >= 4
    for cls in dialogs:
        dialog = Dialog(cls)
        cls.draw(dialog, wide_context())
        assert dialog.layout.texts
    for menu in (bpy.types.TOPBAR_MT_file_import, bpy.types.TOPBAR_MT_file_export):
        layout = Layout()
        for function in menu._dyn_ui_initialize():
            if function.__module__.startswith("blender_addon"):
                function(SimpleNamespace(layout=layout), bpy.context)
        assert len(layout.texts) == 1


class Dialog:
    """Stands for an operator that asks for its settings: its properties, and its own functions."""

    def __init__(self, cls: type) -> None:
        self.cls, self.layout, self.reason = cls, Layout(), "No GPU was found"
        self.properties = bpy.context.window_manager.operator_properties_last(cls.bl_idname)

    def __getattr__(self, name: str):
        own = vars(self.cls).get(name)
        return functools.partial(own, self) if callable(own) else getattr(self.properties, name)


def test_no_line_of_a_text_is_wider_than_the_sidebar(scene):
    blf.size(0, 11.0)
    for text in (
        "Makes a whole head from one photo or video",
        "WWW MMM WWWW MMMM WW",
        "lilli illi il lilli illi lil illi",
    ):
        lines = layouts.wrap(text, 80)
        assert " ".join(lines) == text and len(lines) > 1
        assert all(blf.dimensions(0, line)[0] <= 80 for line in lines)
        for line, after in itertools.pairwise(lines):  # and none ends sooner than it must
            assert blf.dimensions(0, f"{line} {after.split()[0]}")[0] > 80


def test_progress_that_is_wider_than_its_bar_has_its_stage_above(scene):
    context, text = wide_context(), "Window 12 of 40, predicting Gaussians: 40%, 12 min left"
    for width, texts in ((2000, [text]), (290, ["Window 12 of 40, predicting Gaussians", "40%, 12 min left"])):
        context.region.width, layout = width, Layout()
        layouts.draw_bar(context, layout, 0.4, text)
        assert [shown for shown in layout.texts if shown] == texts


def test_a_choice_of_two_is_drawn_as_buttons_and_one_with_a_file_of_ones_own_as_a_menu(registered, monkeypatch):
    expanded = {}

    def prop(layout, data, property, expand=False, **_):
        expanded[property] = expand

    monkeypatch.setattr(Layout, "_prop", prop)
    context = wide_context()
    layouts.draw_options(context, Layout(), registered.facet4d.portrait, backend.options.PortraitOptions)
    assert not expanded["model"]
    layouts.draw_options(context, Layout(), registered.facet4d, backend.options.ReconstructOptions)
    assert not expanded["model"] and not expanded["resolution"]
    known = backend.options.list_options(backend.options.ReconstructOptions)
    choices = [option for option in known if isinstance(option.kind, backend.options.Choices)]
    two = [option.blender_name for option in choices if len(option.kind.choices) == 2 and not option.kind.own_file]
    assert two and all(expanded[name] for name in two)


def test_an_empty_field_says_what_is_taken_instead(registered, monkeypatch):
    empty = {}

    def prop(layout, data, property, placeholder="", **_):
        if data.bl_rna.properties[property].type == "POINTER" and getattr(data, property) is None:
            empty[property] = placeholder

    monkeypatch.setattr(Layout, "_prop", prop)
    registered.facet4d.source = "RENDER"
    for panel in (FACET4D_PT_input, FACET4D_PT_reconstruct, FACET4D_PT_portrait):
        draw(panel)
    assert empty.keys() == {"subjects", "collection", "target", "cloud"} and all(empty.values())


@pytest.mark.parametrize("panel", [FACET4D_PT_reconstruct, FACET4D_PT_portrait], ids=lambda panel: panel.__name__)
def test_all_settings_of_a_run_are_dimmed_while_one_goes_on(registered, monkeypatch, panel):
    """What is changed then counts for the next run alone."""
    bright = []

    def prop(layout, data, property, **_):
        if layout.active is not False:
            bright.append(property)

    monkeypatch.setattr(Layout, "_prop", prop)
    draw(panel)
    assert "cloud" in bright
    bright.clear()
    monkeypatch.setattr(
        jobs, "current", SimpleNamespace(fraction=0.5, progress_text="Predicting: 50%", gathering=False)
    )
    draw(panel)
    assert not bright
