# SPDX-License-Identifier: GPL-3.0-or-later
"""What a reconstruction would be given: cameras, the pictures that they have and when, and what is wrong with them.

`survey` reads no pixels and evaluates no frame, so that a panel can ask for it whenever it is drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from bpy.types import CameraBackgroundImage, Context, Object, Scene

from .. import _backend as backend
from .._backend import errors
from .cameras import Placement, frame_camera, slot_placement
from .pictures import Picture, picture_at, slot_source


@dataclass(frozen=True)
class View:
    """A camera at a frame and its background picture there; without one the view is to be rendered."""

    camera: Object
    frame: float
    picture: Picture | None = None
    placement: Placement | None = None


@dataclass(frozen=True)
class Finding:
    """What the artist should know, of a camera or of the whole scene.

    state: two or three words for a table. forbids: there can be no reconstruction before it is put right. fix: the
    operator that puts it right, empty where none can.
    """

    text: str
    camera: Object | None = None
    state: str = ""
    forbids: bool = True
    fix: str = ""


@dataclass
class Survey:
    """The views of a reconstruction and what was found out about them."""

    views: list[View] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def problems(self) -> list[Finding]:
        """What forbids a reconstruction."""
        return [finding for finding in self.findings if finding.forbids]

    def of(self, camera: Object) -> tuple[list[View], list[Finding]]:
        """The views of a camera and the findings about it, what forbids first."""
        findings = [finding for finding in self.findings if finding.camera == camera]
        return [view for view in self.views if view.camera == camera], sorted(findings, key=lambda f: not f.forbids)

    def summary(self) -> str:
        """For example "8 cameras, 24 pictures, 3 times"."""
        counts = (
            (len({view.camera for view in self.views}), "camera"),
            (len(self.views), "picture"),
            (len({view.frame for view in self.views}), "time"),
        )
        return ", ".join(f"{count} {noun}{'s' if count != 1 else ''}" for count, noun in counts)


def survey(context: Context) -> Survey:
    """Looks at the visible cameras, of one collection if the scene's settings name one, and at their pictures."""
    scene, settings, found = context.scene, context.scene.facet4d, Survey()
    objects = settings.collection.all_objects if settings.collection else scene.objects
    cameras = [ob for ob in objects if ob.type == "CAMERA" and ob.visible_get(view_layer=context.view_layer)]
    if not cameras:
        place = f"The collection '{settings.collection.name}'" if settings.collection else "The scene"
        text = f"{place} has no visible camera; load a capture folder, add a rig, or add cameras with pictures."
        found.findings.append(Finding(text))
    for camera in cameras:
        if settings.source == "RENDER":
            found.views += [View(camera, frame) for frame in chosen_frames(scene)]
        else:
            _survey_pictures(camera, scene, found)
    if cameras and not found.views and not found.problems:
        text = "No camera has a picture; give the cameras background images or load a capture folder."
        found.findings.append(Finding(text))
    if len(found.views) == 1:
        text = "One picture alone tells no depth: the unseen sides will be missing"
        found.findings.append(Finding(text, forbids=False))
    used = list(dict.fromkeys(view.camera for view in found.views))
    for camera in used:
        if camera.data.type != "PERSP":
            text = f"'{camera.name}' is not a perspective camera; set its type to Perspective."
            found.findings.append(Finding(text, camera, "not perspective", fix="facet4d.make_perspective"))
        if camera.matrix_world.determinant() <= 0:
            text = f"'{camera.name}' is mirrored or scaled to nothing; clear its scale, or that of its parent."
            found.findings.append(Finding(text, camera, "bad scale"))
    _survey_sizes(found)
    if not found.problems:
        _survey_aim(used, scene, found)
    return found


def chosen_frames(scene: Scene) -> list[int]:
    """The frames at which sequences, movies and renders are taken: a number of them spread evenly over the range with
    its ends, or one every so many frames."""
    settings = scene.facet4d
    if settings.frames_by == "STEP":
        return list(range(scene.frame_start, scene.frame_end + 1, settings.frame_step))
    count = min(settings.times, scene.frame_end - scene.frame_start + 1)
    return np.linspace(scene.frame_start, scene.frame_end, count).round().astype(int).tolist()


