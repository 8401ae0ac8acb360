# SPDX-License-Identifier: GPL-3.0-or-later
"""A photo or a video becomes a head in the scene, with the camera that took it; or the panel says why not."""

import hashlib
import threading
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image
from skimage import data

from backend.camera import Similarity
from backend.facelift import weights as facelift_weights
from backend.facelift.pipeline import six_cameras
from backend.picture_files import HEIC
from backend.portrait import matting_models
from backend.portrait.matte import lay_over_white
from backend.portrait.matting_models import MATTING_MODELS
from backend.portrait.photo import CHIN, CROWN, METRES_PER_UNIT, canonical_crop, find_face
from backend.splats import MovingSplats
from tests.helpers.faces import astronaut, write_video
from tests.helpers.hub import CONTENT, Hub
from tests.helpers.layout import draw
from tests.helpers.stage import add_camera, add_picture, read_capture, save_picture, wait_until
from tests.helpers.tiny_mvdiffusion import write_weights

bpy = pytest.importorskip("bpy")
from bpy_extras.object_utils import world_to_camera_view
from mathutils import Vector

from blender_addon import disk, jobs
from blender_addon.cloud.object import METADATA_KEY, build_cloud, cloud_objects, read_cloud
from blender_addon.cloud.runs import last_run
from blender_addon.input.survey import survey
from blender_addon.panels.input import FACET4D_PT_input
from blender_addon.panels.portrait import FACET4D_PT_portrait
from blender_addon.panels.run import FACET4D_PT_reconstruct

pytestmark = [pytest.mark.blender, pytest.mark.slow]
CURSOR = (1.0, 2.0, 3.0)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def settings(registered, weights, monkeypatch):
    """The panel's settings, for a run of seconds on a CPU, in a scene whose cursor is somewhere."""
    monkeypatch.setattr(facelift_weights, "find_in_cache", lambda name: None)
    registered.cursor.location = CURSOR
    settings = registered.facet4d.portrait
    settings.model = "facelift"
    settings.weights, settings.device, settings.steps, settings.matting = str(weights), "cpu", 1, "none"
    return settings


@pytest.fixture
def photo(settings, tmp_path) -> Path:
    """The astronaut, cut out, chosen in the panel."""
    path = tmp_path / "astronaut.png"
    Image.fromarray(astronaut()).save(path)
    bpy.ops.facet4d.open_portrait(filepath=str(path))
    return path


def shown() -> str:
    return draw(FACET4D_PT_portrait)


def fails() -> str:
    """Presses the button, and returns what the panel then says."""
    with pytest.raises(RuntimeError):
        bpy.ops.facet4d.portrait()
    assert jobs.current is None
    return bpy.context.window_manager.facet4d.error


# From photos


def test_a_portraits_camera_is_no_input_of_a_reconstruction_but_measures_its_head(settings, photo, tmp_path):
    bpy.ops.facet4d.portrait()
    surveyed = survey(bpy.context)
    assert not surveyed.views
    assert [finding.text for finding in surveyed.problems] == [
        "Only a portrait's camera has a picture; give the cameras background images or load a capture folder."
    ]
    assert "shows no depth" not in draw(FACET4D_PT_input)
    assert surveyed.of(settings.camera)[1][0].state == "portrait's"
    assert bpy.ops.facet4d.measure_fidelity() == {"FINISHED"}
    assert last_run(settings.cloud)["fidelity"] > 5

    save_picture(tmp_path / "own.png")
    own = add_camera("Own")
    add_picture(own, tmp_path / "own.png")
    assert [view.camera for view in survey(bpy.context).views] == [own]
    collection = bpy.data.collections.new("Chosen")
    bpy.context.scene.collection.children.link(collection)
    collection.objects.link(settings.camera)
    bpy.context.scene.facet4d.collection = collection
    assert [view.camera for view in survey(bpy.context).views] == [settings.camera]


