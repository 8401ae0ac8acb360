# SPDX-License-Identifier: GPL-3.0-or-later
"""Every camera's state is told with its reason and can be put right by its button; rigs see the whole subject."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from backend.errors import UserError
from tests.helpers.layout import bpy_operator, draw, greyed
from tests.helpers.stage import add_camera, add_picture, read_capture, save_picture

bpy = pytest.importorskip("bpy")
import blf

from blender_addon.input import rig
from blender_addon.input import survey as survey_module
from blender_addon.input.cameras import frame_camera
from blender_addon.input.survey import GAPS, MISSING, OF_PORTRAIT, survey
from blender_addon.panels.input import FACET4D_PT_input
from blender_addon.panels.run import FACET4D_PT_reconstruct
from blender_addon.panels.status import FACET4D_PT_status

pytestmark = pytest.mark.blender


@pytest.fixture
def ring(tmp_path) -> list[bpy.types.Object]:
    """Five cameras with their pictures around the origin."""
    cameras = []
    for index in range(5):
        angle = 2 * math.pi * index / 5
        camera = add_camera(f"View {index}", (4 * math.sin(angle), -4 * math.cos(angle), 0))
        camera.rotation_euler.z = angle
        save_picture(tmp_path / f"{index}.png")
        add_picture(camera, tmp_path / f"{index}.png")
        cameras.append(camera)
    bpy.context.view_layer.update()
    return cameras


def state(camera: bpy.types.Object) -> str:
    _, findings = survey(bpy.context).of(camera)
    return findings[0].state if findings else ""


def press_fix(camera: bpy.types.Object, **arguments) -> None:
    """Calls the operator that the finding about the camera names."""
    finding = survey(bpy.context).of(camera)[1][0]
    assert bpy_operator(finding.fix)(camera=camera.name, **arguments) == {"FINISHED"}
    bpy.context.view_layer.update()


def test_a_good_rig_has_no_findings(ring):
    assert not survey(bpy.context).findings


def test_a_camera_without_a_picture_is_given_one(ring, tmp_path):
    ring[1].data.background_images.clear()
    assert state(ring[1]) == "no picture"
    press_fix(ring[1], filepath=str(tmp_path / "1.png"))
    assert not survey(bpy.context).findings
    assert survey(bpy.context).summary() == "5 cameras, 5 pictures, 1 time"


def test_an_empty_background_image_is_filled(ring, tmp_path):
    ring[1].data.background_images[0].image = None
    assert state(ring[1]) == "no picture"
    press_fix(ring[1], filepath=str(tmp_path / "1.png"))
    assert not survey(bpy.context).findings
    assert len(ring[1].data.background_images) == 1


def test_a_camera_with_a_picture_of_another_size_is_left_out(ring, tmp_path):
    save_picture(tmp_path / "large.png", 64, 48)
    ring[2].data.background_images[0].image = image = bpy.data.images.load(str(tmp_path / "large.png"))
    image.pixels[0]  # loaded, as it is once Blender has drawn it
    for camera in ring[:2]:
        camera.data.background_images[0].image.pixels[0]
    assert state(ring[2]) == "size differs"
    assert "is 64 x 48 but others are 32 x 24" in survey(bpy.context).problems[0].text
    press_fix(ring[2])
    assert not survey(bpy.context).findings
    assert survey(bpy.context).summary() == "4 cameras, 4 pictures, 1 time"


def test_a_camera_that_looks_elsewhere_is_named_and_can_be_left_out(ring):
    ring[3].rotation_euler.z += math.pi
    bpy.context.view_layer.update()
    assert state(ring[3]) == "looks away"
    assert not survey(bpy.context).problems  # a warning: the artist may know better
    press_fix(ring[3])
    assert not survey(bpy.context).findings


def test_axes_that_do_not_meet_are_told_unless_a_target_tells_the_centre(ring, scene):
    for number, camera in enumerate(ring):  # each looks past the next one
        camera.rotation_euler.z += math.radians(10)
        camera.rotation_euler.x += math.radians((-1) ** number * 9)
    bpy.context.view_layer.update()
    notes = [finding.text for finding in survey(bpy.context).findings if finding.camera is None]
    assert len(notes) == 1 and notes[0].startswith("The cameras do not look at one point, which half of them miss by")
    assert not survey(bpy.context).problems
    scene.facet4d.target = bpy.data.objects.new("Centre", None)
    scene.collection.objects.link(scene.facet4d.target)
    bpy.context.view_layer.update()
    assert not [finding for finding in survey(bpy.context).findings if finding.camera is None]


def test_a_chosen_centre_decides_what_the_subject_is(ring, scene):
    scene.facet4d.target = centre = bpy.data.objects.new("Centre", None)
    centre.location = (0, 0, 50)
    scene.collection.objects.link(centre)
    bpy.context.view_layer.update()
    assert {state(camera) for camera in ring} == {"looks away"}


def test_an_orthographic_camera_is_made_a_perspective_one(ring):
    ring[0].data.type = "ORTHO"
    assert state(ring[0]) == "wrong type"
    press_fix(ring[0])
    assert not survey(bpy.context).findings


@pytest.mark.parametrize("scale", [(0, 0, 0), (-1, 1, 1)])
def test_a_camera_that_is_mirrored_or_scaled_to_nothing_is_named(ring, scale):
    ring[2].scale = scale
    bpy.context.view_layer.update()
    (finding,) = survey(bpy.context).problems
    assert (finding.camera, finding.state) == (ring[2], "bad scale")


def test_a_clip_that_is_shown_undistorted_comes_with_a_note(ring, tmp_path):
    slot = ring[0].data.background_images[0]
    slot.source, slot.clip = "MOVIE_CLIP", bpy.data.movieclips.load(str(tmp_path / "0.png"))
    assert state(ring[0]) == ""
    slot.clip_user.use_render_undistorted = True
    assert state(ring[0]) == "distorted"
    assert not survey(bpy.context).problems


def test_a_missing_file_is_found_by_blenders_own_search(ring, tmp_path):
    (tmp_path / "0.png").unlink()
    finding = survey(bpy.context).of(ring[0])[1][0]
    assert (finding.state, finding.fix) == ("file missing", "file.find_missing_files")
    bpy_operator(finding.fix).get_rna_type()  # exists


def test_a_camera_that_is_left_out_is_taken_in_again_however_it_was_hidden(ring, scene):
    camera, collection = ring[0], bpy.data.collections.new("Kept")
    scene.collection.children.link(collection)
    scene.collection.objects.unlink(camera)
    collection.objects.link(camera)
    layer = bpy.context.view_layer.layer_collection.children["Kept"]
    camera.hide_viewport = True
    bpy.ops.facet4d.leave_out(camera=camera.name)
    assert camera.visible_get()
    bpy.ops.facet4d.leave_out(camera=camera.name)
    assert not camera.visible_get()
    for hidden in ("exclude", "hide_viewport"):
        setattr(layer, hidden, True)
        with pytest.raises(RuntimeError, match=r"collection of '.*' is hidden; show it in the Outliner"):
            bpy.ops.facet4d.leave_out(camera=camera.name)
        setattr(layer, hidden, False)


def test_a_fix_for_a_camera_that_is_gone_says_so(ring):
    with pytest.raises(RuntimeError, match="no camera 'Nobody'; choose one of the list"):
        bpy.ops.facet4d.make_perspective(camera="Nobody")


def test_the_panel_lists_each_camera_with_its_state_and_the_chosen_ones_reason(ring, scene):
    ring[0].data.type = "ORTHO"
    ring[1].hide_set(True)
    scene.facet4d.camera_index = list(scene.collection.all_objects).index(ring[0])
    assert bpy.context.object == ring[0]
    shown = draw(FACET4D_PT_input)
    for text in ("wrong type", "left out", "Make Perspective"):
        assert text in shown
    assert "set its type to Perspective" not in shown  # above, where it shows if this panel is folded
    assert "set its type to Perspective" in draw(FACET4D_PT_status)
    ring[3].rotation_euler.z += math.pi
    ring[0].data.type = "PERSP"
    bpy.context.view_layer.objects.active = ring[3]
    bpy.context.view_layer.update()
    assert "turn it, or leave it out" in draw(FACET4D_PT_input)


def test_a_cameras_state_fits_beside_its_name():
    """In a sidebar of the usual width, with the list's scroll bar."""
    source = Path(survey_module.__file__).read_text(encoding="utf-8")
    states = set(re.findall(r'Finding\(text, camera, "([^"]+)"', source)) | {GAPS, MISSING, OF_PORTRAIT}
    assert len(states) >= 12
    blf.size(0, 11.0)
    assert max(blf.dimensions(0, state)[0] for state in states) <= 62


