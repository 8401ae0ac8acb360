# SPDX-License-Identifier: GPL-3.0-or-later
"""The promises of build.py: plain answers on a wrong Python, installs only what is missing, a sound extension zip."""

import ast
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import build
from scripts import environment
from tests.helpers.light_zip import pack_lightly

SUPPORTED_NAMES = [f"{major}.{minor}" for major, minor in build.SUPPORTED]


@pytest.mark.parametrize("module", [build, environment])
def test_build_py_parses_on_python_3_8(module):
    ast.parse(Path(module.__file__).read_text(encoding="utf-8"), feature_version=(3, 8))


@pytest.mark.parametrize("version", [(3, 8), (3, 10), (3, 12), (3, 14)])
@pytest.mark.parametrize("found", ["python3.13", None])
def test_an_unsupported_python_is_refused_in_one_sentence_with_the_command_to_use(monkeypatch, capsys, version, found):
    monkeypatch.setattr(build.sys, "version_info", (*version, 0, "final", 0))
    monkeypatch.setattr(build, "find_python", lambda: found)
    monkeypatch.setattr(environment, "install", lambda *_: pytest.fail("nothing may be installed"))

    assert build.main(["test", "-k", "camera or ply"]) == 2

    (line,) = capsys.readouterr().err.splitlines()
    assert "3.11 or 3.13" in line and "this is Python {}.{}.".format(*version) in line
    assert line.endswith(f"{found or 'python3.11'} build.py test -k 'camera or ply'")


def test_every_supported_python_gets_one_exact_pin_of_each_package():
    pins = [Requirement(pin) for pins in build.read_pins().values() for pin in pins]
    for version in SUPPORTED_NAMES:
        this_python = {"python_version": version, "sys_platform": "linux"}
        chosen = [pin for pin in pins if pin.marker is None or pin.marker.evaluate(this_python)]
        assert {pin.name for pin in chosen} == {pin.name for pin in pins}
        assert len({pin.name for pin in chosen}) == len(chosen)
        assert all([specifier.operator for specifier in pin.specifier] == ["=="] for pin in chosen)


def test_each_command_needs_extras_that_exist_and_the_demo_none():
    assert {extra for extras in build.EXTRAS.values() for extra in extras} <= build.read_pins().keys()
    assert build.EXTRAS["demo"] == []
    names = {Requirement(pin).name for pin in build.read_pins()[build.BASE]}
    assert {"bpy", "torch"} <= names
    assert not names & {"diffusers", "huggingface-hub", "onnxruntime", "pytest"}