def test_a_photo_becomes_a_head_of_human_size_at_the_cursor(settings, photo):
    assert bpy.ops.facet4d.portrait() == {"FINISHED"}
    scene = bpy.context.scene
    (made,) = cloud_objects(scene)
    assert made == settings.cloud == bpy.context.object
    assert made.name == "astronaut"
    reach = read_cloud(made).position - np.array(CURSOR)
    assert np.abs(reach).max() <= 1.001 * METRES_PER_UNIT  # GS-LRM's box
    assert np.ptp(reach, axis=0).min() > 0.5 * METRES_PER_UNIT
    assert pytest.approx(0.24) == METRES_PER_UNIT * (CROWN - CHIN)
    assert bpy.context.window_manager.facet4d.error == ""


def test_the_camera_sees_the_head_where_the_photo_shows_it(settings, photo):
    """A point of the head: where the photo's crop, which the front view is painted from, has it. By Blender's own
    projection."""
    bpy.ops.facet4d.portrait()
    scene, point = bpy.context.scene, np.array([0.2, -0.5, 0.1])
    place = Similarity(METRES_PER_UNIT, np.eye(3), np.array(CURSOR)).apply_points(point)
    x, y, _ = world_to_camera_view(scene, scene.camera, Vector(place))
    picture = np.asarray(Image.open(photo))
    corner, pixel = canonical_crop(find_face(lay_over_white(picture)))
    seen = (np.array([x, 1 - y]) * 512 - corner) / pixel
    assert seen == pytest.approx(six_cameras()[0].project(point), abs=0.01)
    assert (scene.render.resolution_x, scene.render.resolution_y) == (512, 512)
    (slot,) = scene.camera.data.background_images
    assert Path(bpy.path.abspath(slot.image.filepath)) == photo
    assert scene.camera.data.show_background_images


def test_a_wide_photos_camera_gives_the_photo_back(settings, tmp_path):
    """Read as any camera with a picture is: the whole picture, and a lens that keeps the head's place in it."""
    wide = np.full((512, 900, 3), 255, np.uint8)
    wide[:, 300:812] = lay_over_white(astronaut())
    Image.fromarray(wide).save(tmp_path / "wide.png")
    settings.filepath = str(tmp_path / "wide.png")
    bpy.ops.facet4d.portrait()
    (frame,) = read_capture(portrait=settings.camera).frames
    assert np.array_equal(frame.image[..., :3], wide)
    corner, pixel = canonical_crop(find_face(wide))
    nose = np.array([0.0, -0.6, 0.0])
    found = frame.camera.project(Similarity(METRES_PER_UNIT, np.eye(3), np.array(CURSOR)).apply_points(nose))
    assert found == pytest.approx(six_cameras()[0].project(nose) * pixel + corner, abs=0.05)


def test_a_telephones_photo_is_shown_upright(settings, tmp_path):
    """Stored on its side, with a note how to turn it, which Blender does not read."""
    upright = np.vstack([np.full((100, 512, 3), 255, np.uint8), lay_over_white(astronaut())])
    stored = Image.fromarray(upright).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[274] = 6
    stored.save(tmp_path / "phone.png", exif=exif)
    settings.filepath = str(tmp_path / "phone.png")
    bpy.ops.facet4d.portrait()
    (frame,) = read_capture(portrait=settings.camera).frames
    assert np.array_equal(frame.image[..., :3], upright)


def test_a_heic_photo_which_blender_cannot_show_is_shown_all_the_same(settings, tmp_path):
    pillow_heif.from_pillow(Image.fromarray(lay_over_white(astronaut()))).save(tmp_path / "phone.heic", quality=95)
    settings.filepath = str(tmp_path / "phone.heic")
    bpy.ops.facet4d.portrait()
    (frame,) = read_capture(portrait=settings.camera).frames
    assert np.abs(frame.image[..., :3].astype(int) - lay_over_white(astronaut())).mean() < 3


