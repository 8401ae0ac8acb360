# SPDX-License-Identifier: GPL-3.0-or-later
"""An extension zip with PyTorch inside and a repository of extensions, as Blender itself reads and installs them."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import build
from scripts.environment import Environment
from tests.helpers.light_zip import pack_lightly
from tests.helpers.wheels import PACKAGES, make_wheels

pytestmark = [pytest.mark.blender, pytest.mark.slow]

TAGS = {
    "linux-x64": "manylinux_2_17_x86_64",
    "macos-arm64": "macosx_11_0_arm64",
    "windows-x64": "win_amd64",
}
PYTHONS = ["3.11", "3.13"]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    """build.py with the running Python's bpy, and a pip that knows tiny wheels alone."""
    index = tmp_path_factory.mktemp("index")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "ENVIRONMENT", Environment(Path(sys.prefix)))
        patch.setattr(build, "packing_environment", lambda: build.ENVIRONMENT)
        pack_lightly(patch)
        patch.setenv("PIP_CONFIG_FILE", os.devnull)
        patch.setenv("PIP_NO_INDEX", "1")
        patch.setenv("PIP_FIND_LINKS", str(index))
        for python in ("cp311", "cp313"):
            for tag in TAGS.values():
                for wheel in make_wheels(index / tag / python, f"{python}-{python}-{tag}").iterdir():
                    wheel.rename(index / wheel.name)
        yield index


def read_manifest(package: Path) -> dict:
    return tomllib.loads(zipfile.ZipFile(package).read("blender_manifest.toml").decode())


@pytest.mark.parametrize("platform", ["linux-x64", "macos-arm64"])
def test_the_zip_brings_unchanged_wheels_for_its_platform_and_each_python(workshop, tmp_path, platform):
    package = build.build_zip(tmp_path, platform, PYTHONS)
    assert package.stem.endswith(platform.replace("-", "_"))
    manifest = read_manifest(package)
    assert manifest["platforms"] == [platform]
    wheels = [Path(wheel).name for wheel in manifest["wheels"]]
    expected = [
        f"{name}-{version}-{python}-{python}-{TAGS[platform]}.whl"
        for name, version in PACKAGES
        for python in ("cp311", "cp313")
    ]
    assert sorted(wheels) == sorted(expected)
    archive = zipfile.ZipFile(package)
    assert all(archive.read(f"wheels/{wheel}") == (workshop / wheel).read_bytes() for wheel in wheels)


def test_wheels_that_are_not_to_be_had_are_named(workshop, tmp_path):
    missing = next(workshop.glob(f"safetensors*cp313*{TAGS['linux-x64']}.whl"))
    hidden = missing.rename(tmp_path / missing.name)
    with pytest.raises(build.BuildError, match=r"wheels for linux-x64 and Python 3\.13 failed:\n.*safetensors"):
        build.build_zip(tmp_path, "linux-x64", PYTHONS)
    shutil.move(hidden, missing)


def test_wrong_platforms_and_pythons_are_refused_with_exit_code_2(capsys):
    for arguments in (["zip", "--with-wheels", "amiga"], ["repo", "--python", "3.12"], ["zip", "--with-wheels"]):
        with pytest.raises(SystemExit) as refusal:
            build.main(arguments)
        assert refusal.value.code == 2
    assert "amiga" in capsys.readouterr().err


@pytest.fixture(scope="module")
def repository(workshop, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dist") / "repo"
    folder.mkdir()
    (folder / "facet4d-0.0.1.zip").write_bytes(b"of an older build")
    build.build_repository(folder, ["linux-x64", "windows-x64"], PYTHONS)
    return folder


def test_the_repository_lists_each_platforms_zip_as_blenders_listing_wants_it(repository):
    listing = json.loads((repository / "index.json").read_text(encoding="utf-8"))
    assert listing.keys() - {"assetlib_auth_method"} == {"version", "blocklist", "data"}  # which Blender 5.3 adds
    assert (listing["version"], listing["blocklist"]) == ("v1", [])
    assert sorted(entry["platforms"] for entry in listing["data"]) == [["linux-x64"], ["windows-x64"]]
    assert {path.name for path in repository.glob("*.zip")} == {entry["archive_url"][2:] for entry in listing["data"]}
    for entry in listing["data"]:
        package = repository / entry["archive_url"]
        content = package.read_bytes()
        assert entry["archive_size"] == len(content)
        assert entry["archive_hash"] == f"sha256:{hashlib.sha256(content).hexdigest()}"
        assert sorted(entry["python_versions"]) == PYTHONS
        required = ("schema_version", "id", "name", "tagline", "version", "type", "maintainer", "license")
        manifest = read_manifest(package)
        assert {key: entry[key] for key in required} == {key: manifest[key] for key in required}
        assert entry["blender_version_min"] == manifest["blender_version_min"]
    links = re.findall(r'href="\./([^?"]+)', (repository / "index.html").read_text(encoding="utf-8"))
    assert sorted(links) == sorted(path.name for path in repository.glob("*.zip"))


STEPS = """
import sys
from importlib.util import find_spec
import bpy
import addon_utils
assert find_spec("torch") is None
repos = bpy.context.preferences.extensions.repos
repos.new(name="Facet4D", module="facet4d_repo", remote_url=sys.argv[1])
index = len(repos) - 1
bpy.context.preferences.system.use_online_access = True
bpy.ops.extensions.repo_sync(repo_index=index)
assert bpy.ops.extensions.package_install(repo_index=index, pkg_id="facet4d", enable_on_install=True) == {"FINISHED"}
import torch
assert torch.__version__ == "2.13.0+cpu", torch
assert not sys.modules["bl_ext.facet4d_repo.facet4d.job_operator"].missing_packages()
addon_utils.disable("bl_ext.facet4d_repo.facet4d", default_set=True)
print("all steps done")
"""


def test_blender_installs_addon_and_pytorch_from_the_repository(repository, tmp_path, monkeypatch):
    """In a Blender without PyTorch."""
    monkeypatch.setenv("BLENDER_USER_RESOURCES", str(tmp_path / "user"))
    core = tmp_path / "core"
    core.mkdir()
    for package in Path(pytest.__file__).parents[1].iterdir():
        if not package.name.lower().startswith(("torch", "functorch", "pillow", "pil", "safetensors")):
            (core / package.name).symlink_to(package)
    path = f"import sys; sys.path.append({str(core)!r})\n"
    command = [sys.executable, "-S", "-c", path + STEPS, (repository / "index.json").as_uri()]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert "all steps done" in run.stdout, run.stdout + run.stderr