def test_a_problem_greys_the_button_and_is_what_a_script_is_told(ring):
    ring[0].data.type = "ORTHO"
    assert "Reconstruct" in greyed(FACET4D_PT_reconstruct)
    with pytest.raises(RuntimeError, match="not a perspective camera; set its type"):
        bpy.ops.facet4d.reconstruct()
    ring[0].data.type = "PERSP"
    assert "Reconstruct" not in greyed(FACET4D_PT_reconstruct)


# Rigs


@pytest.fixture
def dancer(scene) -> bpy.types.Object:
    """A tall box that travels from x = 2 to x = 5 while the clip plays."""
    bpy.ops.mesh.primitive_cube_add(size=1)
    dancer = bpy.context.object
    dancer.scale = (0.5, 0.5, 2)
    scene.frame_end = 11
    for frame, x in ((1, 2.0), (11, 5.0)):
        dancer.location.x = x
        dancer.keyframe_insert("location", frame=frame)
    return dancer


@pytest.mark.parametrize("size", [(32, 24), (24, 32)])
@pytest.mark.parametrize("shape", ["RING", "ARC", "DOME"])
def test_every_camera_of_a_rig_sees_the_whole_subject_all_the_time(scene, dancer, shape, size):
    scene.render.resolution_x, scene.render.resolution_y = size
    assert bpy.ops.facet4d.add_rig(shape=shape, count=7) == {"FINISHED"}
    assert scene.facet4d.source == "RENDER"
    assert survey(bpy.context).summary() == "7 cameras, 56 pictures, 8 times"
    assert not survey(bpy.context).findings
    for frame in (1, 6, 11):
        scene.frame_set(frame)
        corners = np.array([dancer.matrix_world @ v.co for v in dancer.data.vertices])
        for camera in scene.facet4d.collection.objects:
            pixels = frame_camera(camera, scene.render).project(corners)
            assert (pixels > 0).all() and (pixels < size).all()


