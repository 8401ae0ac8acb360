# SPDX-License-Identifier: GPL-3.0-or-later
"""Cameras and pictures are read as the artist sees them, and a loaded capture is read back exactly."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from backend.camera import Camera
from backend.errors import UserError
from backend.take import choose_moments
from tests.helpers.stage import add_camera, add_picture, read_capture, save_picture

bpy = pytest.importorskip("bpy")
from bpy_extras.object_utils import world_to_camera_view
from mathutils import Euler, Matrix, Vector

from blender_addon.input import cameras, capture
from blender_addon.input.survey import chosen_frames, survey, survey_again

pytestmark = pytest.mark.blender


def frame_camera(camera: bpy.types.Object, render) -> Camera:
    return cameras.frame_camera(camera.evaluated_get(bpy.context.evaluated_depsgraph_get()), render)


def texts() -> list[str]:
    return [finding.text for finding in survey(bpy.context).findings]


def problem() -> str:
    return survey_again(bpy.context).problems[0].text


# Cameras


@pytest.mark.parametrize("fit", ["AUTO", "HORIZONTAL", "VERTICAL"])
@pytest.mark.parametrize("size", [(160, 90), (90, 160), (100, 100)])
@pytest.mark.parametrize("aspect", [(1.0, 1.0), (2.0, 1.0), (1.0, 1.5)])
def test_a_camera_projects_as_blender_does(scene, fit, size, aspect):
    render = scene.render
    render.resolution_x, render.resolution_y, render.resolution_percentage = 2 * size[0], 2 * size[1], 50
    render.pixel_aspect_x, render.pixel_aspect_y = aspect
    blender_camera = add_camera()
    blender_camera.matrix_world = Matrix.Translation((1, -2, 0.5)) @ Euler((1.3, 0.2, 0.4)).to_matrix().to_4x4()
    blender_camera.scale = (2.5, 2.5, 2.5)
    data = blender_camera.data
    data.lens, data.sensor_width, data.sensor_height = 42.0, 30.0, 21.0
    data.shift_x, data.shift_y, data.sensor_fit = 0.1, -0.07, fit

    camera = frame_camera(blender_camera, render)

    points = np.random.default_rng(0).uniform(-1, 1, (20, 3)) + camera.position + 4 * camera.forward
    views = [world_to_camera_view(scene, blender_camera, Vector(point)) for point in points]
    expected = [(view.x * size[0], (1 - view.y) * size[1]) for view in views]
    assert (camera.width, camera.height) == size
    np.testing.assert_allclose(camera.project(points), expected, atol=1e-3)


def test_an_animated_parented_camera_is_read_where_it_is_at_each_frame(scene, tmp_path):
    save_picture(tmp_path / "a.png")
    save_picture(tmp_path / "b.png")
    camera, parent = add_camera(), bpy.data.objects.new("Parent", None)
    scene.collection.objects.link(parent)
    camera.parent = parent
    scene.frame_end = 11
    for frame, x, lens in ((1, 0.0, 50.0), (11, 5.0, 70.0)):
        parent.location.x, camera.data.lens = x, lens
        parent.keyframe_insert("location", frame=frame)
        camera.data.keyframe_insert("lens", frame=frame)
    for name, frame in (("a.png", 1), ("b.png", 11)):
        picture = add_picture(camera, tmp_path / name).facet4d
        picture.use_frame, picture.frame = True, frame
    scene.frame_set(7)

    first, last = read_capture().frames

    assert scene.frame_current == 7
    assert [first.time, last.time] == pytest.approx([0, 10 / 24])
    np.testing.assert_allclose(last.camera.position - first.camera.position, [5, 0, 0], atol=1e-6)
    assert last.camera.fx / first.camera.fx == pytest.approx(70 / 50)


@pytest.mark.parametrize("method, scale", [("FIT", 0.5), ("CROP", 1.0)])
def test_a_picture_of_another_shape_lies_on_the_frame_as_blender_draws_it(scene, tmp_path, method, scale):
    """A 64 x 24 picture on a 32 x 24 frame: fitted it is halved, cropped it keeps its pixels; the middles agree."""
    save_picture(tmp_path / "wide.png", 64, 24)
    blender_camera = add_camera()
    blender_camera.data.shift_x = 0.25
    add_picture(blender_camera, tmp_path / "wide.png")
    blender_camera.data.background_images[0].frame_method = method
    on_frame = frame_camera(blender_camera, scene.render)

    camera = read_capture().frames[0].camera

    points = np.random.default_rng(0).uniform(-0.5, 0.5, (10, 3))
    expected = (on_frame.project(points) - [16, 12]) / scale + [32, 12]
    np.testing.assert_allclose(camera.project(points), expected, atol=1e-4)


def test_a_larger_picture_of_the_frames_shape_gives_the_camera_at_its_size(scene, tmp_path):
    save_picture(tmp_path / "large.png", 64, 48)
    blender_camera = add_camera()
    add_picture(blender_camera, tmp_path / "large.png")
    on_frame = frame_camera(blender_camera, scene.render)
    camera = read_capture().frames[0].camera
    np.testing.assert_allclose(camera.intrinsics, on_frame.resize(64, 48).intrinsics, rtol=1e-6)


def test_a_frame_that_would_have_no_pixel_has_one(scene, tmp_path):
    """As with a small percentage of a small resolution; Blender renders no such frame, but pictures need none."""
    save_picture(tmp_path / "large.png", 64, 48)
    add_picture(add_camera(), tmp_path / "large.png")
    scene.render.resolution_percentage = 1
    camera = read_capture().frames[0].camera
    assert (camera.width, camera.height) == (64, 48) and np.isfinite(camera.intrinsics).all()


PLACEMENTS = {
    "fitted": {"frame_method": "FIT"},
    "covering": {"frame_method": "CROP"},
    "stretched": {"frame_method": "STRETCH"},
    "scaled": {"scale": 0.6},
    "moved": {"offset": (0.11, -0.07)},
    "turned": {"rotation": 0.4},
    "mirrored": {"use_flip_x": True},
    "upside down": {"use_flip_y": True},
    "all at once": {"frame_method": "STRETCH", "scale": 1.3, "offset": (-0.2, 0.1), "rotation": -2, "use_flip_y": True},
}


@pytest.mark.parametrize("fit", ["AUTO", "HORIZONTAL", "VERTICAL"])
@pytest.mark.parametrize("size", [(160, 90), (90, 160)])
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_placed_picture_is_read_as_it_lies_on_the_frame(scene, tmp_path, placement, size, fit):
    """Points of the picture, put by hand where Blender's overlay draws them, project to their pixels."""
    scene.render.resolution_x, scene.render.resolution_y, scene.render.pixel_aspect_y = *size, 1.25
    pixels = save_picture(tmp_path / "picture.png", 48, 30)
    camera = add_camera()
    camera.rotation_euler = 1.3, 0.2, 0.4
    camera.data.shift_x, camera.data.shift_y, camera.data.sensor_fit = 0.1, -0.05, fit
    add_picture(camera, tmp_path / "picture.png").display_aspect = 1.5, 1.0
    slot = camera.data.background_images[0]
    for name, value in PLACEMENTS[placement].items():
        setattr(slot, name, value)
    bpy.context.view_layer.update()

    frame = read_capture().frames[0]

    flips = (-1 if slot.use_flip_y else 1, -1 if slot.use_flip_x else 1)
    np.testing.assert_array_equal(frame.image, pixels[:: flips[0], :: flips[1]])
    for x, y in ((0, 0), (48, 0), (24, 15), (10, 27)):
        point = camera.matrix_world @ overlay_point(scene, camera, slot, 48 * 1.5 / 30, x / 48, y / 30)
        expected = [48 - x if slot.use_flip_x else x, 30 - y if slot.use_flip_y else y]
        np.testing.assert_allclose(frame.camera.project(np.array(point)), expected, atol=1e-3)


