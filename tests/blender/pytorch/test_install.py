# SPDX-License-Identifier: GPL-3.0-or-later
"""PyTorch is installed into a folder of the add-on's own by a real pip, or else nothing is left and the reason told."""

import hashlib
import http.server
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from packaging.requirements import Requirement

from backend.errors import Cancelled, UserError
from scripts.environment import BASE, read_pins
from tests.helpers.layout import draw
from tests.helpers.stage import wait_until
from tests.helpers.wheels import make_wheels

bpy = pytest.importorskip("bpy")
import blender_addon
from blender_addon import disk, jobs
from blender_addon.panels.run import FACET4D_PT_reconstruct
from blender_addon.pytorch import install as pytorch_install
from blender_addon.pytorch import operators as pytorch_operators
from blender_addon.pytorch.install import BUILDS, Build, choose_build

pytestmark = [pytest.mark.blender, pytest.mark.slow]
ROOT = Path(blender_addon.__file__).parents[1]
CPU = BUILDS["cpu"]


@pytest.fixture
def home(tmp_path) -> Path:
    return tmp_path / "extension" / "torch"


@pytest.fixture
def wheels(tmp_path, monkeypatch) -> Path:
    """The only packages that pip knows."""
    folder = make_wheels(tmp_path / "wheels")
    offer(monkeypatch, str(folder))
    return folder


def offer(monkeypatch, links: str) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", links)


def ignore(stage: str, fraction: float) -> None:
    pass


def test_an_installation_is_whole_alone_and_named_after_python_and_build(wheels, home):
    (home / "py39-cpu" / "torch").mkdir(parents=True)
    (home / "new").mkdir()
    reports = []
    pytorch_install.install(home, CPU, lambda *report: reports.append(report))
    (folder,) = home.iterdir()
    assert folder.name == f"py{sys.version_info.major}{sys.version_info.minor}-cpu"
    assert {"torch", "numba", "PIL", "safetensors"} <= {path.name for path in folder.iterdir()}
    assert pytorch_install.find(home) == folder
    assert reports[0] == ("Starting pip", 0.0) and reports[-1][0] == "Trying PyTorch"
    assert [fraction for _, fraction in reports] == sorted(fraction for _, fraction in reports)


def test_pip_is_asked_for_what_the_project_is_tested_with():
    pins = read_pins()
    assert {f"torch=={pytorch_install.TORCH}", *pytorch_install.OTHERS} <= {*pins[BASE]}
    of_portraits = {*pins["portrait"]}
    assert set(pytorch_install.PORTRAITS) == of_portraits
    names = [Requirement(pin).name for pin in CPU.with_portraits().requirements]
    assert sorted(names) == sorted(
        {"torch", "numba", "pillow", "numpy", "safetensors", *(Requirement(p).name for p in of_portraits)}
    )
    assert f"numpy=={np.__version__}" in CPU.with_portraits().requirements
    for each in BUILDS.values():
        (torch,) = (pin for pin in map(Requirement, each.requirements) if pin.name == "torch")
        assert torch.specifier.contains(f"{pytorch_install.TORCH}+{each.name}")


def test_without_a_network_nothing_is_left_and_the_reason_told(home, monkeypatch):
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_PROXY", "http://127.0.0.1:9")  # where nobody listens
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(UserError, match="index cannot be reached; check the network"):
        pytorch_install.install(home, CPU, ignore)
    assert not home.exists()


