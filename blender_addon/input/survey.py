# SPDX-License-Identifier: GPL-3.0-or-later
"""Surveys the input of a reconstruction: the cameras, their pictures and times, and what is wrong with them.

`survey` reads no pixels and evaluates no frame, and it looks at the disk and at the cameras only after a change. So a
panel can call it whenever it is drawn.
"""

import time
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from bpy.app.handlers import load_pre, persistent, redo_post, undo_post
from bpy.types import CameraBackgroundImage, Context, Image, Object, Scene

from .. import _backend as backend
from .. import disk
from .._backend import errors, wording
from .cameras import PORTRAIT, Placement, frame_camera, slot_placement
from .fingerprint import fingerprint_camera, fingerprint_scene
from .pictures import Picture, picture_at, slot_source

if TYPE_CHECKING:
    from backend.camera import Camera

GAPS, MISSING = "gaps", "file missing"  # states of cameras without some or all of their files
OF_PORTRAIT = "portrait's"  # state of a camera that a portrait has made


@dataclass(frozen=True)
class View:
    """A camera at a frame and its background picture there; a view without a picture is rendered."""

    camera: Object
    frame: float
    picture: Picture | None = None
    placement: Placement | None = None


@dataclass(frozen=True)
class Finding:
    """What the artist should know about a camera or the whole scene.

    state: a word or two for a narrow list. forbids: whether it must be corrected before a reconstruction. fix: the
    operator that corrects it, empty if there is none.
    """

    text: str
    camera: Object | None = None
    state: str = ""
    forbids: bool = True
    fix: str = ""


@dataclass
class Survey:
    """The views of a reconstruction, and the findings about them."""

    views: list[View] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def problems(self) -> list[Finding]:
        """Return the findings that forbid a reconstruction."""
        return [finding for finding in self.findings if finding.forbids]

    def of(self, camera: Object) -> tuple[list[View], list[Finding]]:
        """Return the views of a camera and the findings about it; first those that forbid a reconstruction."""
        return self._by_camera.get(camera.session_uid, ([], []))

    @cached_property
    def _by_camera(self) -> dict[int, tuple[list[View], list[Finding]]]:
        """Sort the views and findings by camera, once, because a list asks for every row."""
        known: dict[int, tuple[list[View], list[Finding]]] = {}
        for view in self.views:
            known.setdefault(view.camera.session_uid, ([], []))[0].append(view)
        for finding in sorted(self.findings, key=lambda finding: not finding.forbids):
            if finding.camera:
                known.setdefault(finding.camera.session_uid, ([], []))[1].append(finding)
        return known

    def summary(self) -> str:
        """Return the counts as text, for example "8 cameras, 24 pictures, 3 times"."""
        return self._summary

    @cached_property
    def _summary(self) -> str:
        counts = (
            (len({view.camera for view in self.views}), "camera"),
            (len(self.views), "picture"),
            (len({view.frame for view in self.views}), "time"),
        )
        return ", ".join(wording.counted(count, noun) for count, noun in counts)


class _Memory:
    """The last survey, and those of the pictures of single cameras, each with the fingerprints that it was made of.

    missing: whether a file is missing. Then the survey serves for disk.RECHECK seconds.
    """

    def __init__(self) -> None:
        self.key: Hashable = None
        self.survey, self.missing, self.when = Survey(), False, 0.0
        self.pictures: dict[int, tuple[Hashable, Survey]] = {}

    def serves(self, key: Hashable) -> bool:
        """Tell whether the last survey is still right."""
        return key == self.key and not (self.missing and time.monotonic() - self.when >= disk.RECHECK)


_memory = _Memory()


def survey(context: Context) -> Survey:
    """Survey the visible cameras, of one collection if the scene's settings name one, and their pictures.

    While nothing has changed, the same Survey is returned.
    """
    scene, settings, view_layer = context.scene, context.scene.facet4d, context.view_layer
    objects = settings.collection.all_objects if settings.collection else scene.objects
    cameras = [ob for ob in objects if ob.type == "CAMERA" and ob.visible_get(view_layer=view_layer)]
    shared = fingerprint_scene(scene, view_layer)
    known = [fingerprint_camera(camera) for camera in cameras]
    key = shared, known
    if not _memory.serves(key):
        if _memory.missing:
            _memory.pictures.clear()
        keys = [(shared, pictures) for _, pictures in known]
        _memory.survey = result = _survey(scene, cameras, keys)
        _memory.key, _memory.when = key, time.monotonic()
        _memory.missing = any(finding.state in {GAPS, MISSING} for finding in result.findings)
    return _memory.survey


def survey_again(context: Context) -> Survey:
    """Survey as `survey` does, but look at everything anew: a run is about to read the files."""
    forget()
    disk.forget()
    return survey(context)