def overlay_point(scene, camera, slot, aspect: float, x: float, y: float) -> Vector:
    """Where Blender draws a picture's point, in parts of its width and height from the top left, in camera space.

    The steps are those of the viewport's overlay engine (image_camera_background_matrix_get); the frame is Blender's.
    """
    top_right, bottom_right, bottom_left, _ = camera.data.view_frame(scene=scene)
    width, height = top_right.x - bottom_left.x, top_right.y - bottom_right.y
    frame_aspect = width / height
    if slot.frame_method == "STRETCH":
        across, up = width, height
    elif (slot.frame_method == "CROP") == (aspect > frame_aspect):
        across, up = height * aspect, height
    else:
        across, up = width, width / aspect
    across *= slot.scale * (-1 if slot.use_flip_x else 1)
    up *= slot.scale * (-1 if slot.use_flip_y else 1)
    middle = (top_right + bottom_left) / 2
    middle.x += slot.offset[0] * min(1, frame_aspect)
    middle.y += slot.offset[1] / (max(1, frame_aspect) * aspect / frame_aspect)
    return middle + Matrix.Rotation(-slot.rotation, 3, "Z") @ Vector(((x - 0.5) * across, (0.5 - y) * up, 0))


def test_a_step_takes_frames_from_the_first_on(scene):
    scene.frame_start, scene.frame_end = 5, 26
    scene.facet4d.frames_by, scene.facet4d.frame_step = "STEP", 10
    assert chosen_frames(scene) == [5, 15, 25]


