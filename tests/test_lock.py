# SPDX-License-Identifier: GPL-3.0-or-later
"""What uv resolves becomes locks that fit any build of PyTorch, with conditions that are easy to read."""

from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scripts.environment import locked_requirements, read_pins, split_lock
from scripts.lock import package_name, remove_pytorch, simplify

RESOLVED = """\
cuda-bindings==13.5.0 ; sys_platform == 'linux' \\
    --hash=sha256:0
    # via torch
cuda-pathfinder==1.9.1 ; sys_platform == 'linux' \\
    --hash=sha256:1
    # via
    #   cuda-bindings
    #   cupy-cuda13x
cupy-cuda13x==14.2.0 ; sys_platform != 'darwin' \\
    --hash=sha256:2
    # via facet4d (pyproject.toml)
nvidia-cublas==13.1.1 ; sys_platform == 'linux' \\
    --hash=sha256:3 \\
    --hash=sha256:4
    # via nvidia-cudnn-cu13
nvidia-cudnn-cu13==9.20.0 ; sys_platform == 'linux' \\
    --hash=sha256:5
    # via torch
sympy==1.14.0 \\
    --hash=sha256:6
    # via torch
torch==2.13.0 \\
    --hash=sha256:7
    # via facet4d (pyproject.toml)
"""


def test_pytorch_and_what_only_cuda_needs_are_left_out():
    left = remove_pytorch(split_lock(RESOLVED))
    assert [package_name(requirement) for requirement in left] == ["cuda-pathfinder", "cupy-cuda13x", "sympy"]


@pytest.mark.parametrize(
    ("condition", "simple"),
    [
        ("", ""),
        (" ; python_full_version < '3.12'", " ; python_full_version < '3.12'"),
        (" ; python_full_version == '3.13.*'", " ; python_full_version >= '3.12'"),
        (" ; python_full_version < '3.12' or python_full_version == '3.13.*'", ""),
        (" ; python_full_version < '3.12' or python_full_version == '3.13.*' or sys_platform != 'win32'", ""),
        (
            " ; (python_full_version < '3.12' or python_full_version == '3.13.*') and sys_platform == 'win32'",
            " ; sys_platform == 'win32'",
        ),
    ],
)
def test_conditions_that_hold_on_both_pythons_are_dropped(condition, simple):
    requirement = f"idna==3.20{condition} \\\n    --hash=sha256:0\n"
    assert simplify(f"{requirement}    # via requests\n") == f"idna==3.20{simple} \\\n    --hash=sha256:0\n"


def test_whatever_a_locked_package_needs_is_locked_too():
    """pip installs the locks without looking for more; asked of those packages that are installed here."""
    locked = map(Requirement, (each.split("\\")[0] for each in locked_requirements(sorted(read_pins()))))
    names = {each.name for each in locked if each.marker is None or each.marker.evaluate()}
    installed = {canonicalize_name(each.metadata["Name"]): each for each in metadata.distributions()}
    assert len(names & installed.keys()) > 30
    for name in names & installed.keys():
        needs = map(Requirement, installed[name].requires or [])
        asked = {
            canonicalize_name(need.name) for need in needs if not need.marker or need.marker.evaluate({"extra": ""})
        }
        assert asked <= names | {"torch"}, name