def survey_portrait(camera: Object, scene: Scene) -> Survey:
    """Survey the picture or video of a portrait's camera alone, as it is now."""
    disk.forget()
    return _survey_pictures(camera, scene)


def forget() -> None:
    """Forget what was surveyed; its objects may be gone."""
    global _memory
    _memory = _Memory()


def _survey(scene: Scene, cameras: Sequence[Object], keys: Sequence[Hashable]) -> Survey:
    """Survey some cameras. keys: what the survey of each one's pictures depends on."""
    settings, result = scene.facet4d, Survey()
    if not cameras:
        place = f"The collection '{settings.collection.name}'" if settings.collection else "The scene"
        text = (
            f"{place} has no visible camera; load a capture folder, add a rig, add cameras with pictures, "
            "or show those that are hidden or excluded from this view layer."
        )
        result.findings.append(Finding(text))
    for camera, key in zip(cameras, keys, strict=True):
        if settings.source == "RENDER":
            result.views += [View(camera, frame) for frame in chosen_frames(scene)]
            continue
        if PORTRAIT in camera and not settings.collection:
            text = (
                f"'{camera.name}' is a portrait's and is left out; to read its picture here, "
                "choose a collection with it as 'Cameras'"
            )
            result.findings.append(Finding(text, camera, OF_PORTRAIT, forbids=False))
            continue
        known = _memory.pictures.get(camera.session_uid)
        if known is None or known[0] != key:
            _memory.pictures[camera.session_uid] = known = key, _survey_pictures(camera, scene)
        result.views += known[1].views
        result.findings += known[1].findings
    if cameras and not result.views and not result.problems:
        which = "Only a portrait's" if any(finding.state == OF_PORTRAIT for finding in result.findings) else "No"
        text = f"{which} camera has a picture; give the cameras background images or load a capture folder."
        result.findings.append(Finding(text))
    if len(result.views) == 1 and settings.target is None:
        text = "A single picture shows no depth; choose an object at the subject's middle as 'Centre'"
        result.findings.append(Finding(text, forbids=False))
    used = list(dict.fromkeys(view.camera for view in result.views))
    for camera in used:
        if camera.data.type != "PERSP":
            text = f"'{camera.name}' is not a perspective camera; set its type to Perspective."
            result.findings.append(Finding(text, camera, "wrong type", fix="facet4d.make_perspective"))
        if camera.matrix_world.determinant() <= 0:
            text = f"'{camera.name}' is mirrored or scaled to nothing; clear its scale, or that of its parent."
            result.findings.append(Finding(text, camera, "bad scale"))
    _survey_sizes(result)
    if not result.problems:
        _survey_aim(used, scene, result)
    return result


def chosen_frames(scene: Scene) -> list[int]:
    """Return the frames at which sequences, movies and renders are taken.

    They are a count spread evenly over the frame range with its ends, or one in every so many frames, as the settings
    say.
    """
    settings = scene.facet4d
    if settings.frames_by == "STEP":
        return list(range(scene.frame_start, scene.frame_end + 1, settings.frame_step))
    count = min(settings.times, scene.frame_end - scene.frame_start + 1)
    return np.linspace(scene.frame_start, scene.frame_end, count).round().astype(int).tolist()


def _survey_pictures(camera: Object, scene: Scene) -> Survey:
    """Survey the pictures of one camera alone."""
    result = Survey()
    slots = (slot for slot in camera.data.background_images if slot.show_background_image)
    views = [view for slot in slots for view in _slot_views(camera, slot, scene, result)]
    if not views and not result.findings:
        text = f"'{camera.name}' has no picture and is left out"
        result.findings.append(Finding(text, camera, "no picture", forbids=False, fix="facet4d.open_picture"))
    missing = {id(view.picture): view.picture for view in views if view.picture and view.picture.missing}
    first = next(iter(missing.values()), None)
    if first and len(missing) < len(views) and all(picture.is_numbered for picture in missing.values()):
        text = f"'{camera.name}' lacks {len(missing)} of {len(views)} pictures, such as '{first.name}'"
        result.findings.append(Finding(text, camera, GAPS, forbids=False))
        views = [view for view in views if id(view.picture) not in missing]
    elif first:
        text = f"The picture '{first.name}' of '{camera.name}' is missing; find its file."
        result.findings.append(Finding(text, camera, MISSING, fix="file.find_missing_files"))
    counted = Counter(view.frame for view in views)
    if repeated := [frame for frame, count in counted.items() if count > 1]:
        text = f"'{camera.name}' has several pictures at frame {min(repeated):g}; set the frame of each."
        result.findings.append(Finding(text, camera, "same frame"))
    result.views += views
    return result


