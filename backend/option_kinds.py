# SPDX-License-Identifier: GPL-3.0-or-later
"""What an option is: its kind of value, its label and help, and how the fields of a class become options."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field, fields, replace
from typing import Any

from .errors import UserError

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels


@dataclass(frozen=True)
class Choice:
    """One of several values. key: its name in .blend files, if that is not the value itself."""

    value: str | int | None
    label: str
    help: str
    key: str = ""

    @property
    def identifier(self) -> str:
        """Return the choice's name in .blend files."""
        return self.key or str(self.value)


@dataclass(frozen=True)
class OwnFile:
    """The choice of the user's own file: in Blender, an item of the enumeration and a property for the path."""

    key: str
    label: str
    help: str
    path_property: str
    path_label: str
    path_help: str


@dataclass(frozen=True)
class Choices:
    """One of a few values. The command line also accepts others; the task then refuses those it cannot use."""

    choices: tuple[Choice, ...]
    own_file: OwnFile | None = None

    @property
    def values(self) -> list[str | int]:
        """Return the values of the choices, without None."""
        return [choice.value for choice in self.choices if choice.value is not None]

    def find(self, value: Any) -> Choice:
        """Return the choice of a value."""
        return {choice.value: choice for choice in self.choices}[value]


@dataclass(frozen=True)
class Number:
    """A number, whole if the option's default is an int.

    soft_maximum: the end of the slider in Blender. minimum_help: what the minimum does, if the number does not tell.
    """

    minimum: float
    maximum: float = math.inf
    soft_maximum: float = math.inf
    minimum_help: str = ""

    @property
    def note(self) -> str:
        """Return what the minimum does, such as "0 keeps their size"; empty if the number tells."""
        return self.minimum_help and f"{self.minimum:g} {self.minimum_help}"

    def check(self, value: float, name: str) -> None:
        """Raise a UserError that calls the option by a name if the value is out of range or not finite."""
        if not (math.isfinite(value) and self.minimum <= value <= self.maximum):
            end = f" to {self.maximum}" if math.isfinite(self.maximum) else ""
            raise UserError(f"{name} is a number from {self.minimum}{end}; correct it.")


@dataclass(frozen=True)
class Index:
    """The number of one of several, counted from 0; Blender counts from 1. unset: what happens if none is given."""

    unset: str = ""
    soft_maximum: int | None = None

    @property
    def note(self) -> str:
        """Return what Blender's 0 does, such as "0 takes the largest"; empty if it has none."""
        return self.unset and f"0 {self.unset}"

    def check(self, value: int | None, name: str) -> None:
        """Raise a UserError that calls the option by a name if the value is negative."""
        if value is not None and value < 0:
            raise UserError(f"{name} counts from 0; correct it.")


@dataclass(frozen=True)
class Switch:
    """On or off."""


@dataclass(frozen=True)
class Rectangle:
    """A `Box`, or none. In Blender, a switch with its own label and help says whether there is one."""

    switch_label: str
    switch_help: str


@dataclass(frozen=True)
class Folder:
    """A folder or a file, or none. unset: what happens if none is given."""

    unset: str
    is_file: bool = False

    @property
    def note(self) -> str:
        """Return what no path does, such as "Empty: no plates"."""
        return f"Empty: {self.unset}"


Kind = Choices | Number | Index | Switch | Rectangle | Folder


@dataclass(frozen=True)
class Option:
    """The definition of an option.

    name: of its field; with dashes, of its flag on the command line. label, help: shown in Blender; the command line
    shows the help. group: the section of the panel that shows it; empty for none. blender_name: of its property in
    Blender and in .blend files. metavar: the name of its value in --help.
    """

    name: str
    default: Any
    kind: Kind
    label: str
    help: str
    group: str = ""
    blender_name: str = ""
    metavar: str | None = None

    @property
    def flag(self) -> str:
        """Return the option's flag on the command line, such as "--download-matting"."""
        return "--" + self.name.replace("_", "-")


def option(
    default: Any,
    label: str,
    help: str,
    kind: Kind,
    group: str = "",
    blender_name: str = "",
    metavar: str | None = None,
) -> Any:
    """Make a field of an options class; the arguments are those of `Option`."""
    unnamed = Option("", default, kind, label, help, group, blender_name, metavar)  # the class gives the name
    return field(default=default, metadata={Option: unnamed})


@functools.cache  # Blender's panels ask at every redraw
def list_options(options: type) -> tuple[Option, ...]:
    """List the options of a class such as `ReconstructOptions`, in the order in which they are shown.

    Raises:
        TypeError: a field was not made by `option`.
    """
    named = []
    for entry in fields(options):
        if Option not in entry.metadata:
            raise TypeError(f"{options.__name__}.{entry.name} is no option; make it with backend.options.option")
        unnamed = entry.metadata[Option]
        named.append(replace(unnamed, name=entry.name, blender_name=unnamed.blender_name or entry.name))
    return tuple(named)
