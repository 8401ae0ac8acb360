# SPDX-License-Identifier: GPL-3.0-or-later
"""What uv resolves becomes locks that fit any build of PyTorch, with conditions that are easy to read."""

import pytest

from scripts.environment import split_lock
from scripts.lock import name_of, simplify, without_pytorch

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
    left = without_pytorch(split_lock(RESOLVED))
    assert [name_of(requirement) for requirement in left] == ["cuda-pathfinder", "cupy-cuda13x", "sympy"]


@pytest.mark.parametrize(
    ("condition", "simple"),
    [
        ("", ""),
        (" ; python_full_version < '3.12'", " ; python_full_version < '3.12'"),
        (" ; python_full_version == '3.13.*'", " ; python_full_version >= '3.12'"),
        (" ; python_full_version < '3.12' or python_full_version == '3.13.*'", ""),
        (
            " ; (python_full_version < '3.12' or python_full_version == '3.13.*') and sys_platform == 'win32'",
            " ; sys_platform == 'win32'",
        ),
    ],
)
def test_conditions_that_hold_on_both_pythons_are_dropped(condition, simple):
    requirement = f"idna==3.20{condition} \\\n    --hash=sha256:0\n"
    assert simplify(f"{requirement}    # via requests\n") == f"idna==3.20{simple} \\\n    --hash=sha256:0\n"