def _slot_views(camera: Object, slot: CameraBackgroundImage, scene: Scene, result: Survey) -> list[View]:
    source = slot_source(slot, scene)
    if source is None:
        text = f"A background image of '{camera.name}' is empty; choose its picture or remove it."
        result.findings.append(Finding(text, camera, "no picture", fix="facet4d.open_picture"))
        return []
    if slot.source == "MOVIE_CLIP" and slot.clip_user.use_render_undistorted:
        text = f"'{source.name}' of '{camera.name}' is read as filmed, with the distortion of its lens"
        result.findings.append(Finding(text, camera, "distorted", forbids=False))
    placement = slot_placement(camera, slot, source)
    if source.source in {"SEQUENCE", "MOVIE"}:
        pictures = ((frame, picture_at(source, slot.image_user, frame)) for frame in chosen_frames(scene))
        return [View(camera, frame, picture, placement) for frame, picture in pictures if picture]
    if not isinstance(source, Image) or source.source not in {"FILE", "GENERATED"}:
        text = f"'{source.name}' of '{camera.name}' is not an image, sequence or movie; replace it."
        result.findings.append(Finding(text, camera, "unusable", fix="facet4d.leave_out"))
        return []
    frame = source.facet4d.frame if source.facet4d.use_frame else scene.frame_start
    if not scene.frame_start <= frame <= scene.frame_end:
        text = f"'{source.name}' was taken at frame {frame:g}, outside the scene's frames, and is left out"
        result.findings.append(Finding(text, camera, "outside", forbids=False))
        return []
    return [View(camera, frame, Picture(source.name, source), placement)]


def _survey_sizes(result: Survey) -> None:
    """Report the cameras whose pictures, as far as Blender has loaded them, differ in size from most."""
    pictured = [(view.camera, view.picture) for view in result.views if view.picture]
    sizes = [(camera, picture.name, size) for camera, picture in pictured if (size := picture.loaded_size)]
    counted = [size for _, _, size in sizes]
    usual = max(counted, key=counted.count, default=(0, 0))
    exceptions = {camera: (name, size) for camera, name, size in sizes if size != usual}
    for camera, (name, size) in exceptions.items():
        text = (
            f"'{name}' of '{camera.name}' is {size[0]} x {size[1]} but others are {usual[0]} x {usual[1]}; "
            "bring all pictures to one size, or leave the camera out."
        )
        result.findings.append(Finding(text, camera, "size differs", fix="facet4d.leave_out"))


def _survey_aim(cameras: Sequence[Object], scene: Scene, result: Survey) -> None:
    """Report the cameras that do not have the subject's centre in their picture at the current frame."""
    target = scene.facet4d.target
    if not cameras or (target is None and len(cameras) < 3):
        return  # two lines of sight always have a point halfway between them, whatever they look at
    pinholes = [frame_camera(camera, scene.render) for camera in cameras]
    centre = None if target is None else np.array(target.matrix_world.translation)
    try:
        centre = backend.camera.normalise_rig(pinholes, centre).inverse().translation
    except errors.UserError as error:
        result.findings.append(Finding(str(error)))
        return
    if target is None:
        result.findings += _survey_crossing(pinholes)
    for camera, pinhole in zip(cameras, pinholes, strict=True):
        depth = pinhole.forward @ (centre - pinhole.position)
        x, y = pinhole.project(centre) if depth > 0 else (-1, -1)
        if not (0 <= x <= pinhole.width and 0 <= y <= pinhole.height):
            text = f"'{camera.name}' does not look at the subject; turn it, or leave it out."
            fix = "facet4d.aim" if scene.facet4d.source == "RENDER" else "facet4d.leave_out"
            result.findings.append(Finding(text, camera, "looks away", forbids=False, fix=fix))


def _survey_crossing(pinholes: Sequence["Camera"]) -> list[Finding]:
    """Return a finding if the optical axes do not meet, which then tell the subject's centre badly."""
    aim = backend.aim.find_aim(np.stack([pinhole.camera_to_world for pinhole in pinholes]))
    if aim is None or np.median(backend.aim.parts_past(aim, pinholes)) <= backend.aim.PAST:
        return []
    text = (
        f"The cameras do not look at one point, which half of them miss by {aim.median_degrees:.0f} degrees or more; "
        "an object at the subject's middle, chosen as 'Centre', tells where it is, as mattes do"
    )
    return [Finding(text, forbids=False)]


@persistent
def _forget_old_objects(*_: object) -> None:
    forget()


HANDLERS = (undo_post, redo_post, load_pre)


def register() -> None:
    for handlers in HANDLERS:
        handlers.append(_forget_old_objects)


def unregister() -> None:
    for handlers in HANDLERS:
        handlers.remove(_forget_old_objects)
    forget()