@contextmanager
def package_site(folder: Path, sent_of_torch: float, hash_of_torch: str = "") -> Iterator[tuple[str, threading.Event]]:
    """A page of the folder's wheels, of which PyTorch's is sent in part and then no further until the end."""
    released = threading.Event()

    class Site(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            name = self.path[1:].replace("%2B", "+")
            hashed = {path: f"#sha256={hash_of_torch}" if "torch-" in path and hash_of_torch else "" for path in files}
            page = "".join(f'<a href="{path}{hashed[path]}">{path}</a><br>' for path in files)
            content = (folder / name).read_bytes() if name else page.encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/octet-stream" if name else "text/html")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if name.startswith("torch"):
                self.wfile.write(content[: int(sent_of_torch * len(content))])
                if sent_of_torch < 1:
                    released.wait(30)
            else:
                self.wfile.write(content)

        def log_message(self, *_):
            pass

    files = [path.name for path in folder.iterdir()]
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", released
    finally:
        released.set()
        server.shutdown()
        thread.join()
        server.server_close()


def test_cancelling_a_download_ends_pip_and_leaves_nothing(wheels, home, monkeypatch):
    seen = []

    def cancel_the_download(stage: str, fraction: float) -> None:
        seen.append(stage)
        if stage.startswith("Downloading torch"):
            raise Cancelled

    with package_site(wheels, sent_of_torch=0.5) as (url, _):
        offer(monkeypatch, url)
        with pytest.raises(Cancelled):
            pytorch_install.install(home, CPU, cancel_the_download)
    assert "Looking up packages" in seen
    assert not home.exists()
    assert not [line for line in processes() if str(home) in line]


def processes() -> list[str]:
    return subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout.splitlines()


def test_a_download_that_ends_early_is_told_as_such(wheels, home, monkeypatch):
    with package_site(wheels, sent_of_torch=0.5) as (url, released):
        released.set()
        offer(monkeypatch, url)
        monkeypatch.setenv("PIP_RETRIES", "0")
        monkeypatch.setenv("PIP_RESUME_RETRIES", "0")
        with pytest.raises(UserError, match="arrived broken; try again"):
            pytorch_install.install(home, CPU, ignore)
    assert not home.exists()


def test_a_package_of_another_content_than_promised_is_refused(wheels, home, monkeypatch):
    with package_site(wheels, 1.0, hashlib.sha256(b"another").hexdigest()) as (url, _):
        offer(monkeypatch, url)
        with pytest.raises(UserError, match="arrived broken; try again"):
            pytorch_install.install(home, CPU, ignore)
    assert not home.exists()


def test_a_package_that_is_no_zip_is_refused(wheels, home):
    next(wheels.glob("torch*")).write_bytes(b"half a wheel")
    with pytest.raises(UserError, match="arrived broken; try again"):
        pytorch_install.install(home, CPU, ignore)
    assert not home.exists()


def test_a_package_that_the_index_lacks_is_named_and_an_older_installation_stays(wheels, home):
    pytorch_install.install(home, CPU, ignore)
    (folder,) = home.iterdir()
    next(wheels.glob("safetensors*")).unlink()
    with pytest.raises(UserError, match=r"no safetensors==0\.8\.0 for this system and Python 3\.\d+; choose another"):
        pytorch_install.install(home, CPU, ignore)
    assert list(home.iterdir()) == [folder] and (folder / "safetensors").is_dir()


def test_a_pytorch_that_does_not_work_is_not_kept(wheels, home, monkeypatch):
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if "site-packages" not in entry])
    next(wheels.glob("torch*")).unlink()
    shutil.copy(next(wheels.glob("pillow*")), wheels / "torch-2.13.0+cpu-py3-none-any.whl")
    with pytest.raises(UserError):
        pytorch_install.install(home, CPU, ignore)
    assert not home.exists()


@pytest.fixture
def locked() -> Iterator[Path]:
    """A folder that holds one, neither of which may be changed."""
    with tempfile.TemporaryDirectory() as place:  # pytest's own folders cannot even be looked into
        folder = Path(place, "torch")
        (folder / "py39-cpu").mkdir(parents=True)
        folder.chmod(0o555)
        folder.parent.chmod(0o555)
        user = os.geteuid()
        if user == 0:  # who may write everywhere
            os.seteuid(65534)
        yield folder
        os.seteuid(user)
        folder.parent.chmod(0o755)
        folder.chmod(0o755)


def test_a_folder_that_cannot_be_written_is_named(wheels, locked):
    with pytest.raises(
        UserError, match=r"another cannot be written \(Permission denied\); make room for it or allow it"
    ):
        pytorch_install.install(locked.with_name("another"), CPU, ignore)


def test_what_cannot_be_removed_is_named(locked):
    with pytest.raises(
        UserError, match=r"torch cannot be removed \(Permission denied\); restart Blender and try again"
    ):
        pytorch_install.remove(locked)
    assert locked.exists()


def test_too_little_room_is_told_before_anything_is_downloaded(wheels, home):
    with pytest.raises(UserError, match=r"PyTorch needs 1000000\.2 GB while it is installed, and [\d.]+ GB are free"):
        pytorch_install.install(home, Build("cpu", "", "", 0.2, 1e6), ignore)
    assert not home.exists()


@pytest.fixture
def lacking(monkeypatch):
    """Lets this Python lack packages of some names, but for those in a folder."""

    def lack(*names: str, folder: Path | None = None) -> None:
        def has_package(name: str) -> bool:
            return name not in names or (folder is not None and (folder / name).exists())

        monkeypatch.setattr(disk, "has_package", has_package)

    return lack