# Pictures


def test_bytes_are_read_exactly_top_row_first_with_straight_alpha(tmp_path):
    pixels = save_picture(tmp_path / "a.png")
    add_picture(add_camera(), tmp_path / "a.png")
    frame = read_capture().frames[0]
    assert frame.image.dtype == np.uint8
    np.testing.assert_array_equal(frame.image, pixels)


def test_sixteen_bits_are_read_as_the_same_encoded_colors(tmp_path):
    """Blender keeps them linear with associated alpha; 8-bit truth from the file itself."""
    gray = np.arange(32 * 24, dtype=np.uint16).reshape(24, 32) * 80
    Image.fromarray(gray).save(tmp_path / "deep.png")
    add_picture(add_camera(), tmp_path / "deep.png")
    image = read_capture().frames[0].image
    assert np.abs(image[..., 0] - gray / 257).max() <= 0.51
    assert image[..., 3].min() == 255


def test_linear_floats_are_encoded_and_their_alpha_made_straight(scene, tmp_path):
    """Premultiplied linear 0.1 at alpha 0.5 is linear 0.2, encoded 124 (IEC 61966-2-1)."""
    image = bpy.data.images.new("linear", 32, 24, alpha=True, float_buffer=True)
    image.colorspace_settings.name = "Linear Rec.709"
    image.pixels.foreach_set(np.tile(np.array([0.1, 0.1, 0.1, 0.5], np.float32), 32 * 24))
    settings = scene.render.image_settings
    settings.file_format, settings.color_mode, settings.color_depth = "OPEN_EXR", "RGBA", "32"
    image.save_render(str(tmp_path / "linear.exr"), scene=scene)
    picture = add_picture(add_camera(), tmp_path / "linear.exr")
    assert picture.is_float
    np.testing.assert_array_equal(read_capture().frames[0].image[5, 7], [124, 124, 124, 128])


def test_a_sequence_gives_the_picture_of_each_chosen_frame(scene, tmp_path):
    """Scene frame 11 shows file 1 + offset 4 = 5; the sequence ends after three frames."""
    pixels = {number: save_picture(tmp_path / f"shot_{number:03d}.png", seed=number) for number in range(3, 9)}
    camera = add_camera()
    image = add_picture(camera, tmp_path / "shot_003.png")
    image.source = "SEQUENCE"
    user = camera.data.background_images[0].image_user
    user.frame_start, user.frame_offset, user.frame_duration = 11, 4, 3
    scene.frame_start, scene.frame_end, scene.facet4d.times = 10, 20, 11
    frames = read_capture().frames
    assert [frame.time * 24 for frame in frames] == pytest.approx([1, 2, 3])
    for frame, number in zip(frames, (5, 6, 7), strict=True):
        np.testing.assert_array_equal(frame.image, pixels[number])


def test_missing_files_of_a_sequence_leave_gaps_and_shift_nothing(scene, tmp_path):
    pixels = {number: save_picture(tmp_path / f"shot_{number}.png", seed=number) for number in (1, 2, 5)}
    camera = add_camera()
    image = add_picture(camera, tmp_path / "shot_1.png")
    image.source = "SEQUENCE"
    user = camera.data.background_images[0].image_user
    user.frame_start, user.frame_duration = 1, 5
    scene.frame_end, scene.facet4d.times = 5, 5
    frames = read_capture().frames
    assert [frame.time * 24 for frame in frames] == pytest.approx([0, 1, 4])
    for frame, number in zip(frames, pixels, strict=True):
        np.testing.assert_array_equal(frame.image, pixels[number])
    assert "'Camera' lacks 2 of 5 pictures, such as 'shot_3.png'" in texts()
    for number in pixels:
        (tmp_path / f"shot_{number}.png").unlink()
    assert problem() == "The picture 'shot_1.png' of 'Camera' is missing; find its file."


def test_a_movie_clip_of_numbered_files_counts_from_the_file_it_names(scene, tmp_path):
    pixels = {number: save_picture(tmp_path / f"shot_{number:03d}.png", seed=number) for number in range(3, 9)}
    clip = bpy.data.movieclips.load(str(tmp_path / "shot_004.png"))
    clip.frame_start = 2
    slot = add_camera().data.background_images.new()
    slot.source, slot.clip, slot.frame_method = "MOVIE_CLIP", clip, "FIT"
    scene.frame_end, scene.facet4d.times = 3, 3
    frames = read_capture().frames
    assert [frame.time * 24 for frame in frames] == pytest.approx([1, 2])
    for frame, number in zip(frames, (4, 5), strict=True):
        np.testing.assert_array_equal(frame.image, pixels[number])