def test_one_undo_takes_head_and_camera_away_and_one_redo_brings_them_back(settings, photo):
    bpy.ops.ed.undo_push(message="Before")
    bpy.ops.facet4d.portrait()
    bpy.ops.ed.undo()
    assert not bpy.context.scene.objects
    assert bpy.context.scene.facet4d.portrait.cloud is None
    bpy.ops.ed.redo()
    assert {ob.type for ob in bpy.context.scene.objects} == {"MESH", "CAMERA"}
    assert bpy.context.scene.camera is not None


def test_another_run_renews_head_and_camera_where_they_are(settings, photo):
    """Also if the head was moved, and the cursor is elsewhere by now."""
    bpy.ops.facet4d.portrait()
    scene, first, camera = bpy.context.scene, settings.cloud, settings.camera
    before, stood = read_cloud(first), camera.matrix_world.copy()
    first.location.x += 5
    scene.cursor.location = (0, 0, 0)
    settings.seed = 5
    bpy.ops.facet4d.portrait()
    assert cloud_objects(scene) == [first]
    assert [ob for ob in scene.objects if ob.type == "CAMERA"] == [camera] == [scene.camera]
    again = read_cloud(first)
    assert len(again) != len(before)
    assert again.position.mean(0) == pytest.approx(before.position.mean(0), abs=0.2 * METRES_PER_UNIT)
    assert tuple(camera.matrix_world.translation - stood.translation) == pytest.approx((5, 0, 0), abs=1e-5)


def test_another_photo_makes_another_head(settings, photo, tmp_path):
    bpy.ops.facet4d.portrait()
    other = photo.rename(tmp_path / "other.png")
    bpy.ops.facet4d.open_portrait(filepath=str(other))
    bpy.ops.facet4d.portrait()
    assert sorted(ob.name for ob in cloud_objects(bpy.context.scene)) == ["astronaut", "other"]


def test_a_head_remembers_its_settings_and_sets_the_next_one_up_alike(settings, photo):
    settings.seed, settings.guidance, settings.use_box, settings.box = 9, 2.0, True, (181, 62, 268, 172)
    bpy.ops.facet4d.portrait()
    made, camera = settings.cloud, settings.camera
    settings.seed, settings.guidance, settings.use_box, settings.box = 4, 3.0, False, (0, 0, 1, 1)
    settings.filepath = "elsewhere.png"
    assert settings.cloud is None
    assert bpy.ops.facet4d.reuse_settings() == {"FINISHED"}
    assert (settings.seed, settings.guidance, settings.use_box) == (9, 2.0, True)
    assert tuple(settings.box) == (181, 62, 268, 172)
    assert (settings.filepath, settings.cloud, settings.camera) == (str(photo), made, camera)


def test_a_dropped_file_is_chosen(settings, tmp_path):
    """Called as Blender does after a drop, for which it asks whether the file is for cameras or a portrait."""
    portrait, pictures = bpy.types.FACET4D_FH_portrait, bpy.types.FACET4D_FH_pictures
    assert portrait.poll_drop.__func__ is pictures.poll_drop.__func__
    beyond = {*portrait.bl_file_extensions.split(";")} - {*pictures.bl_file_extensions.split(";")}
    assert ".heic" in beyond and beyond <= {*HEIC}
    assert portrait.bl_label != pictures.bl_label
    assert portrait.bl_import_operator == "facet4d.open_portrait"
    dropped = str(tmp_path / "clip.mp4")
    assert bpy.ops.facet4d.open_portrait("INVOKE_DEFAULT", filepath=dropped) == {"FINISHED"}
    assert settings.filepath == dropped


def test_what_takes_seconds_is_done_by_the_jobs_thread(settings, photo, monkeypatch):
    """Turning many Gaussians into the scene's world would freeze the window."""
    threads, transform = [], MovingSplats.transform

    def watched(*given):
        threads.append(threading.current_thread())
        return transform(*given)

    monkeypatch.setattr(MovingSplats, "transform", watched)
    bpy.ops.facet4d.portrait()
    assert len(threads) == 1 and threads[0] is not threading.main_thread()