def test_rigs_stand_where_their_names_say():
    ring, arc, dome = (rig.rig_directions(shape, 24) for shape in ("RING", "ARC", "DOME"))
    for directions in (ring, arc, dome):
        np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1)
    np.testing.assert_allclose(ring.mean(axis=0), 0, atol=1e-12)
    assert (arc[:, 1] < 1e-12).all() and arc[:, 0].min() == -1 and arc[:, 0].max() == 1
    assert dome[:, 2].min() == 0 and dome[:, 2].max() > 0.9
    nearest = np.sort(dome @ dome.T, axis=1)[:, -2]
    assert (
        np.degrees(np.arccos(nearest)).min() > 20
    )  # no two stand close: 24 on the half ball are some 30 degrees apart


def test_only_the_chosen_collection_is_rendered(scene, dancer):
    subject = bpy.data.collections.new("Dancer")
    scene.collection.children.link(subject)
    scene.collection.objects.unlink(dancer)
    subject.objects.link(dancer)
    bpy.ops.mesh.primitive_plane_add(size=100, location=(0, 0, -1))
    floor = bpy.context.object
    scene.facet4d.subjects, scene.facet4d.times = subject, 1
    scene.render.engine, scene.cycles.samples = "CYCLES", 1
    bpy.ops.facet4d.add_rig(count=1)
    (frame,) = read_capture().frames
    assert 0.05 < (frame.image[..., 3] > 0).mean() < 0.4
    assert not floor.hide_render


def test_a_rig_camera_that_was_turned_away_is_aimed_again(scene, dancer):
    bpy.ops.facet4d.add_rig(shape="RING", count=6)
    camera = scene.facet4d.collection.objects[2]
    camera.rotation_euler.z += 2
    bpy.context.view_layer.update()
    press_fix(camera)
    assert not survey(bpy.context).findings


