# SPDX-License-Identifier: GPL-3.0-or-later
"""Every option is an argument of its command, whatever the option, and looking at them is quick."""

import argparse
import subprocess
import sys
from dataclasses import dataclass, fields
from pathlib import Path

import pytest

from backend.__main__ import main
from backend.arguments import add_arguments, join_points, read_arguments, read_point
from backend.errors import UserError
from backend.options import Number, PortraitOptions, ReconstructOptions, Switch, list_options, option


@dataclass(frozen=True)
class Sharpened(ReconstructOptions):
    """The options as they are when somebody has added one."""

    edge_width: float = option(1.5, "Edge Width", "How wide the edges are", Number(0.5, 4))


def parse(options: type, *arguments: str):
    parser = argparse.ArgumentParser()
    add_arguments(parser, options)
    return read_arguments(options, parser.parse_args(arguments))


@pytest.mark.parametrize(
    ("command", "options"),
    [("reconstruct", ReconstructOptions), ("evaluate", ReconstructOptions), ("portrait", PortraitOptions)],
)
def test_every_option_is_an_argument_with_its_help(command, options, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for entry in list_options(options):
        assert f"{entry.flag} " in shown
        assert entry.help[1:] in shown or entry.name == "fuse"  # which says what the flag alone means


@pytest.mark.parametrize("options", [ReconstructOptions, PortraitOptions, Sharpened])
def test_without_arguments_the_options_are_the_defaults(options):
    assert parse(options) == options()


def test_an_added_field_is_an_argument(capsys):
    parser = argparse.ArgumentParser()
    add_arguments(parser, Sharpened)
    parser.print_help()
    assert "how wide the edges are (1.5)" in capsys.readouterr().out
    assert parse(Sharpened, "--edge-width", "2").edge_width == 2.0
    for wrong in ("0.4", "5", "nan", "inf"):
        with pytest.raises(UserError, match=r"--edge-width is a number from 0.5 to 4; correct it"):
            parse(Sharpened, "--edge-width", wrong)


def test_views_to_complete_are_a_number_or_a_word():
    assert parse(ReconstructOptions).complete == "auto"
    assert parse(ReconstructOptions, "--complete", "off").complete == "off"
    read = parse(ReconstructOptions, "--complete", "5", "--steps", "4", "--seed", "9")
    assert (read.complete, read.steps, read.seed) == (5, 4, 9)
    for steps in ("0", "65"):
        with pytest.raises(UserError, match="--steps is a number from 1 to 64; correct it"):
            parse(ReconstructOptions, "--steps", steps)


def test_a_point_is_three_numbers_also_below_zero():
    assert read_point("-1,2.5,0") == (-1.0, 2.5, 0.0)
    assert join_points(["a", "--centre", "-1,2,3", "--seed", "2"]) == ["a", "--centre=-1,2,3", "--seed", "2"]
    for wrong in ("1,2", "1,2,3,4", "a,b,c", "", "nan,0,0", "1,inf,0"):
        with pytest.raises(UserError, match="is not a point; write it as x,y,z"):
            read_point(wrong)


@dataclass(frozen=True)
class Polished(ReconstructOptions):
    """The options with one that is on by default."""

    polish: bool = option(True, "Polish", "Smooth what is rough", Switch())


def test_what_is_on_by_default_can_be_turned_off():
    assert parse(Polished).polish and parse(Polished, "--polish").polish
    assert not parse(Polished, "--no-polish").polish


def test_arguments_become_values_of_the_options_types():
    read = parse(ReconstructOptions, "--model", "own.safetensors", "--resolution", "128", "--refinements", "3")
    assert read == ReconstructOptions("own.safetensors", "auto", 128, 3)
    given = "--face 1 --box 1,2,3,4 --last 9 --fuse --offload --weights there --guidance 2"
    assert parse(PortraitOptions, *given.split()) == PortraitOptions(
        face=1, box=(1.0, 2.0, 3.0, 4.0), last=9, fuse="small", offload=True, weights=Path("there"), guidance=2.0
    )
    assert parse(PortraitOptions, "--fuse", "own.safetensors").fuse == "own.safetensors"


@pytest.mark.parametrize("options", [ReconstructOptions, PortraitOptions])
def test_every_option_says_what_it_is(options):
    known = list_options(options)
    assert [entry.name for entry in known] == [entry.name for entry in fields(options)]
    assert all(entry.label and entry.help for entry in known)


def test_a_field_that_is_no_option_is_refused():
    @dataclass(frozen=True)
    class Forgotten(ReconstructOptions):
        edge_width: float = 1.5

    with pytest.raises(TypeError, match=r"Forgotten.edge_width is no option; make it with"):
        list_options(Forgotten)


def test_help_loads_neither_torch_nor_numpy():
    code = (
        "import sys; from backend.__main__ import main\n"
        "try: main(['reconstruct', '--help'])\n"
        "except SystemExit: assert not {'torch', 'numpy', 'PIL'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=True, timeout=60)