# From videos


@pytest.mark.parametrize("frames", ["LIFT", "FUSE"])
def test_a_video_becomes_a_head_that_plays(settings, coarse, tmp_path, frames):
    """The astronaut wanders to the right by 10 pixels a frame, and the camera's frame follows her."""
    picture = np.asarray(Image.fromarray(data.astronaut()).resize((320, 320)))[:240]
    pictures = []
    for index in range(3):
        pictures.append(np.full((240, 400, 3), 255, np.uint8))
        pictures[-1][:, 10 * index : 10 * index + 320] = picture
    path = write_video(tmp_path / "clip.mp4", pictures)
    settings.filepath, settings.frames = str(path), frames
    scene = bpy.context.scene
    scene.frame_start = 11
    assert bpy.ops.facet4d.portrait() == {"FINISHED"}
    made = settings.cloud
    assert read_cloud(made).time_range == pytest.approx((0, 0.08))
    assert made[METADATA_KEY]["keys"].to_list() == pytest.approx([11, 0, 13, 0.08])
    assert (scene.render.fps / scene.render.fps_base, scene.frame_end) == (pytest.approx(25), 13)
    camera = scene.camera.data
    (slot,) = camera.background_images
    assert (slot.clip.frame_start, slot.clip.frame_duration) == (11, 3)
    nose = Similarity(METRES_PER_UNIT, np.eye(3), np.array(CURSOR)).apply_points(np.array([0.0, -0.6, 0.0]))
    seen = []
    for frame in (11, 12, 13):
        scene.frame_set(frame)
        seen.append(world_to_camera_view(scene, scene.camera, Vector(nose)).x * 400)
    assert np.diff(seen) == pytest.approx(10, abs=1.5)


# What goes wrong


def save_cat(path: Path) -> None:
    Image.fromarray(data.chelsea()).save(path)


def save_cut_face(path: Path) -> None:
    Image.fromarray(data.astronaut()[:, 205:]).save(path)


def save_small(path: Path) -> None:
    Image.fromarray(data.astronaut()).resize((60, 60)).save(path)


@pytest.mark.parametrize(
    ("name", "save", "words"),
    [
        ("cat.png", save_cat, "No face was found; choose a photo that shows one from the front, or place its box"),
        ("cut.png", save_cut_face, "border of the photo cuts the face"),
        ("small.png", save_small, "choose a photo of at least 64 pixels"),
        ("broken.png", lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\nno"), "broken.png"),
        ("broken.mp4", lambda path: path.write_text("no video"), "cannot be decoded"),
        ("short.mp4", lambda path: write_video(path, [data.astronaut()] * 2), "no frames in the range"),
    ],
)
def test_unusable_files_are_told_in_the_panel(settings, tmp_path, name, save, words):
    save(tmp_path / name)
    settings.filepath, settings.first = str(tmp_path / name), 6
    assert words in fails()
    assert words in shown()
    assert words not in draw(FACET4D_PT_reconstruct)
    assert not bpy.context.scene.objects


def test_damaged_weights_are_told_in_the_panel(settings, photo, tmp_path):
    settings.weights = str(write_weights(tmp_path / "damaged"))
    (tmp_path / "damaged" / facelift_weights.DIFFUSION / "unet" / "config.json").write_text(
        '{"cd_attention_mid": true}'
    )
    assert "'cd_attention_mid' to True, but only False is supported" in fails()
    (tmp_path / "damaged" / facelift_weights.GSLRM).write_bytes(b"half")
    assert "is damaged" in fails()


def test_a_full_gpu_is_told_in_the_panel_with_what_helps(settings, photo, monkeypatch):
    import torch

    from backend.facelift.mvdiffusion import MultiViewDiffusion

    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(MultiViewDiffusion, "denoise", fail)
    assert "memory is too small for painting views; switch offloading on" in fails()
    assert settings.bl_rna.properties["offload"].name == "Offloading"


def test_matting_without_its_model_says_where_to_put_it(settings, tmp_path, monkeypatch):
    monkeypatch.setenv("U2NET_HOME", str(tmp_path))
    Image.fromarray(data.astronaut()).save(tmp_path / "photo.png")
    settings.filepath, settings.matting = str(tmp_path / "photo.png"), "u2net"
    assert f"'u2net' is not at {tmp_path / 'u2net.onnx'}; put it there" in fails()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"filepath": ""}, "Choose a photo or a video first"),
        ({"filepath": "/nowhere/photo.png"}, "There is no file /nowhere/photo.png"),
        ({"weights": "/nowhere"}, "FaceLift's weights are not here"),
    ],
)
def test_the_button_says_what_is_missing(settings, photo, change, words):
    for name, value in change.items():
        setattr(settings, name, value)
    with pytest.raises(RuntimeError, match=words):
        bpy.ops.facet4d.portrait()