@pytest.mark.parametrize("source", ["IMAGE", "MOVIE_CLIP"])
def test_a_movie_gives_the_picture_of_each_frame(scene, tmp_path, source):
    path = write_movie(tmp_path, levels := (20, 80, 140, 200))
    slot = add_camera().data.background_images.new()
    slot.frame_method = "FIT"
    if source == "IMAGE":
        slot.image = bpy.data.images.load(str(path))
        slot.image_user.frame_start, slot.image_user.frame_duration = 1, 4
    else:
        slot.source, slot.clip = "MOVIE_CLIP", bpy.data.movieclips.load(str(path))
    scene.frame_end, scene.facet4d.times = 4, 4
    scenes = len(bpy.data.scenes)
    frames = read_capture().frames
    assert [int(frame.image[12, 16, 1]) for frame in frames] == pytest.approx(levels, abs=2)
    assert len(bpy.data.scenes) == scenes


def test_a_movie_that_ends_early_gives_what_it_has(scene, tmp_path):
    slot = add_camera().data.background_images.new()
    slot.image = bpy.data.images.load(str(write_movie(tmp_path, (20, 80))))
    slot.image_user.frame_start, slot.image_user.frame_duration = 1, 100
    scene.frame_end, scene.facet4d.times = 3, 3
    frames = read_capture().frames
    assert [round(frame.time * 24) for frame in frames] == [0, 1]


def write_movie(folder: Path, levels) -> Path:
    """Grey frames, encoded by Blender from a sequence of pictures."""
    scene = bpy.data.scenes.new("writer")
    for number, level in enumerate(levels, 1):
        Image.new("RGB", (64, 48), (level,) * 3).save(folder / f"level_{number}.png")
        strips = scene.sequence_editor_create().strips
        strips.new_image(str(number), str(folder / f"level_{number}.png"), 1, number).frame_final_duration = 1
    scene.render.resolution_x, scene.render.resolution_y = 64, 48
    scene.frame_end = len(levels)
    scene.view_settings.view_transform = "Standard"
    settings = scene.render.image_settings
    if hasattr(settings, "media_type"):
        settings.media_type = "VIDEO"
    settings.file_format = "FFMPEG"
    scene.render.ffmpeg.format, scene.render.ffmpeg.codec = "MPEG4", "H264"
    scene.render.ffmpeg.constant_rate_factor = "LOSSLESS"
    scene.render.filepath = str(folder / "movie.mp4")
    bpy.ops.render.render(animation=True, scene=scene.name)
    bpy.data.scenes.remove(scene)
    return folder / "movie.mp4"


# Rendered scenes


def test_the_scene_is_rendered_from_its_cameras_and_left_as_it_was(scene):
    """A red emitting cube on the left of the picture: encoded 188 is linear 0.5, and the rest is clear."""
    bpy.ops.mesh.primitive_cube_add(size=1, location=(-1, 0, 0.5))
    material = bpy.data.materials.new("Red")
    if not material.node_tree:  # before Blender 5.0
        material.use_nodes = True
    material.node_tree.nodes.clear()
    emission = material.node_tree.nodes.new("ShaderNodeEmission")
    emission.inputs["Color"].default_value = (0.5, 0, 0, 1)
    output = material.node_tree.nodes.new("ShaderNodeOutputMaterial")
    material.node_tree.links.new(emission.outputs["Emission"], output.inputs["Surface"])
    bpy.context.object.data.materials.append(material)
    add_camera()
    scene.render.engine, scene.cycles.samples, scene.cycles.use_denoising = "CYCLES", 4, False
    scene.facet4d.source, scene.facet4d.times, scene.frame_end = "RENDER", 2, 5
    scene.view_settings.view_transform, scene.render.filepath = "AgX", "//keep"
    scene.render.image_settings.color_management, scene.render.use_stamp = "OVERRIDE", True
    scene.render.image_settings.view_settings.view_transform = "AgX"
    scene.view_settings.use_white_balance, scene.view_settings.white_balance_temperature = True, 3000
    scene.display_settings.display_device = "Display P3"
    before = scene_state(scene)

    frames = read_capture().frames

    assert scene_state(scene) == before
    assert [frame.time * 24 for frame in frames] == pytest.approx([0, 4])
    assert frames[0].image.shape == (24, 32, 4)
    row, column = frames[0].camera.project(np.array([-1, -0.5, 0.5]))[::-1].astype(int)
    np.testing.assert_array_equal(frames[0].image[row, column], [188, 0, 0, 255])
    assert frames[0].image[:, 20:, 3].max() == 0


