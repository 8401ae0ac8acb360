# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes requirements/: the packages of pyproject.toml and all their dependencies, with the SHA-256 of their files.

    python3 build.py lock

base.txt holds what everything needs, and every other file what the extra of its name adds to that. They are for all
systems and for the Pythons of pyproject.toml. All versions are resolved together, by uv from PyPI, so that any extras
can be installed side by side. Locked versions stay as they are if pyproject.toml allows it; remove a file to take the
newest version of every package that has no pin.

See scripts/environment.py for why PyTorch is left out.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from scripts.environment import BASE, LOCKS, ROOT, UNLOCKED, pins_digest, read_pins, split_lock

BEFORE, AFTER = "python_full_version < '3.12'", "python_full_version >= '3.12'"
INDEX = "https://pypi.org/simple"
HEADER = """# {digest}: SHA-256 of the pins of pyproject.toml that this was made from
# Written by "python3 build.py lock", to be installed by build.py, or by hand together with the other files:
# pip install --no-deps --require-hashes -r requirements/base.txt ...
"""


def resolve(extras: list[str], known: str) -> str:
    """Return the lock that uv finds for BASE and `extras`, for Python 3.11 and later on all systems.

    known: requirements whose versions are kept if they fit.
    """
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch, "lock.txt")
        target.write_text(known, encoding="utf-8")
        command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-config", "--no-header"]
        command += ["--default-index", INDEX, "--universal", "--python-version", "3.11", "--generate-hashes"]
        command += [f"--extra={extra}" for extra in extras]
        command += ["--output-file", str(target), str(ROOT / "pyproject.toml")]
        # settings of this machine, such as a folder of wheels, must not influence the lock
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "PIP_"))}
        if subprocess.run(command, check=False, env=environment).returncode != 0:
            sys.exit("uv found no versions that fit together, see above; change the pins in pyproject.toml.")
        return target.read_text(encoding="utf-8")


def remove_pytorch(requirements: list[str]) -> list[str]:
    """Remove PyTorch and the packages that only its build for CUDA needs, which PyTorch asks for on Linux alone."""
    left_out = {UNLOCKED}
    while True:
        more = {
            package_name(requirement)
            for requirement in requirements
            if "sys_platform == 'linux'" in requirement.partition("\n")[0] and dependents(requirement) <= left_out
        }
        if more <= left_out:
            return [requirement for requirement in requirements if package_name(requirement) not in left_out]
        left_out |= more


def package_name(requirement: str) -> str:
    """Return the name of a locked requirement's package."""
    return requirement.partition("==")[0]


def dependents(requirement: str) -> set[str]:
    """Return the names of the packages that need a locked requirement, from the comment below it."""
    comment = requirement.partition("# via")[2]
    return set(re.findall(r"[a-z][\w.-]+", comment.replace("#", " ")))


def simplify(requirement: str) -> str:
    """Return a locked requirement without the comment on who needs it, and with the simplest condition.

    Python 3.12 and versions after 3.13 are not supported, so conditions that differ only there are equal.
    """
    requirement = requirement.partition("    # via")[0].replace("python_full_version == '3.13.*'", AFTER)
    name, _, rest = requirement.replace(f"({BEFORE} or {AFTER}) and ", "").partition(" ; ")
    condition, end, digests = rest.partition(" \\\n")
    alternatives = re.split(r" or (?![^(]*\))", condition)  # not those within parentheses
    always = not condition or {BEFORE, AFTER} <= set(alternatives)
    return f"{name}{end}{digests}" if always and rest else f"{name} ; {rest}" if rest else name


def main() -> None:
    """Write all files of requirements/ again."""
    LOCKS.mkdir(exist_ok=True)
    pins = read_pins()
    known = "".join(path.read_text(encoding="utf-8") for path in sorted(LOCKS.glob("*.txt")))
    everything = resolve([extra for extra in pins if extra != BASE], known)
    base: list[str] = []
    for extra in pins:
        requirements = remove_pytorch(split_lock(resolve([extra] if extra != BASE else [], everything)))
        added = [each for each in map(simplify, requirements) if each not in base]
        base = base or added
        header = HEADER.format(digest=pins_digest(extra))
        (LOCKS / f"{extra}.txt").write_text(header + "".join(added), encoding="utf-8")
        print(f"requirements/{extra}.txt: {len(added)} packages")
    for path in LOCKS.glob("*.txt"):
        if path.stem not in pins:
            path.unlink()


if __name__ == "__main__":
    main()
