# SPDX-License-Identifier: GPL-3.0-or-later
"""The sidebar as Blender draws it, for the texts and for what it refuses."""

import functools
from types import SimpleNamespace

import pytest

bpy = pytest.importorskip("bpy")


class Layout:
    """Records the texts of a panel, and refuses what Blender's own layout would refuse or leave undrawn.

    That is: attributes and functions that `bpy.types.UILayout` does not have, arguments that they do not take, values
    that their enumerations (icons among them) do not know, and properties, operators and lists that do not exist.
    """

    def __init__(self, texts: list[str] | None = None, greyed: list[str] | None = None) -> None:
        self.__dict__["texts"] = [] if texts is None else texts
        self.__dict__["greyed"] = [] if greyed is None else greyed  # the texts of buttons that cannot be pressed

    def __setattr__(self, name: str, value) -> None:
        prop = LAYOUT.properties.get(name)
        if prop is None or prop.is_readonly:
            raise AttributeError(f"UILayout has no attribute {name!r} that can be set")
        self.__dict__[name] = checked(prop, value)

    def __getattr__(self, name: str):
        """One of Blender's functions, or an attribute that nobody has set."""
        if name in LAYOUT.functions:
            return functools.partial(self._call, LAYOUT.functions[name])
        if name in LAYOUT.properties:
            return getattr(LAYOUT.properties[name], "default", None)
        raise AttributeError(f"UILayout has no attribute {name!r}")

    def _call(self, function: bpy.types.Function, *positional, **named):
        """Check the arguments and draw: by the method below of the function's name, or its text where there is none."""
        parameters = {p.identifier: p for p in function.parameters if not p.is_output}
        given = dict(zip(parameters, positional, strict=False))
        if len(positional) > len(parameters) or given.keys() & named:
            raise TypeError(f"UILayout.{function.identifier}() was given an argument too many")
        given |= named
        if unknown := given.keys() - parameters:
            raise TypeError(f"UILayout.{function.identifier}() has no argument {', '.join(sorted(unknown))}")
        if missing := {name for name, p in parameters.items() if p.is_required} - given.keys():
            raise TypeError(f"UILayout.{function.identifier}() lacks {', '.join(sorted(missing))}")
        given = {name: checked(parameters[name], value) for name, value in given.items()}
        if draw_function := getattr(type(self), f"_{function.identifier}", None):
            return draw_function(self, **given)
        self.texts.append(given.get("text") or given.get("heading") or "")
        layouts = [Layout(self.texts, self.greyed) for p in function.parameters if p.is_output]
        return layouts[0] if len(layouts) == 1 else tuple(layouts)

    def _template_list(self, listtype_name, dataptr, propname, active_dataptr, active_propname, **_) -> None:
        """Draw the list's rows as Blender does, which keeps nothing from one to the next."""
        dataptr.path_resolve(propname)
        active_dataptr.path_resolve(active_propname)
        cls = getattr(bpy.types, listtype_name)
        if listtype_name == "UI_UL_list":  # Blender's own, which draws names
            return
        shown, _ = cls.filter_items(SimpleNamespace(bitflag_filter_item=1), bpy.context, dataptr, propname)
        for flag, item in zip(shown, getattr(dataptr, propname), strict=True):
            if flag:
                cls.draw_item(SimpleNamespace(), bpy.context, self, dataptr, item, 0, active_dataptr, active_propname)

    def _prop(self, data, property: str, text: str | None = None, **_) -> None:
        data.path_resolve(property)
        known = data.bl_rna.properties.get(property)  # none for a modifier's own inputs
        self.texts.append(known.name if text is None and known else text or "")

    def _prop_search(self, search_data, search_property: str, **given) -> None:
        search_data.path_resolve(search_property)
        self._prop(**given)

    def _operator(self, operator: str, text: str | None = None, **_) -> "OperatorProperties":
        kind = bpy_operator(operator).get_rna_type()
        self.texts.append(text or kind.name)  # a button that is an icon alone goes by its operator's name
        if self.__dict__.get("enabled") is False:
            self.greyed.append(self.texts[-1])
        return OperatorProperties(kind)

    def _operator_menu_enum(self, operator: str, property: str, **_) -> "OperatorProperties":
        properties = self._operator(operator)
        if properties.kind.properties[property].type != "ENUM":
            raise TypeError(f"{operator}.{property} is no enumeration")
        return properties


class OperatorProperties:
    """What a button sets before it runs its operator; refuses what the operator does not have."""

    def __init__(self, kind: bpy.types.Struct) -> None:
        self.__dict__["kind"] = kind

    def __setattr__(self, name: str, value) -> None:
        if name not in self.kind.properties:
            raise AttributeError(f"{self.kind.identifier} has no property {name!r}")
        self.__dict__[name] = checked(self.kind.properties[name], value)


LAYOUT = bpy.types.UILayout.bl_rna


PYTHON_TYPES = {"BOOLEAN": (bool, int), "INT": int, "FLOAT": (int, float), "STRING": str, "ENUM": str}


def checked(prop: bpy.types.Property, value):
    """`value`, if Blender takes it for this property or argument.

    Raises:
        TypeError: it is of another type, or the enumeration does not have it.
    """
    if not isinstance(value, PYTHON_TYPES.get(prop.type, object)):
        raise TypeError(f"{prop.identifier} takes {prop.type}, not {value!r}")
    if prop.type == "ENUM" and value not in prop.enum_items:
        raise TypeError(f"{prop.identifier} has no item {value!r}")
    return value


def bpy_operator(name: str):
    category, _, operator = name.partition(".")
    return getattr(getattr(bpy.ops, category), operator)


def draw(panel, is_first: bool = False) -> str:
    """Draw a panel of the tab and return its texts. is_first: see draw_layout."""
    return "\n".join(draw_layout(panel, is_first).texts)


def greyed(panel) -> list[str]:
    """Draw a panel of the tab and return the texts of the buttons that cannot be pressed."""
    return draw_layout(panel).greyed


def draw_layout(panel, is_first: bool = False) -> Layout:
    """Draw a panel of the tab and return its layout.

    is_first: whether it is the tab's first one, or that one was drawn in the same redraw; otherwise it is drawn before.
    """
    from blender_addon.panels.status import FACET4D_PT_status

    if not is_first:
        draw_layout(FACET4D_PT_status, is_first=True)
    sidebar = SimpleNamespace(layout=Layout())
    for name, function in vars(panel).items():
        if name.startswith("_draw"):
            setattr(sidebar, name, lambda *arguments, function=function: function(sidebar, *arguments))
    panel.draw(sidebar, wide_context())
    return sidebar.layout


def wide_context() -> SimpleNamespace:
    """Return Blender's context with a region that is wide enough for every sentence."""
    context = bpy.context
    return SimpleNamespace(
        scene=context.scene,
        view_layer=context.view_layer,
        object=context.object,
        window_manager=context.window_manager,
        preferences=SimpleNamespace(
            system=SimpleNamespace(ui_scale=1.0), ui_styles=[SimpleNamespace(widget=SimpleNamespace(points=11.0))]
        ),
        region=SimpleNamespace(width=2000),
        space_data=context.space_data or SimpleNamespace(shading=None),
        region_data=context.region_data,
    )