def test_a_scene_of_which_no_view_layer_is_rendered_says_so(scene):
    """Blender renders empty pictures then, without a word."""
    add_camera()
    scene.facet4d.source = "RENDER"
    scene.view_layers[0].use = False
    with pytest.raises(UserError, match="No view layer of 'Scene' is rendered; turn on Use for Rendering in one"):
        read_capture()


def test_of_a_long_take_only_what_its_windows_read_is_read(scene, monkeypatch):
    """Else the pictures of a take of many cameras would not fit into memory."""
    for index, azimuth in enumerate(np.linspace(0, 3, 4)):
        camera = add_camera(f"Camera{index}", (4 * np.sin(azimuth), -4 * np.cos(azimuth), 0))
        camera.rotation_euler.z = azimuth
    scene.facet4d.source, scene.facet4d.frames_by, scene.facet4d.frame_step = "RENDER", "STEP", 1
    scene.frame_start, scene.frame_end = 1, 97
    bpy.context.view_layer.update()
    monkeypatch.setattr(capture, "render_still", lambda *_: np.zeros((24, 32, 4), np.uint8))
    frames = read_capture().frames
    assert len(survey(bpy.context).views) == 4 * 97
    assert len(frames) == (8 + 2) * 12
    for camera in range(4):
        times = [frame.time for frame in frames if frame.name.startswith(f"Camera{camera}")]
        assert 20 <= len(times) <= 40
        assert np.diff(times).max() < 0.5


@pytest.mark.parametrize("align", ["auto", "off"])
def test_of_a_long_take_of_six_cameras_those_moments_are_read_that_align_them(scene, monkeypatch, align):
    for index, azimuth in enumerate(np.linspace(0, 3, 6)):
        camera = add_camera(f"Camera{index}", (4 * np.sin(azimuth), -4 * np.cos(azimuth), 0))
        camera.rotation_euler.z = azimuth
    scene.facet4d.source, scene.facet4d.frames_by, scene.facet4d.frame_step = "RENDER", "STEP", 1
    scene.frame_start, scene.frame_end = 1, 49
    scene.facet4d.align = align
    bpy.context.view_layer.update()
    monkeypatch.setattr(capture, "render_still", lambda *_: np.zeros((24, 32, 4), np.uint8))
    frames = read_capture().frames
    poses = np.stack([frame.camera.camera_to_world for frame in frames])
    chosen = choose_moments(poses, np.array([frame.time for frame in frames]))
    whole = {frames[number].time for number in chosen}
    assert len(chosen) == 6 * len(whole) and bool(whole) == (align == "auto")


def test_a_render_cropped_to_its_region_keeps_its_camera(scene):
    """A small emitting cube, off the middle, is found in the cropped picture where the camera projects it."""
    bpy.ops.mesh.primitive_cube_add(size=0.1, location=(0.3, 0, 0.25))
    add_camera()
    scene.render.engine, scene.cycles.samples, scene.cycles.use_denoising = "CYCLES", 16, False
    scene.render.resolution_x, scene.render.resolution_y = 101, 77
    scene.render.use_border = scene.render.use_crop_to_border = True
    scene.render.border_min_x, scene.render.border_max_x = 0.43, 0.915
    scene.render.border_min_y, scene.render.border_max_y = 0.37, 0.93
    scene.facet4d.source = "RENDER"

    (frame,) = read_capture().frames

    assert frame.image.shape[:2] == (frame.camera.height, frame.camera.width) < (77, 101)
    weight = frame.image[..., 3] / frame.image[..., 3].sum()
    rows, columns = np.indices(weight.shape) + 0.5
    centre = frame.camera.project(np.array([0.3, 0, 0.25]))
    np.testing.assert_allclose([(columns * weight).sum(), (rows * weight).sum()], centre, atol=0.15)


def scene_state(scene) -> list:
    render, view = scene.render, scene.view_settings
    return [
        (render.film_transparent, render.filepath, render.image_settings.file_format, scene.camera),
        (view.view_transform, view.look, view.exposure, scene.frame_current),
        (scene.display_settings.display_device, view.use_white_balance, render.use_stamp),
        [image.name for image in bpy.data.images if image.type == "IMAGE"],
    ]
