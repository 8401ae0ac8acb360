# SPDX-License-Identifier: GPL-3.0-or-later
"""Converts the backend's options to Blender's properties, and these to what a cloud remembers and a job is given."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import bpy
from bpy.props import BoolProperty, EnumProperty, FloatProperty, IntProperty, IntVectorProperty, StringProperty
from bpy.types import bpy_struct

from . import _backend as backend

if TYPE_CHECKING:
    from backend.options import Choices, Number, Option

T = TypeVar("T")
Group = TypeVar("Group", bound=type[bpy_struct])
MAX_INT = 2**31 - 1  # of an IntProperty
RELATIVE: set[Any] = {"PATH_SUPPORTS_BLEND_RELATIVE"}  # of a path that may begin with //, the folder of the .blend file


def with_options(options: type) -> Callable[[Group], Group]:
    """Give the decorated PropertyGroup or Operator a property for every option of a class like ReconstructOptions."""

    def decorate(group: Group) -> Group:
        for option in backend.options.list_options(options):
            group.__annotations__.update(_make_properties(option))
        return group

    return decorate


def read_options(options: type[T], settings: bpy_struct) -> T:
    """Return the options that the properties stand for."""
    return options(**{option.name: _read(option, settings) for option in backend.options.list_options(options)})


def remember_options(options: type, settings: bpy_struct) -> dict[str, Any]:
    """Return the properties' values by their names, in a form that a cloud can hold."""
    values = {}
    for option in backend.options.list_options(options):
        for name in _property_names(option):
            value = getattr(settings, name)
            values[name] = list(value) if isinstance(value, bpy.types.bpy_prop_array) else value
    return values


def recall_settings(settings: bpy_struct, remembered: Mapping[str, Any]) -> None:
    """Set those properties of the settings, options and others, that a cloud remembers as values they can take."""
    for declared in settings.bl_rna.properties:  # in their order: some reset those that follow
        if declared.identifier in remembered:
            with suppress(TypeError, ValueError, AttributeError):
                setattr(settings, declared.identifier, remembered[declared.identifier])


def shown_properties(option: Option, settings: bpy_struct) -> list[str]:
    """Return the names of an option's properties that have an effect with these settings, in the order to show them."""
    names = _property_names(option)
    match option.kind:
        case backend.options.Choices(own_file=own) if own and getattr(settings, option.blender_name) != own.key:
            return names[:1]
        case backend.options.Rectangle() if not getattr(settings, names[0]):
            return names[:1]
    return names


def value_note(option: Option, settings: bpy_struct) -> str:
    """Return what the option's value does, such as "0 takes the largest", if it is one that does not tell; else ""."""
    value = getattr(settings, option.blender_name)
    match option.kind:
        case backend.options.Number(minimum=minimum, note=note):
            return note if value == minimum else ""
        case backend.options.Index(note=note) | backend.options.Folder(note=note):
            return "" if value else note
    return ""


def _property_names(option: Option) -> list[str]:
    name = option.blender_name
    match option.kind:
        case backend.options.Choices(own_file=own) if own:
            return [name, own.path_property]
        case backend.options.Rectangle():
            return [f"use_{name}", name]
    return [name]


def _make_properties(option: Option) -> dict[str, Any]:
    """Return the annotations that make the properties, by name."""
    note = getattr(option.kind, "note", "")
    tooltip = f"{option.help}; {note[0].lower()}{note[1:]}" if note else option.help
    texts: dict[str, Any] = {"name": option.label, "description": tooltip}
    default, names = option.default, _property_names(option)
    match option.kind:
        case backend.options.Choices() as kind:
            return _make_choices(option, kind)
        case backend.options.Number() as kind if isinstance(default, int):
            return {names[0]: IntProperty(**texts, default=default, **_limits(kind, MAX_INT))}
        case backend.options.Number() as kind:
            return {names[0]: FloatProperty(**texts, default=default, **_limits(kind, math.inf))}
        case backend.options.Index(unset=unset, soft_maximum=end):
            first = 0 if unset else 1
            soft: dict[str, Any] = {"soft_max": end} if end else {}
            return {names[0]: IntProperty(**texts, default=0 if default is None else default + 1, min=first, **soft)}
        case backend.options.Switch():
            return {names[0]: BoolProperty(**texts, default=default)}
        case backend.options.Rectangle(switch_label=label, switch_help=text):
            corners = IntVectorProperty(**texts, size=4, min=0, default=(0, 0, 256, 256))
            return {names[0]: BoolProperty(name=label, description=text), names[1]: corners}
        case backend.options.Folder(is_file=is_file):
            subtype: Any = "FILE_PATH" if is_file else "DIR_PATH"
            return {names[0]: StringProperty(**texts, subtype=subtype, options=RELATIVE)}
    raise TypeError(f"{option.name} is of a kind that Blender cannot show")


def _make_choices(option: Option, kind: Choices) -> dict[str, Any]:
    items = [(choice.identifier, choice.label, choice.help) for choice in kind.choices]
    properties: dict[str, Any] = {}
    own = kind.own_file
    if own:
        items.append((own.key, own.label, own.help))
        path = StringProperty(name=own.path_label, description=own.path_help, subtype="FILE_PATH", options=RELATIVE)
        properties[own.path_property] = path
    default = kind.find(option.default).identifier
    enum = EnumProperty(name=option.label, description=option.help, items=items, default=default)
    return properties | {option.blender_name: enum}


def _limits(kind: Number, largest: float) -> dict[str, Any]:
    """Return the bounds of a property; without any, Blender uses its own."""
    bounds = {"min": kind.minimum, "max": min(kind.maximum, largest), "soft_max": min(kind.soft_maximum, kind.maximum)}
    return {name: value for name, value in bounds.items() if value < largest}


def _read(option: Option, settings: bpy_struct) -> Any:
    """Return the value that the option's properties stand for."""
    value = getattr(settings, option.blender_name)
    match option.kind:
        case backend.options.Choices(own_file=own) if own and value == own.key:
            return bpy.path.abspath(getattr(settings, own.path_property))
        case backend.options.Choices(choices=choices):
            return next(choice.value for choice in choices if choice.identifier == value)
        case backend.options.Index():
            return value - 1 if value else None
        case backend.options.Rectangle():
            return tuple(map(float, value)) if getattr(settings, f"use_{option.blender_name}") else None
        case backend.options.Folder():
            return Path(bpy.path.abspath(value)) if value else None
    return value
