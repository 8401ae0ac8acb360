# SPDX-License-Identifier: GPL-3.0-or-later
"""Converts backend.options to arguments of the command line, and parsed arguments to options."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from .errors import UserError
from .options import Box, Choices, Folder, Index, Number, Option, Rectangle, Switch, list_options

T = TypeVar("T")


def add_arguments(parser: argparse.ArgumentParser, options: type) -> None:
    """Add a flag for every option of a class such as `ReconstructOptions`."""
    for option in list_options(options):
        _add(parser, option, option.default)


def add_given_arguments(parser: argparse.ArgumentParser, *classes: type) -> None:
    """Add a flag for every option of several classes; only those that the user gives are in the parsed arguments.

    Where two classes have an option of one name, the first one's help is shown.
    """
    named = {option.name: option for options in reversed(classes) for option in list_options(options)}
    for option in named.values():
        _add(parser, option, argparse.SUPPRESS)


def _add(parser: argparse.ArgumentParser, option: Option, default: Any) -> None:
    common: dict[str, Any] = {"help": _help(option), "default": default, "dest": option.name}
    if isinstance(option.kind, Switch):
        # what is on by default needs a flag that turns it off: --no-NAME
        action = argparse.BooleanOptionalAction if option.default else "store_true"
        parser.add_argument(option.flag, action=action, **common)
    else:
        parser.add_argument(option.flag, metavar=option.metavar, **_value(option), **common)


def read_arguments(options: type[T], namespace: argparse.Namespace) -> T:
    """Return the options of parsed arguments.

    Raises:
        UserError: a number is out of range, or a text is not a box.
    """
    values = {option.name: check_value(option, getattr(namespace, option.name)) for option in list_options(options)}
    return options(**values)


def check_value(option: Option, value: Any) -> Any:
    """Return the value of an option that argparse has read.

    Raises:
        UserError: a number is out of range, or a text is not a box.
    """
    if isinstance(option.kind, Number | Index):
        option.kind.check(value, option.flag)
    elif isinstance(option.kind, Rectangle) and value is not None:
        return _read_box(value)
    return value


def read_value(option: Option, text: str, name: str) -> Any:
    """Read an option's value from a text that a table has under a name.

    Raises:
        UserError: it is none.
    """
    try:
        value: Any = _SWITCHES[text.strip().lower()] if isinstance(option.kind, Switch) else _type(option)(text.strip())
        if isinstance(option.kind, Number | Index):
            option.kind.check(value, f"'{name}'")
        return _read_box(value) if isinstance(option.kind, Rectangle) else value
    except (ValueError, KeyError):
        raise UserError(f"'{text}' is no value of '{name}'; correct it.") from None


_SWITCHES = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def join_points(arguments: Sequence[str]) -> list[str]:
    """Join the flag of a point and its value by "=": argparse would take -1,2,3 for another flag."""
    joined: list[str] = []
    for argument in arguments:
        if joined and joined[-1] == "--centre":
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def _value(option: Option) -> dict[str, Any]:
    """Return the arguments of add_argument that say how to read the option's value."""
    if isinstance(option.kind, Choices) and option.default is None and len(values := option.kind.values) == 1:
        return {"nargs": "?", "const": values[0]}  # the flag without a value means this one
    return {"type": _type(option)}


def _type(option: Option) -> Callable[[str], Any]:
    """Return what reads the option's value from a text."""
    match option.kind:
        case Number():
            return type(option.default)
        case Index():
            return int
        case Folder():
            return Path
        case Choices(values=values):
            return _read_choice if len({*map(type, values)}) > 1 else type(values[0])
    return str


def _help(option: Option) -> str:
    """Return the option's help, such as "where the network runs: auto, cuda or cpu (auto)"."""
    text, default = _lower(option.help), "" if option.default is None else str(option.default)
    match option.kind:
        case Choices(choices=choices, own_file=own_file):
            named = any(isinstance(choice.value, str) for choice in choices)
            names = [str(choice.value) for choice in choices if named and choice.value is not None]
            names += ["a .safetensors file"] if own_file else []
            if option.default is None:
                default = _lower(option.kind.find(None).help)
            if len(names) > 1:
                text += f": {', '.join(names[:-1])} or {names[-1]}"
            elif names:
                text = _lower(option.kind.find(names[0]).help)
        case Number(note=note):
            text = f"{text}; {note}" if note else text
            default = f"{option.default:g}" if isinstance(option.default, float) else default
        case Index(unset=unset):
            text, default = f"{text}; the first is 0", default or unset
        case Folder(unset=unset):
            default = unset
        case Switch():
            default = ""
    return f"{text} ({default})" if default else text


def _lower(text: str) -> str:
    return text[0].lower() + text[1:]


def _read_choice(text: str) -> str | int:
    """Read a choice among names and whole numbers."""
    return int(text) if re.fullmatch(r"-?\d{1,9}", text, re.ASCII) else text


def read_indices(text: str, count: int) -> list[int]:
    """Read a list such as 0,4,8-11 as frame numbers below count, without duplicates.

    Raises:
        UserError: the text is no such list, or names frames that are not there.
    """
    indices: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,9})(?:-(\d{1,9}))?\s*", part, re.ASCII)
        if not match:
            raise UserError(f"'{text}' is not a list of frames; write it as 0,4,8 or 0-23.")
        first, last = int(match[1]), int(match[2] or match[1])
        if not first <= last < count:
            raise UserError(f"'{text}' names frames that are not there; the capture has frames 0 to {count - 1}.")
        indices += range(first, last + 1)
    return list(dict.fromkeys(indices))


def read_point(text: str) -> tuple[float, float, float]:
    """Read x,y,z in the units of a world.

    Raises:
        UserError: the text is not three finite numbers.
    """
    try:
        x, y, z = map(float, text.split(","))
        if not math.isfinite(x + y + z):
            raise ValueError
    except ValueError:
        raise UserError(f"'{text}' is not a point; write it as x,y,z in the units of the cameras' poses.") from None
    return x, y, z


def _read_box(text: str) -> Box:
    """Read left,top,right,bottom in pixels."""
    try:
        left, top, right, bottom = map(float, text.split(","))
    except ValueError:
        raise UserError(f"'{text}' is not a box; write it as left,top,right,bottom in pixels.") from None
    return left, top, right, bottom
