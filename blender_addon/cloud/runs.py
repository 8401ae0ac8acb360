# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cloud remembers of the run that made it."""

from collections.abc import Callable
from typing import Any

from bpy.types import Object, Scene

from .._backend import wording
from .metadata import read_metadata, remember

SETTINGS = ("facet4d", "facet4d.portrait")  # the paths from the scene to the settings of runs


def remember_run(cloud: Object, facts: dict) -> None:
    """Store on the cloud how it was made and what was measured since, in place of what was stored before.

    facts: "settings" is the path from the scene to the settings of the run.
    """
    remember(cloud, run=facts)


def run_settings(cloud: Object, scene: Scene) -> Any:
    """Return the scene's PropertyGroup with the settings for runs like the cloud's; None if no run made the cloud."""
    run = last_run(cloud)
    # clouds of older versions do not name their settings
    path = run.get("settings") or ("facet4d.portrait" if "filepath" in run else "facet4d" if "model" in run else "")
    return scene.path_resolve(path) if path in SETTINGS else None


def portrait_camera(cloud: Object, scene: Scene) -> Object | None:
    """Return the camera of a portrait that made the cloud; None if none did, or the scene no longer has it."""
    camera = last_run(cloud).get("camera")
    is_here = isinstance(camera, Object) and camera.type == "CAMERA" and scene in camera.users_scene
    return camera if is_here else None


def run_text(cloud: Object) -> str:
    """Return the outcome of a run in one line, for example "164,000 Gaussians, 29.2 dB, 24 pictures, 76 s"."""
    formats: dict[str, Callable[[float], str]] = {
        "fidelity": "{:.1f} dB".format,
        "pictures": lambda count: wording.counted(count, "picture"),
        "seconds": wording.duration,
    }
    run = last_run(cloud)
    facts = [text(run[name]) for name, text in formats.items() if isinstance(run.get(name), int | float)]
    return ", ".join([wording.counted(len(cloud.data.vertices), "Gaussian"), *facts])


def last_run(cloud: Object) -> dict:
    """Return what remember_run stored on the cloud; empty if nothing was stored."""
    run = read_metadata(cloud).get("run")
    return run if isinstance(run, dict) else {}