def test_only_what_is_missing_is_added_to_our_own_pytorch(wheels, home, lacking):
    pytorch_install.install(home, CPU, ignore)
    (folder,) = home.iterdir()
    shutil.rmtree(folder / "numba")
    (folder / "torch" / "old").touch()
    for other in ("torch", "pillow", "safetensors"):  # pip would find none
        next(wheels.glob(f"{other}*")).unlink()
    lacking("numba", folder=folder)
    build = CPU.only_missing(home)
    assert build.missing == tuple(pin for pin in CPU.requirements if pin.startswith("numba")) and build.disk < CPU.disk
    assert pytorch_install.install(home, build, ignore)["torch"].startswith("2.13.0")
    assert [*home.iterdir()] == [folder]
    assert (folder / "torch" / "old").exists() and (folder / "numba").is_dir()
    assert CPU.only_missing(home) == CPU  # nothing is missing any more
    assert not BUILDS["cu130"].only_missing(home).missing  # another build replaces this one


def test_what_is_missing_is_added_to_a_pytorch_that_is_not_ours(wheels, home, lacking):
    lacking("numba")
    build = CPU.only_missing(home)
    pytorch_install.install(home, build, ignore)
    (folder,) = home.iterdir()
    assert folder.name.endswith("-more") and folder == pytorch_install.find(home)
    assert {path.name for path in folder.iterdir() if path.suffix != ".dist-info"} == {"numba"}
    lacking("torch", "numba")  # that PyTorch is gone
    pytorch_install.install(home, CPU.only_missing(home), ignore)
    assert [path.name for path in home.iterdir()] == [CPU.folder]


def test_an_addition_with_which_pytorch_fails_is_taken_back(wheels, home, lacking, monkeypatch):
    pytorch_install.install(home, CPU, ignore)
    (folder,) = home.iterdir()
    shutil.rmtree(folder / "numba")
    before = {path.name for path in folder.iterdir()}
    shutil.rmtree(next(folder.glob("numba-*.dist-info")))
    lacking("numba", folder=folder)

    def fail(_folder):
        raise UserError("PyTorch does not work here; choose another.")

    monkeypatch.setattr(pytorch_install.probe, "examine", fail)
    with pytest.raises(UserError, match="does not work here"):
        pytorch_install.install(home, CPU.only_missing(home), ignore)
    assert {path.name for path in folder.iterdir()} == {name for name in before if not name.startswith("numba")}


@pytest.mark.parametrize(
    ("gpu", "expected", "reason"),
    [
        ("NVIDIA GeForce RTX 5090, 595.71.05, 12.0", "cu130", "RTX 5090 with driver 595"),
        ("NVIDIA GeForce RTX 3060, 580.65.06, 8.6", "cu130", "driver 580"),
        ("NVIDIA GeForce RTX 3060, 560.35.03, 8.6", "cu126", "driver 560"),
        ("NVIDIA GeForce GTX 1080, 580.65.06, 6.1", "cu126", "driver 580"),  # CUDA 13 no longer knows Pascal
        ("NVIDIA H100 80GB HBM3, 560.35.03, 9.0", "cpu", "needs driver 580 or later"),
        ("NVIDIA GeForce RTX 3060, 470.57.02, 8.6", "cpu", "needs driver 580 or later"),
        ("NVIDIA GeForce GTX 780, 470.57.02, 3.5", "cpu", "too old"),
        ("NVIDIA A, 580.65.06, 6.1\nNVIDIA B, 580.65.06, 8.9", "cu130", "NVIDIA B"),
        ("", "cpu", "No NVIDIA GPU"),
    ],
)
def test_the_build_fits_driver_and_gpu(gpu, expected, reason):
    build, told = choose_build(gpu)
    assert build.name == expected and reason in told


def test_a_python_without_pip_uses_the_one_it_brings_along(tmp_path, monkeypatch):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bare" / "bin" / "python"))
    run = subprocess.run([*pytorch_install._pip(), "--version"], capture_output=True, text=True, check=True)
    assert re.match(r"pip [\d.]+ from .*_bundled", run.stdout)


def test_the_panel_offers_the_installation_and_shows_how_far_it_is_and_why_it_failed(registered, monkeypatch):
    monkeypatch.setattr(disk, "find_spec", lambda name: None)
    disk.forget()
    assert "Install PyTorch" in draw(FACET4D_PT_reconstruct)
    released = threading.Event()
    job = jobs.Job(lambda progress: progress("Downloading torch (190 MB)", 0.25) or released.wait(30))
    monkeypatch.setattr(pytorch_operators, "installation", job)
    wait_until(lambda: job.update() or job.fraction)
    shown = draw(FACET4D_PT_reconstruct)
    assert "Downloading torch (190 MB): 25%" in shown and "Cancel" in shown and "Install PyTorch" not in shown
    released.set()
    job.join(5)
    monkeypatch.setattr(pytorch_operators, "installation", None)
    bpy.context.window_manager.facet4d.install_error = "The disk is full; free some space and try again."
    shown = draw(FACET4D_PT_reconstruct)
    assert "The disk is full; free some space and try again." in shown and "Install PyTorch" in shown
    disk.forget()