def _survey_pictures(camera: Object, scene: Scene, found: Survey) -> None:
    slots = (slot for slot in camera.data.background_images if slot.show_background_image)
    views = [view for slot in slots for view in _slot_views(camera, slot, scene, found)]
    if not views and not found.of(camera)[1]:
        text = f"'{camera.name}' has no picture and is left out"
        found.findings.append(Finding(text, camera, "no picture", forbids=False, fix="facet4d.open_picture"))
    missing = [view for view in views if view.picture.missing]
    if missing and len(missing) < len(views) and all(view.picture.is_numbered for view in missing):
        text = f"'{camera.name}' lacks {len(missing)} of {len(views)} pictures, such as '{missing[0].picture.name}'"
        found.findings.append(Finding(text, camera, "gaps", forbids=False))
        views = [view for view in views if view not in missing]
    elif missing:
        text = f"The picture '{missing[0].picture.name}' of '{camera.name}' is missing; find its file."
        found.findings.append(Finding(text, camera, "file missing", fix="file.find_missing_files"))
    frames = [view.frame for view in views]
    if twice := {frame for frame in frames if frames.count(frame) > 1}:
        text = f"'{camera.name}' has several pictures at frame {min(twice):g}; set the frame at which each was taken."
        found.findings.append(Finding(text, camera, "two at one frame"))
    found.views += views


def _slot_views(camera: Object, slot: CameraBackgroundImage, scene: Scene, found: Survey) -> list[View]:
    source = slot_source(slot, scene)
    if source is None:
        text = f"A background image of '{camera.name}' is empty; choose its picture or remove it."
        found.findings.append(Finding(text, camera, "no picture", fix="facet4d.open_picture"))
        return []
    if slot.source == "MOVIE_CLIP" and slot.clip_user.use_render_undistorted:
        text = f"'{source.name}' of '{camera.name}' is read as it was filmed, with the distortion of its lens"
        found.findings.append(Finding(text, camera, "distorted", forbids=False))
    placement = slot_placement(camera, slot, source)
    if source.source in {"SEQUENCE", "MOVIE"}:
        pictures = ((frame, picture_at(source, slot.image_user, frame)) for frame in chosen_frames(scene))
        return [View(camera, frame, picture, placement) for frame, picture in pictures if picture]
    if source.source not in {"FILE", "GENERATED"}:
        text = f"'{source.name}' of '{camera.name}' is no image, sequence or movie; replace it."
        found.findings.append(Finding(text, camera, "unusable picture", fix="facet4d.leave_out"))
        return []
    frame = source.facet4d.frame if source.facet4d.use_frame else scene.frame_start
    if not scene.frame_start <= frame <= scene.frame_end:
        text = f"'{source.name}' was taken at frame {frame:g}, outside the scene's frames, and is left out"
        found.findings.append(Finding(text, camera, "outside the frames", forbids=False))
        return []
    return [View(camera, frame, Picture(source.name, source), placement)]


def _survey_sizes(found: Survey) -> None:
    """Names the cameras whose pictures, as far as Blender has loaded them, differ in size from most."""
    sizes = [(view, view.picture.loaded_size) for view in found.views if view.picture and view.picture.loaded_size]
    each = [size for _, size in sizes]
    usual = max(each, key=each.count, default=None)
    unlike = {view.camera: (view.picture.name, size) for view, size in sizes if size != usual}
    for camera, (name, size) in unlike.items():
        text = (
            f"'{name}' of '{camera.name}' is {size[0]} x {size[1]} but others are {usual[0]} x {usual[1]}; "
            "bring all pictures to one size, or leave the camera out."
        )
        found.findings.append(Finding(text, camera, "size differs", fix="facet4d.leave_out"))


def _survey_aim(cameras: Sequence[Object], scene: Scene, found: Survey) -> None:
    """Names the cameras that do not have the subject's centre in their picture, as they stand now."""
    target = scene.facet4d.target
    if not cameras or (target is None and len(cameras) < 3):
        return  # two lines of sight always agree about where they pass each other
    posed = [frame_camera(camera, scene.render) for camera in cameras]
    centre = None if target is None else np.array(target.matrix_world.translation)
    try:
        centre = backend.camera.normalise_rig(posed, centre).inverse().translation
    except errors.UserError as error:
        found.findings.append(Finding(str(error)))
        return
    for camera, pinhole in zip(cameras, posed, strict=True):
        depth = pinhole.forward @ (centre - pinhole.position)
        x, y = pinhole.project(centre) if depth > 0 else (-1, -1)
        if not (0 <= x <= pinhole.width and 0 <= y <= pinhole.height):
            text = f"'{camera.name}' does not look at the subject; turn it, or leave it out."
            fix = "facet4d.aim" if scene.facet4d.source == "RENDER" else "facet4d.leave_out"
            found.findings.append(Finding(text, camera, "not looking at the subject", forbids=False, fix=fix))
