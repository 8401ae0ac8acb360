# SPDX-License-Identifier: GPL-3.0-or-later
"""A fresh scene for every test inside Blender, and clouds to put into it.

Fixtures that several files use are defined here and not imported from one of them. Where PyTorch is loaded, Python does
not free pytest's fixtures at exit, nor the globals of a file that was imported and not collected. With `bpy` among
these the module is never freed, and Blender 4.5 then hangs.
"""

import subprocess
import sys
import threading
from collections.abc import Callable

import numpy as np
import pytest

from backend.capture import Capture
from backend.options import ReconstructOptions
from backend.splats import MovingSplats


@pytest.fixture(scope="session")
def nodes_file(tmp_path_factory) -> str:
    """A .blend that holds the nodes that evaluate clouds, which take longer to build than to load."""
    import bpy

    from blender_addon.cloud.nodes import evaluation_group

    path = str(tmp_path_factory.mktemp("nodes") / "nodes.blend")
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    bpy.data.libraries.write(path, {evaluation_group()})
    return path


@pytest.fixture
def empty_scene():
    """An empty scene with factory settings, 24 frames a second."""
    import bpy

    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    return bpy.context.scene


@pytest.fixture
def scene(empty_scene, nodes_file):
    """The empty scene, in a file that has the nodes that evaluate clouds, as once there has been one."""
    import bpy

    with bpy.data.libraries.load(nodes_file) as (present, wanted):
        wanted.node_groups = [name for name in present.node_groups if name == "Facet4D Evaluate"]
    return empty_scene


@pytest.fixture
def studio(scene):
    """The scene, set to render small linear pictures in Cycles with a camera to be aimed."""
    import bpy

    from blender_addon.cloud.material import prepare_scene_for_cycles

    scene.render.engine = "CYCLES"
    scene.render.film_transparent = True
    scene.render.image_settings.file_format = "OPEN_EXR"
    scene.render.image_settings.color_depth = "32"
    scene.cycles.samples = 8
    scene.cycles.use_denoising = scene.cycles.use_adaptive_sampling = False
    scene.cycles.pixel_filter_type = "BOX"
    prepare_scene_for_cycles(scene)
    scene.camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    scene.camera.data.lens, scene.camera.data.sensor_width = 72, 36  # focal length: twice the width of the picture
    scene.collection.objects.link(scene.camera)
    return scene


@pytest.fixture
def drawn_as_points(monkeypatch) -> None:
    """Blender draws new clouds as points, as it does before 5.3."""
    from blender_addon import compat

    monkeypatch.setattr(compat, "has_native_splats", lambda: False)


@pytest.fixture(params=["Cycles", pytest.param("Eevee", marks=pytest.mark.slow)])
def either_engine(studio, request):
    """The studio with Cycles, then with Eevee where it can draw."""
    if request.param == "Eevee":
        from tests.helpers.looks import use_eevee

        request.getfixturevalue("opengl")
        use_eevee(studio, samples=16)
    return studio


@pytest.fixture(scope="session")
def opengl() -> None:
    """Skips where Eevee cannot draw. Blender ends the process there, so a child process tries, once."""
    render = "import bpy; r = bpy.context.scene.render; r.engine = 'BLENDER_WORKBENCH'; r.resolution_percentage = 1"
    command = [sys.executable, "-c", f"{render}; bpy.ops.render.render()"]
    if subprocess.run(command, capture_output=True, timeout=120).returncode != 0:
        pytest.skip("no OpenGL")


@pytest.fixture
def make_gaussians() -> Callable[..., MovingSplats]:
    """Makes `count` random Gaussians in a unit ball, moving and fading within two seconds; values can be replaced."""

    def make(count: int, seed: int = 0, **replaced) -> MovingSplats:
        random = np.random.default_rng(seed)
        direction = random.normal(size=(count, 3))
        rotation = random.normal(size=(count, 4))
        values = {
            "position": direction * random.uniform(0.3, 0.9, (count, 1)) / np.linalg.norm(direction, axis=1)[:, None],
            "velocity": random.normal(0, 0.1, (count, 3)),
            "time_mean": random.uniform(0, 2, count),
            "time_sigma": random.uniform(0.2, 1.5, count),
            "scale": 0.03 * np.exp(random.normal(0, 0.4, (count, 3))),
            "rotation": rotation / np.linalg.norm(rotation, axis=1)[:, None],
            "opacity": random.uniform(0.1, 1, count),
            "color": random.uniform(0, 1, (count, 3)),
        } | replaced
        arrays = {name: np.asarray(value, np.float32) for name, value in values.items()}
        return MovingSplats(**arrays, time_range=(0.0, 2.0))

    return make


@pytest.fixture
def registered(scene):
    """The scene, with the add-on registered."""
    import blender_addon

    blender_addon.register()
    yield scene
    blender_addon.unregister()


@pytest.fixture
def filmed(registered, tmp_path):
    """A scene with two cameras and their pictures at two times, half a second apart."""
    import bpy

    from tests.helpers.stage import small_capture

    bpy.ops.facet4d.import_capture(directory=str(small_capture(tmp_path / "capture")))
    return registered


@pytest.fixture
def backend_gives(monkeypatch):
    """Replaces the backend's reconstruction by a function of (capture, progress), and collects the calls' arguments."""
    import backend.windows

    def replace(function):
        calls = []

        def reconstruct(take, options, centre, progress, on_cloud):
            capture = take.read(range(len(take)))
            calls.append((capture, vars(options) | {"centre": centre}))
            return function(capture, progress)

        monkeypatch.setattr(backend.windows, "reconstruct_take", reconstruct)
        return calls

    return replace


@pytest.fixture
def running(filmed, backend_gives):
    """A job that is half done and waits until it is released or cancelled."""
    from blender_addon import jobs
    from tests.helpers.stage import FakeCloud

    release = threading.Event()

    def wait(capture, progress):
        progress("Predicting", 0.5)
        while not release.wait(0.01):
            progress("Predicting", 0.5)
        return FakeCloud()

    backend_gives(wait)
    jobs.current = job = jobs.Job(jobs.reconstruction_task(Capture([]), ReconstructOptions(device="cpu")))
    job.release = release
    yield job
    job.cancel()
    job.join(5)
    jobs.current = None