def test_pytorch_is_neither_installed_nor_removed_while_a_run_goes_on(running):
    for operator in (bpy.ops.facet4d.install_pytorch, bpy.ops.facet4d.remove_pytorch):
        with pytest.raises(RuntimeError, match="A run is not finished"):
            operator()


STEPS = """
import subprocess, sys
from pathlib import Path
import bpy
import addon_utils
extensions, step = sys.argv[1:]
NAME = "bl_ext.facet4d_test.facet4d"
bpy.context.preferences.extensions.repos.new(name="Test", module="facet4d_test", custom_directory=extensions)
preferences = bpy.context.preferences
assert addon_utils.enable(NAME, default_set=True)
operators = sys.modules[NAME + ".pytorch.operators"]
missing = sys.modules[NAME + ".job_operator"].missing_packages
home = operators.home()
assert home.parts[-4:] == (".user", "facet4d_test", "facet4d", "torch")
def refusal(operator):
    try:
        operator()
    except RuntimeError as error:
        return str(error)
if step == "install":
    assert missing() == ["torch", "PIL", "safetensors"]
    preferences.system.use_online_access = False
    assert "Blender may not go online" in refusal(bpy.ops.facet4d.install_pytorch)
    preferences.system.use_online_access = True
    operators._start(operators.pytorch_install.BUILDS["cpu"])
    assert "is being installed" in refusal(bpy.ops.facet4d.install_pytorch)
    assert "is being installed" in refusal(bpy.ops.facet4d.remove_pytorch)
    assert bpy.ops.facet4d.cancel_install() == {"FINISHED"}
    operators.installation.join(60)
    assert operators._update() is None and not home.exists()
    assert bpy.ops.facet4d.install_pytorch(build="cpu") == {"FINISHED"}
    assert not missing() and "torch" not in sys.modules
    (folder,) = home.iterdir()
    assert sys.path[-1] == str(folder)
    assert bpy.context.window_manager.facet4d.examined.startswith("PyTorch 2.13.0+cpu for the processor")
    (folder / "old").touch()
    assert bpy.ops.facet4d.install_pytorch(build="cpu") == {"FINISHED"}
    assert list(home.iterdir()) == [folder] and not (folder / "old").exists() and sys.path.count(str(folder)) == 1
    operators._start(operators.pytorch_install.BUILDS["cpu"])
    assert missing()
    bpy.ops.facet4d.cancel_install()
    operators.installation.join(60)
    operators._update()
    assert not missing()
    addon_utils.disable(NAME)
    assert str(folder) not in sys.path
    addon_utils.enable(NAME)
    import torch
    assert torch.__file__.startswith(str(folder))
    assert "restart Blender" in refusal(bpy.ops.facet4d.remove_pytorch)
    assert "restart Blender" in refusal(bpy.ops.facet4d.install_pytorch)
else:
    assert not missing()
    assert bpy.ops.facet4d.remove_pytorch() == {"FINISHED"}
    assert missing() == ["torch", "PIL", "safetensors"] and not home.exists()
    assert not [entry for entry in sys.path if entry.startswith(str(home))]
    assert "has installed no PyTorch" in refusal(bpy.ops.facet4d.remove_pytorch)
    operators._start(operators.pytorch_install.BUILDS["cpu"])
    addon_utils.disable(NAME)
    assert not home.exists() and operators.installation is None
print("all steps done")
"""
NEEDED = ("torch", "functorch", "pillow", "PIL", "safetensors")


def test_the_buttons_install_use_and_remove_pytorch(wheels, tmp_path, monkeypatch):
    """In a Blender that has everything but PyTorch, Pillow and safetensors; the second is started anew."""
    core = tmp_path / "core"
    core.mkdir()
    for package in Path(torch.__file__).parents[1].iterdir():
        if not package.name.lower().startswith(tuple(name.lower() for name in NEEDED)):
            (core / package.name).symlink_to(package)
    ignored = shutil.ignore_patterns("__pycache__", "*.safetensors", "training", "demo_capture")
    extension = tmp_path / "extensions" / "facet4d"
    shutil.copytree(ROOT / "blender_addon", extension, ignore=ignored)
    shutil.copytree(ROOT / "backend", extension / "backend", ignore=ignored)
    monkeypatch.setenv("BLENDER_USER_RESOURCES", str(tmp_path / "user"))
    path = f"import sys; sys.path.append({str(core)!r})\n"
    for step in ("install", "remove"):
        command = [sys.executable, "-S", "-c", path + STEPS, str(extension.parent), step]
        run = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert "all steps done" in run.stdout, run.stdout + run.stderr