def test_cancelling_leaves_the_scene_alone(settings, photo, monkeypatch):
    from backend.facelift import pipeline

    def paint(*arguments):
        wait_until(lambda: jobs.current)
        jobs.current.cancel()
        arguments[-1]("Painting views", 0.6)

    monkeypatch.setattr(pipeline, "paint_views", paint)
    assert bpy.ops.facet4d.portrait() == {"CANCELLED"}
    assert not bpy.context.scene.objects
    assert bpy.context.window_manager.facet4d.error == ""


def test_the_panel_tells_how_far_its_run_is(settings, photo):
    """Its own run, and no other panel tells of it."""
    release = threading.Event()
    jobs.current = job = jobs.Job(lambda progress: progress("Painting views", 0.4) or release.wait(5))
    try:
        wait_until(lambda: job.update() or job.stage == "Painting views")
        assert "Painting views: 40%" in draw(FACET4D_PT_reconstruct)
        bpy.context.window_manager.facet4d.panel = "FACET4D_PT_portrait"
        assert "Painting views: 40%" in shown() and "Cancel" in shown()
        assert "Painting views" not in draw(FACET4D_PT_reconstruct)
    finally:
        release.set()
        job.join(5)
        jobs.current = None


# Weights


@pytest.fixture
def server(monkeypatch, settings, tmp_path):
    """The Hub on this machine, an empty folder for its weights, and leave to go online."""
    server = Hub()
    digests = {
        name: hashlib.sha256(CONTENT[name]).hexdigest() for name, digest in facelift_weights.FILES.items() if digest
    }
    monkeypatch.setattr(facelift_weights, "FILES", facelift_weights.FILES | digests)
    monkeypatch.setattr(facelift_weights, "SIZE", sum(map(len, CONTENT.values())))
    monkeypatch.setattr(facelift_weights, "ENDPOINT", server.address)
    settings.weights = str(tmp_path / "weights")
    bpy.context.preferences.system.use_online_access = True
    yield server
    bpy.context.preferences.system.use_online_access = False
    server.close()


def test_the_licence_is_shown_before_anything_else_is_fetched(server):
    server.content["LICENSE"] = b"Some Licence 1.2\n\n" + 40 * b"No commerce. "
    assert bpy.ops.facet4d.show_licence() == {"FINISHED"}
    lines = [line.name for line in bpy.context.window_manager.facet4d.licence]
    assert lines[:2] == ["Some Licence 1.2", ""]
    assert " ".join(lines[2:]).split() == 40 * ["No", "commerce."]
    assert max(map(len, lines)) <= 130
    assert [name for name, _ in server.asked] == ["LICENSE"]