def test_a_rig_around_nothing_is_refused(scene):
    with pytest.raises(RuntimeError, match="There is nothing to render; choose a collection"):
        bpy.ops.facet4d.add_rig()
    assert not scene.objects


def texts() -> list[str]:
    return [finding.text for finding in survey(bpy.context).findings]


def problem() -> str:
    return survey(bpy.context).problems[0].text


# What is wrong is said in words


def test_a_scene_without_cameras_says_so():
    assert "no visible camera" in problem()
    with pytest.raises(UserError, match="no visible camera"):
        read_capture()


def test_cameras_without_any_picture_say_so():
    add_camera()
    assert "No camera has a picture" in problem()


def test_a_camera_without_a_picture_beside_others_is_left_out_by_name(tmp_path):
    save_picture(tmp_path / "a.png")
    add_picture(add_camera("Filmed"), tmp_path / "a.png")
    add_camera("Shot")
    found = survey(bpy.context)
    assert not found.problems
    assert "'Shot' has no picture and is left out" in texts()
    assert found.summary() == "1 camera, 1 picture, 1 time"


def test_a_missing_file_is_named(tmp_path):
    save_picture(tmp_path / "gone.png")
    add_picture(add_camera(), tmp_path / "gone.png")
    (tmp_path / "gone.png").unlink()
    assert problem() == "The picture 'gone.png' of 'Camera' is missing; find its file."


def test_an_unreadable_file_is_named(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    add_picture(add_camera(), tmp_path / "broken.png")
    with pytest.raises(UserError, match=r"broken\.png"):
        read_capture()


def test_a_jpeg_that_ends_early_is_named(tmp_path):
    path = tmp_path / "a.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: int(0.9 * path.stat().st_size)])
    add_picture(add_camera(), path)
    with pytest.raises(UserError, match=r"a\.jpg cannot be read as a picture .*truncated"):
        read_capture()


def test_a_scene_that_cannot_be_rendered_says_why(scene):
    add_camera()
    scene.facet4d.source = "RENDER"
    scene.render.resolution_percentage = 1
    with pytest.raises(UserError, match=r"cannot render 'Scene' \(Image too small\); check"):
        read_capture()
    assert scene.render.resolution_percentage == 1


def test_pictures_that_do_not_fit_in_memory_are_refused(tmp_path, monkeypatch):
    save_picture(tmp_path / "a.png")
    add_picture(add_camera(), tmp_path / "a.png")
    monkeypatch.setattr("backend.memory.free_memory", lambda: 2**10)
    with pytest.raises(UserError, match="use fewer or smaller pictures"):
        read_capture()


def test_a_single_picture_comes_with_a_note(tmp_path):
    save_picture(tmp_path / "a.png")
    add_picture(add_camera(), tmp_path / "a.png")
    found = survey(bpy.context)
    assert not found.problems
    assert "A single picture" in found.findings[0].text


def test_sizes_that_differ_are_named(tmp_path):
    save_picture(tmp_path / "a.png")
    save_picture(tmp_path / "b.png", 64, 48)
    for name in "ab":
        add_picture(add_camera(name), tmp_path / f"{name}.png")
    with pytest.raises(UserError, match="64 x 48"):
        read_capture()


def test_two_stills_at_one_frame_ask_for_their_frames(tmp_path):
    camera = add_camera()
    for name in ("a.png", "b.png"):
        save_picture(tmp_path / name)
        add_picture(camera, tmp_path / name)
    assert "several pictures at frame 1" in problem()


def test_a_hidden_picture_is_left_out(tmp_path):
    camera = add_camera()
    for name in ("a.png", "b.png"):
        save_picture(tmp_path / name)
        add_picture(camera, tmp_path / name)
    camera.data.background_images[0].show_background_image = False
    assert [view.picture.name for view in survey(bpy.context).views] == ["b.png"]


def test_an_orthographic_camera_is_refused(tmp_path):
    save_picture(tmp_path / "a.png")
    camera = add_camera()
    add_picture(camera, tmp_path / "a.png")
    camera.data.type = "ORTHO"
    assert "not a perspective camera" in problem()