def test_pyproject_and_build_py_name_the_same_pythons():
    project = tomllib.loads((build.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    accepted = SpecifierSet(project["requires-python"])
    assert [f"3.{minor}" for minor in range(8, 20) if f"3.{minor}.1" in accepted] == SUPPORTED_NAMES


@pytest.fixture
def workshop(monkeypatch, tmp_path) -> Path:
    """A tree of its own for build.py: a pin for each of the extras paint and film, with locks that fit."""
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    monkeypatch.setattr(build, "ROOT", tmp_path)
    monkeypatch.setattr(environment, "LOCKS", tmp_path / "requirements")
    monkeypatch.setattr(build, "ENVIRONMENT", environment.Environment(tmp_path / ".venv"))
    (tmp_path / "requirements").mkdir()
    write_workshop(tmp_path, torch="2")
    return tmp_path


def write_workshop(folder: Path, torch: str) -> None:
    pins = f"dependencies = ['bpy==5', 'torch=={torch}']\noptional-dependencies = {{ paint = ['oil==1'], film = [] }}"
    (folder / "pyproject.toml").write_text(f"[project]\n{pins}\n", encoding="utf-8")
    locked = {"base": "bpy==5 \\\n    --hash=sha256:b\n", "paint": "oil==1 \\\n    --hash=sha256:0\n", "film": ""}
    for extra, requirements in locked.items():
        lock = f"# {environment.pins_digest(extra)}\n{requirements}"
        (folder / "requirements" / f"{extra}.txt").write_text(lock, encoding="utf-8")


@pytest.fixture
def installs(workshop, monkeypatch) -> list[list[str]]:
    """Record the names and versions that would be installed, of the locked and then the unlocked packages."""
    recorded = []

    def install(target: environment.Environment, locked: list[str], unlocked: list[str]) -> None:
        recorded.append([requirement.split()[0] for requirement in locked + unlocked])
        target.python.parent.mkdir(exist_ok=True)
        target.python.touch()

    monkeypatch.setattr(environment, "install", install)
    return recorded


def test_an_unchanged_tree_installs_once_and_changed_pins_install_again(installs, workshop):
    build.ENVIRONMENT.add([])
    build.ENVIRONMENT.add([])
    write_workshop(workshop, torch="3")
    build.ENVIRONMENT.add([])
    assert installs == [["bpy==5", "torch==2"], ["bpy==5", "torch==3"]]


def test_a_command_adds_what_is_missing_and_keeps_what_is_there(installs, workshop):
    build.ENVIRONMENT.add([])
    build.ENVIRONMENT.add(["paint"])
    build.ENVIRONMENT.add([])
    assert installs == [["bpy==5", "torch==2"], ["bpy==5", "oil==1", "torch==2"]]
    write_workshop(workshop, torch="3")
    build.ENVIRONMENT.add([])
    assert installs[-1] == ["bpy==5", "oil==1", "torch==3"]


def test_an_interrupted_installation_is_taken_up_again(installs, monkeypatch):
    def interrupted(*_) -> None:
        raise KeyboardInterrupt

    build.ENVIRONMENT.add([])
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(environment, "install", interrupted)
        build.ENVIRONMENT.add(["paint"])
    build.ENVIRONMENT.add([])
    assert installs == [["bpy==5", "torch==2"], ["bpy==5", "oil==1", "torch==2"]]


@pytest.mark.parametrize("left", ["", "{", "[]", '{"extras": 1}'])
def test_a_set_up_that_was_killed_is_taken_up_again(installs, left):
    build.ENVIRONMENT.add(["paint"])
    (build.ENVIRONMENT.folder / environment.STATE).write_text(left)
    build.ENVIRONMENT.add(["paint"])
    assert installs == [["bpy==5", "oil==1", "torch==2"]] * 2
    build.ENVIRONMENT.add(["paint"])
    assert len(installs) == 2


@pytest.mark.skipif(os.name == "nt", reason="what an executable is differs there")
def test_a_python_that_was_not_copied_to_its_end_is_none(workshop):
    python = build.ENVIRONMENT.python
    python.parent.mkdir(parents=True)
    python.write_bytes(b"\x7fELF")
    python.chmod(0o755)
    assert not build.ENVIRONMENT.has_pip()


def test_what_packs_a_zip_is_whole():
    for name in build.PACKING.only:
        needed = [Requirement(each) for each in metadata.requires(name) or []]
        assert {each.name for each in needed if each.marker is None} <= {*build.PACKING.only}
    assert build.EXTRAS["zip"] == ["manual"]
    assert {Requirement(pin).name for pin in build.read_pins()["manual"]} <= {*build.PACKING.only}
    locked, unlocked = build.PACKING._requirements(["manual"])
    assert len(locked) == len(build.PACKING.only) and not unlocked


def test_a_zip_needs_no_base_but_takes_an_environment_that_has_it(installs, workshop, monkeypatch):
    monkeypatch.setattr(build, "EXTRAS", {"zip": ["paint"]})
    monkeypatch.setattr(build, "PACKING", environment.Environment(workshop / ".venv-zip", only=("oil",)))
    build.packing_environment().add(["paint"])
    assert installs == [["oil==1"]] and not build.ENVIRONMENT.python.exists()
    build.ENVIRONMENT.add(["paint"])
    assert build.packing_environment() == build.ENVIRONMENT


def test_an_environment_of_another_python_is_left_alone(installs):
    folder = build.ENVIRONMENT.folder
    folder.mkdir()
    (folder / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.9.2\n")
    with pytest.raises(build.BuildError, match=r"made with Python 3\.9 .* Use python3\.9, or remove") as refusal:
        build.ENVIRONMENT.add([])
    assert refusal.value.exit_code == 2
    assert installs == []


def test_extras_are_installed_by_name_and_unknown_ones_refused(installs, capsys):
    assert build.main(["install", "paint"]) == 0
    assert installs == [["bpy==5", "oil==1", "torch==2"]]
    assert build.main(["install", "clay"]) == 2
    assert "no extra 'clay'; choose from film, paint" in capsys.readouterr().err


def test_a_lock_that_does_not_fit_its_pins_is_refused_with_the_command_to_use(installs, workshop, capsys):
    pyproject = workshop / "pyproject.toml"
    pyproject.write_text(pyproject.read_text(encoding="utf-8").replace("oil==1", "oil==2"), encoding="utf-8")
    assert build.main(["install"]) == 2
    assert "requirements/paint.txt does not fit pyproject.toml; write it again with: python3 build.py lock" in (
        capsys.readouterr().err
    )
    assert not installs


def test_the_locks_fit_pyproject_and_lock_every_pin_but_pytorch_by_the_digests_of_its_files():
    environment.check_locks()
    for extra, pins in build.read_pins().items():
        locked = [Requirement(each.split("\\")[0]) for each in environment.locked_requirements([extra])]
        for version in SUPPORTED_NAMES:
            for platform in ("linux", "win32"):
                this = {"python_version": version, "python_full_version": f"{version}.1", "sys_platform": platform}
                found = {each.name: each for each in locked if each.marker is None or each.marker.evaluate(this)}
                for pin in map(Requirement, pins):
                    if pin.name != "torch" and (pin.marker is None or pin.marker.evaluate(this)):
                        assert found[pin.name.replace(".", "-")].specifier == pin.specifier


def test_the_locks_hold_nothing_but_names_versions_conditions_and_digests():
    for extra in build.read_pins():
        text = (environment.LOCKS / f"{extra}.txt").read_text(encoding="utf-8")
        requirements = environment.split_lock(text)
        pattern = r"[a-z0-9-]+==[\w.]+( ; [\w.'()<>=! ]+)? \\\n(    --hash=sha256:[0-9a-f]{64}( \\)?\n)+"
        assert all(re.fullmatch(pattern, requirement) for requirement in requirements)
        assert [line for line in text.splitlines() if line.startswith("#")] == text.splitlines()[:3]
        assert not re.search(r"^(torch|triton|nvidia|cuda-toolkit)", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "disk is full"),
        (
            "WARNING: Retrying after connection broken by 'NewConnectionError(...)'\n"
            "ERROR: No matching distribution found for bpy==5.0.1",
            "index cannot be reached",
        ),
        ("ERROR: No matching distribution found for bpy==5.0.1", "has no bpy==5.0.1 for this system"),
        ("The virtual environment was not created because ensurepip is not available.", "package python3-venv"),
        ("error: subprocess-exited-with-error", "last lines of the log"),
    ],
)
def test_a_failed_installation_is_explained_and_the_log_quoted(log, reason):
    explanation = environment.explain_install_failure("Collecting bpy\n" + log, Path("install.log"))
    assert reason in explanation.splitlines()[0]
    assert log.splitlines()[-1] in explanation


def test_a_failing_step_of_the_installation_is_reported_with_its_output(tmp_path):
    occupied = environment.Environment(tmp_path)
    (tmp_path / "bin" if sys.platform != "win32" else tmp_path / "Scripts").touch()
    with pytest.raises(build.BuildError, match="Unable to create directory"):
        environment.install(occupied, [], [])


@pytest.fixture
def pytest_runs(installs, monkeypatch) -> list[tuple]:
    """Record what would run, and in which environment."""
    runs = []
    run = lambda self, *arguments: runs.append((self.folder.name, arguments)) or 0  # noqa: E731
    monkeypatch.setattr(environment.Environment, "run_module", run)
    monkeypatch.setattr(build, "EXTRAS", build.EXTRAS | {"test": ["paint"]})
    return runs


@pytest.mark.parametrize(
    ("arguments", "several"),
    [
        ([], True),
        (["-k", "camera"], True),
        (["tests/backend", "-x"], True),
        (["tests/test_page.py", "tests/backend/test_camera.py"], True),
        (["-n", "0"], True),  # the later number counts
        (["tests/backend/test_camera.py", "-x"], False),
        (["tests/test_page.py::test_one", "tests/test_page.py::test_other"], False),
        (["-k", "camera", "--pdb"], False),
        (["tests/backend", "-s"], False),
    ],
)
def test_tests_run_in_several_processes_but_for_single_files_and_debuggers(installs, pytest_runs, arguments, several):
    processes = build.SEVERAL_PROCESSES if several else []
    assert build.main(["test", *arguments]) == 0
    assert build.main(["test", "--quick", *arguments]) == 0
    expected = [[*processes, *arguments], [*processes, "-m", "not slow", *arguments]]
    assert [list(given[1:]) for _, given in pytest_runs] == expected


def test_another_blender_is_tested_in_an_environment_of_its_own(installs, pytest_runs, monkeypatch):
    monkeypatch.setattr(build.sys, "version_info", (3, 11, 0, "final", 0))
    assert build.main(["test", "--blender", "4.5", "-x"]) == 0
    assert build.main(["test", "--blender", "4.5"]) == 0
    assert installs == [["oil==1", "torch==2", "bpy==4.5.15"]]
    assert pytest_runs == [
        (".venv-4.5", ("pytest", *build.SEVERAL_PROCESSES, "-x")),
        (".venv-4.5", ("pytest", *build.SEVERAL_PROCESSES, "tests/blender")),
    ]


def test_the_newest_blender_is_whatever_the_index_has(installs, pytest_runs, monkeypatch):
    monkeypatch.setattr(build.sys, "version_info", (3, 13, 0, "final", 0))
    assert build.main(["test", "--blender", "newest"]) == 0
    assert installs == [["oil==1", "torch==2", "bpy"]]
    assert pytest_runs == [(".venv-newest", ("pytest", *build.SEVERAL_PROCESSES, "tests/blender"))]


def test_a_blender_of_another_python_is_refused_with_the_command_to_use(pytest_runs, monkeypatch, capsys):
    monkeypatch.setattr(build.sys, "version_info", (3, 11, 0, "final", 0))
    assert build.main(["test", "--blender", "5.2"]) == 2
    assert "Run: python3.13 build.py test --blender 5.2" in capsys.readouterr().err
    assert not pytest_runs


def test_continuous_integration_tests_every_blender_that_build_py_knows():
    """GitHub's workflow names each Blender and the Python that build.py wants for it."""
    workflow = (build.ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
    named = dict(re.findall(r'blender: "([\d.]+)", python: "([\d.]+)"', workflow))
    known = {name: "{}.{}".format(*python) for name, (_, python) in build.BLENDERS.items() if name != "newest"}
    assert named == known
    assert re.findall(r"blender: \[(.*)\]", workflow) == [", ".join(f'"{name}"' for name in known)]


def test_the_pinned_blenders_are_among_those_that_build_py_knows():
    known = {f"{bpy}; python_version == '{python[0]}.{python[1]}'" for bpy, python in build.BLENDERS.values()}
    assert {pin for pin in environment.read_pins()[environment.BASE] if pin.startswith("bpy==")} <= known


def test_lint_lock_and_zip_refuse_arguments_with_exit_code_2():
    for command in ("lint", "lock", "zip"):
        with pytest.raises(SystemExit) as refusal:
            build.main([command, "--fix"])
        assert refusal.value.code == 2


@pytest.mark.parametrize("command", sorted(build.EXTRAS))
def test_help_on_a_command_needs_no_environment(command, capsys, monkeypatch):
    monkeypatch.setattr(build.Environment, "add", lambda *_: pytest.fail("nothing may be installed"))
    try:
        assert build.main([command, "--help"]) == 0
    except SystemExit as end:  # of the commands whose own options argparse explains
        assert end.code == 0
    assert f"build.py {command} " in capsys.readouterr().out.splitlines()[0]


def test_the_same_files_give_the_same_zip_whatever_their_order_and_dates(tmp_path):
    for name, order, date in (("a", "xy", 1e9), ("b", "yx", 1.5e9)):
        for file in order:
            (tmp_path / name / "folder").mkdir(parents=True, exist_ok=True)
            (tmp_path / name / "folder" / file).write_text(f"content of {file}")
            os.utime(tmp_path / name / "folder" / file, (date, date))
        build.pack(tmp_path / name, tmp_path / f"{name}.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    assert zipfile.ZipFile(tmp_path / "a.zip").read("folder/y") == b"content of y"


@pytest.fixture(scope="module")
def extension_zip(tmp_path_factory) -> Path:
    """The extension, built with the running Python's bpy into a temporary folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "ENVIRONMENT", environment.Environment(Path(sys.prefix)))
        patch.setattr(build, "packing_environment", lambda: build.ENVIRONMENT)
        pack_lightly(patch)
        return build.build_zip(tmp_path_factory.mktemp("dist"))


@pytest.mark.slow
@pytest.mark.blender
def test_the_zip_holds_addon_backend_and_licence_and_nothing_of_the_workshop(extension_zip):
    names = zipfile.ZipFile(extension_zip).namelist()
    assert {"blender_manifest.toml", "__init__.py", "LICENSE", "backend/__init__.py", "backend/camera.py"} <= set(names)
    assert {"manual/blender.html", "manual/blender.png"} <= set(names)
    for network in ("weights/mtcnn", "portrait/weights/selfie_matte"):
        assert {f"backend/{network}.{ending}" for ending in ("safetensors", "LICENSE")} <= set(names)
    assert {f"backend/weights/small.{ending}" for ending in ("safetensors", "json")} <= set(names)
    assert names == sorted(names)
    folders = {part for name in names for part in Path(name).parts}
    assert not folders & {"training", "tests", "scripts", "requirements", "__pycache__", "demo.py", "README.md"}
    assert not [part for part in folders if part.startswith(".") or part.endswith(".pyc")]


@pytest.mark.slow
@pytest.mark.blender
def test_the_zip_without_wheels_is_for_all_platforms(extension_zip):
    manifest = tomllib.loads(zipfile.ZipFile(extension_zip).read("blender_manifest.toml").decode())
    assert "platforms" not in manifest and "wheels" not in manifest


@pytest.mark.slow
@pytest.mark.blender
def test_every_module_of_the_zip_imports_without_the_checkout(extension_zip, tmp_path):
    zipfile.ZipFile(extension_zip).extractall(tmp_path / "facet4d")
    script = (
        "import importlib, pkgutil, facet4d\n"
        "for module in pkgutil.walk_packages(facet4d.__path__, 'facet4d.'):\n"
        "    if not module.name.endswith('__main__'):\n"
        "        importlib.import_module(module.name)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, result.stderr