def test_weights_come_only_with_the_licence_accepted(server, settings):
    with pytest.raises(RuntimeError, match="accept it to download"):
        bpy.ops.facet4d.download_weights()
    with pytest.raises(RuntimeError, match="accept their licence"):
        bpy.ops.facet4d.accept_licence()
    assert server.asked == []
    assert "0.0 of 0.1 GB here" in shown()
    assert bpy.ops.facet4d.download_weights(licence_accepted=True) == {"FINISHED"}
    assert "FaceLift's weights: research only" in shown()


def test_a_broken_download_is_told_and_goes_on(server, settings):
    server.broken_after = 20_000_000
    with pytest.raises(RuntimeError):
        bpy.ops.facet4d.download_weights(licence_accepted=True)
    assert "broke off" in shown() and "it will go on" in shown()
    server.broken_after = None
    server.content[facelift_weights.GSLRM] = CONTENT[facelift_weights.GSLRM][:-1] + b"x"
    with pytest.raises(RuntimeError, match="arrived damaged; download it again"):
        bpy.ops.facet4d.download_weights(licence_accepted=True)


def test_nothing_goes_online_without_leave(server):
    bpy.context.preferences.system.use_online_access = False
    facet4d = bpy.ops.facet4d
    for operator in (facet4d.show_licence, facet4d.download_weights, facet4d.download_matting):
        with pytest.raises(RuntimeError, match="Blender may not go online"):
            operator()
    assert "Blender may not go online" in shown()
    assert server.asked == []


def test_the_matting_model_comes_by_its_button_alone(server, settings, photo, tmp_path, monkeypatch):
    content = b"a network"
    model = MATTING_MODELS["u2net"]._replace(size=len(content), sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(MATTING_MODELS, "u2net", model)
    monkeypatch.setattr(matting_models, "RELEASE", tmp_path.as_uri())
    monkeypatch.setenv("U2NET_HOME", str(tmp_path / "models"))
    (tmp_path / model.remote_name).write_bytes(content)
    assert "Download It" not in shown()  # nothing is to be cut out
    settings.matting = "u2net"
    assert "Download It" in shown()
    assert not (tmp_path / "models").exists()
    assert bpy.ops.facet4d.download_matting() == {"FINISHED"}
    assert (tmp_path / "models" / "u2net.onnx").read_bytes() == content
    assert "Download It" not in shown()
    assert server.asked == []


@pytest.mark.parametrize(
    "name, matting, missing",
    [
        ("photo.png", "selfie", ()),
        ("photo.png", "u2net", ("onnxruntime",)),
        ("video.mp4", "selfie", ("av",)),
        ("photo.HEIC", "none", ("av",)),
    ],
)
def test_what_a_file_needs_is_asked_for_before_the_run(registered, tmp_path, monkeypatch, name, matting, missing):
    (tmp_path / name).write_bytes(b"")
    settings = registered.facet4d.portrait
    settings.filepath, settings.matting = str(tmp_path / name), matting
    others = ("av", "onnxruntime", "diffusers", "transformers")
    monkeypatch.setattr(disk, "find_spec", lambda package: None if package in others else package)
    disk.forget()
    text = draw(FACET4D_PT_portrait)
    assert "imagines the sides that it does not show" in text
    assert [package for package in others if package in text] == list(missing)
    if missing:
        with pytest.raises(RuntimeError, match=rf"needs more Python packages \({missing[0]}\); press Install PyTorch"):
            bpy.ops.facet4d.portrait()


def test_another_file_makes_another_head_unless_one_was_chosen_by_hand(registered, make_gaussians):
    settings = registered.facet4d.portrait
    head = build_cloud(registered, make_gaussians(9), "Anna", 1, 2)
    settings.cloud, settings.is_cloud_chosen = head, False  # as a run leaves it
    settings.filepath = "//berta.png"
    assert settings.cloud is None
    settings.cloud = head
    settings.filepath = "//anna.png"
    assert settings.cloud == head
