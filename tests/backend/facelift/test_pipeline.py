# SPDX-License-Identifier: GPL-3.0-or-later
"""From photos and videos to heads, through the command line, with tiny weights in the official layout."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from PIL import Image
from skimage import data

import backend
from backend.__main__ import main
from backend.calibrations.load import load_capture
from backend.capture import Capture
from backend.errors import Cancelled, UserError
from backend.evaluate import score_cloud
from backend.facelift import weights as facelift_weights
from backend.facelift.gslrm import GSLRM, GSLRMConfig, PostFilter, load_gslrm
from backend.facelift.mvdiffusion import VIEWS, MultiViewDiffusion, load_mvdiffusion
from backend.facelift.pipeline import FaceLift, fuse_capture, lift_capture, lift_views, paint_views, six_cameras
from backend.gaussians import load_cloud
from backend.options import PortraitOptions, ReconstructOptions
from backend.picture_files import is_picture
from backend.portrait import matting_models
from backend.portrait.matte import cut_from_white, lay_over_white
from backend.portrait.photo import find_photos
from backend.reconstruct import reconstruct
from tests.helpers.faces import astronaut, write_video
from tests.helpers.tiny_mvdiffusion import SIZE, randomise, write_weights

pytestmark = pytest.mark.slow

CPU = ReconstructOptions(device="cpu")
DEMO_CAPTURE = Path(backend.__file__).parent / "demo_capture"


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def photo(tmp_path) -> Path:
    Image.fromarray(astronaut()).save(tmp_path / "astronaut.png")
    return tmp_path / "astronaut.png"


def portrait(*arguments: object, weights: Path) -> int:
    return main(
        [
            "portrait",
            "--model",
            "facelift",
            "--weights",
            str(weights),
            "--steps",
            "2",
            "--device",
            "cpu",
            *map(str, arguments),
        ]
    )


def test_a_photograph_becomes_a_head_that_can_be_rendered(weights, photo, tmp_path, capsys):
    """The whole path with tiny, random parts: what it shows is noise, but it is there, in the middle, in all colors."""
    assert portrait(photo, "--out", tmp_path / "views", "--views-only", weights=weights) == 0
    assert portrait(photo, "--out", tmp_path / "head.safetensors", weights=weights) == 0
    rendering = ["render", tmp_path / "head.safetensors", "--cameras", tmp_path / "views", "--out", tmp_path / "seen"]
    assert main([*map(str, rendering), "--device", "cpu"]) == 0
    assert "6 views" in capsys.readouterr().out
    assert {path.stem for path in (tmp_path / "seen").iterdir()} == set(VIEWS)
    for path in (tmp_path / "seen").iterdir():
        picture = np.asarray(Image.open(path))
        assert picture.shape == (SIZE, SIZE, 4)
        assert picture[16:48, 16:48, 3].mean() > 100
        assert picture[..., :3].std() > 5


def test_the_views_lead_to_the_same_head(weights, photo, tmp_path):
    """As written by --views-only, and read by --views."""
    assert portrait(photo, "--out", tmp_path / "one.safetensors", weights=weights) == 0
    assert portrait(photo, "--out", tmp_path / "views", "--views-only", weights=weights) == 0
    assert portrait("--views", tmp_path / "views", "--out", tmp_path / "two.safetensors", weights=weights) == 0
    one, two = (load_cloud(tmp_path / f"{name}.safetensors") for name in ("one", "two"))
    assert len(one) == len(two) > 1000
    torch.testing.assert_close(one.mean, two.mean, atol=1e-4, rtol=1e-3)


def test_the_seed_decides_the_views(weights, photo, tmp_path):
    for name, seed in (("one", 1), ("same", 1), ("other", 2)):
        target = tmp_path / name
        assert portrait(photo, "--out", target, "--views-only", "--seed", seed, weights=weights) == 0
    one, same, other = (load_capture(tmp_path / name).frames[3].image for name in ("one", "same", "other"))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_a_folder_becomes_a_folder_and_one_bad_photo_stops_no_other(weights, photo, tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    photo.rename(tmp_path / "photos" / "b.png")
    Image.fromarray(data.chelsea()).save(tmp_path / "photos" / "a.jpg")
    (tmp_path / "photos" / "notes.txt").write_text("no picture")
    assert portrait(tmp_path / "photos", "--matting", "none", "--out", tmp_path / "heads", weights=weights) == 2
    told = capsys.readouterr().err
    assert "a.jpg: No face was found" in told
    assert "1 of 2 photos was left out" in told
    assert [path.name for path in (tmp_path / "heads").iterdir()] == ["b.safetensors"]


def test_a_box_by_hand_needs_no_face(weights, tmp_path):
    Image.fromarray(data.chelsea()).save(tmp_path / "cat.jpg")
    options = ["--matting", "none", "--box", "100,50,250,200", "--views-only"]
    assert portrait(tmp_path / "cat.jpg", *options, "--out", tmp_path / "views", weights=weights) == 0
    assert len(load_capture(tmp_path / "views").frames) == 6


def test_a_video_becomes_one_cloud_that_plays(weights, tmp_path):
    """Of two pictures of three, shown one after the other; what looks alike is shared."""
    picture = Image.fromarray(data.astronaut()).resize((320, 320))
    frames = [np.asarray(picture.point(lambda level, gain=gain: level * gain))[:240] for gain in (0.6, 0.8, 1.0)]
    movie = write_video(tmp_path / "clip.mp4", frames)
    options = ["--matting", "none", "--every", 2]
    assert portrait(movie, *options, "--out", tmp_path / "views", "--views-only", weights=weights) == 0
    capture = load_capture(tmp_path / "views")
    assert len(capture.frames) == 12
    assert capture.time_range == pytest.approx((0, 0.08))
    counts = []
    for tolerance in (0, 0.05):
        given = "--views", tmp_path / "views", "--tolerance", tolerance
        assert portrait(*given, "--out", tmp_path / "clip.safetensors", weights=weights) == 0
        cloud = load_cloud(tmp_path / "clip.safetensors")
        assert cloud.time_range == pytest.approx((0, 0.08))
        first, last = (cloud.at(torch.tensor([time])).opacity[0] > 0.04 for time in cloud.time_range)
        assert min(first.sum(), last.sum()) > 1000
        assert (first & last).any() == (tolerance > 0)
        counts.append(len(cloud))
    assert counts[1] < counts[0]


def test_a_videos_views_can_be_fused_to_moving_gaussians(weights, tmp_path, coarse):
    """By 4D-LRM: what reconstructing the views gives, once their white background is cut off."""
    picture = np.asarray(Image.fromarray(data.astronaut()).resize((320, 320)))[:240]
    movie = write_video(tmp_path / "clip.mp4", [picture, picture // 2])
    options = ["--matting", "none"]
    assert portrait(movie, *options, "--out", tmp_path / "views", "--views-only", weights=weights) == 0
    assert portrait(movie, *options, "--fuse", "--out", tmp_path / "fused.safetensors", weights=weights) == 0
    views = load_capture(tmp_path / "views")
    cut = Capture([replace(frame, image=cut_from_white(frame.image)) for frame in views.frames])
    fused, expected = load_cloud(tmp_path / "fused.safetensors"), reconstruct(cut, CPU)
    assert len(fused) == len(expected)
    torch.testing.assert_close(fused.mean, expected.mean, atol=1e-3, rtol=1e-3)
    assert fused.time_range == pytest.approx((0, 0.04))


def test_fusing_takes_no_white_background_for_fog(coarse):
    """Pictures over white, without a matte, as the diffusion paints them: as good as those with the true matte."""
    frames = [frame for frame in load_capture(DEMO_CAPTURE).frames if not frame.held_out][::6]
    white = np.full((*frames[0].image.shape[:2], 1), 255, np.uint8)
    opaque = Capture([replace(frame, image=np.dstack([lay_over_white(frame.image), white])) for frame in frames])
    fused, foggy, matted = (
        fuse_capture(opaque, CPU),
        reconstruct(opaque, replace(CPU, complete="off")),
        reconstruct(Capture(frames), replace(CPU, complete="off")),
    )
    scores = [score_cloud(cloud, Capture(frames[:1])).psnr for cloud in (fused, matted)]
    assert scores[0] > scores[1] - 0.5
    assert len(fused) < len(foggy)


def test_a_clip_of_equal_views_is_lifted_to_one_cloud(weights):
    diffusion = load_mvdiffusion(weights / facelift_weights.DIFFUSION)
    fronts = np.stack([data.astronaut()] * 2)
    capture = paint_views(np.array([0.0, 0.5]), fronts, diffusion, steps=1)
    assert [frame.name for frame in capture.frames[5:7]] == ["front_left_0000", "front_0001"]
    model = randomise(GSLRM(GSLRMConfig(layers=2, width=64, heads=1)), 0)
    clip = lift_capture(capture, model)
    still = lift_capture(capture.select(range(6)), model)
    assert len(clip) == len(still)
    assert clip.time_range == (0.0, 0.5)


def test_painting_and_lifting_can_be_stopped(weights):
    def stop(stage: str, done: float) -> None:
        if done > 0.6:
            raise Cancelled

    diffusion = load_mvdiffusion(weights / facelift_weights.DIFFUSION)
    fronts = np.stack([data.astronaut()] * 2)
    with pytest.raises(Cancelled):
        paint_views(np.array([0.0, 0.5]), fronts, diffusion, steps=1, progress=stop)
    capture = paint_views(np.zeros(1), fronts[:1], diffusion, steps=1)
    with pytest.raises(Cancelled):
        lift_capture(capture, GSLRM(GSLRMConfig(layers=3, width=64, heads=1)), progress=stop)


def test_a_run_tells_how_far_it_is_and_can_be_stopped(weights, photo):
    """From the photo to the cloud as one whole, which the command line and the panel both show."""
    stages, fractions = [], []

    def listen(stage: str, done: float) -> None:
        stages.append(stage)
        fractions.append(done)

    options = PortraitOptions(device="cpu", steps=2)
    facelift = FaceLift(lambda parts: facelift_weights.find_weights(weights, parts), options)
    head = facelift.run(photo, listen)
    assert len(head.cloud) > 1000 and len(head.cameras) == len(head.times) == 1
    assert fractions == sorted(fractions) and fractions[-1] == 1.0
    assert {"Loading the UNet", "Painting views", "Lifting the views"} <= set(stages)

    def stop(stage: str, done: float) -> None:
        if stage == "Lifting the views":
            raise Cancelled

    with pytest.raises(Cancelled):
        facelift.run(photo, stop)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "Give a photo, a folder of photos or a video"),
        (("{photo}", "--views", "{folder}"), "Give a photo, a folder of photos or a video"),
        (("--views", "{folder}", "--views-only"), "Give a photo, a folder of photos or a video"),
        (("--views", "{folder}"), "no capture at"),
        (("{photo}", "--every", "0"), "--every is a number from 1"),
        (("{photo}", "--seed", "-1"), "--seed is a number from 0"),
        (("{photo}", "--steps", "1000"), "--steps is a number from 0 to 999"),
        (("{photo}", "--guidance", "nan"), "--guidance is a number"),
        (("{photo}", "--first", "-1"), "--first counts from 0"),
        (("{folder}/none.png",), "none.png; choose another"),
        (("{folder}/clip.mp4",), "clip.mp4 cannot be decoded"),
        (("{folder}/clip.mp4", "--box", "0,0,9,9"), "not on a video"),
        (("{empty}", "--out", "{folder}/heads"), "no pictures in"),
        (("{folder}",), "name a folder with --out"),
        (("{photo}", "--box", "1,2,3"), "'1,2,3' is not a box; write it as left,top,right,bottom"),
        (("{photo}", "--face", "1"), "shows 1 face"),
        (("{photo}", "--out", "{folder}/head.ply"), "'.ply' is not a format"),
    ],
)
def test_bad_input_gets_a_plain_sentence(weights, photo, tmp_path, capsys, arguments, words):
    (tmp_path / "empty").mkdir()
    (tmp_path / "clip.mp4").write_text("no video")
    places = {"photo": photo, "folder": tmp_path, "empty": tmp_path / "empty"}
    given = [argument.format(**places) for argument in arguments]
    assert portrait("--out", tmp_path / "head.safetensors", *given, weights=weights) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Error: ")
    assert words in line


def test_missing_weights_are_asked_for_with_their_licence(photo, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(facelift_weights, "find_in_cache", lambda name: None)
    assert portrait(photo, "--out", tmp_path / "head.safetensors", weights=tmp_path / "none") == 2
    told = capsys.readouterr().err
    assert "--accept-licence" in told
    assert "non-commercial" in told
    assert "9.3 GB" in told


def test_what_a_run_does_not_use_is_not_asked_for(weights, photo, tmp_path, capsys, monkeypatch, coarse):
    """Fusing and painting alone lift nothing, and views from elsewhere are painted already."""
    monkeypatch.setattr(facelift_weights, "find_in_cache", lambda name: None)
    only = {}
    for part in facelift_weights.PARTS:
        only[part] = tmp_path / Path(part).parent.name / "weights"
        shutil.copytree(weights, only[part], ignore=shutil.ignore_patterns("LICENSE"))
        unused, *_ = {*facelift_weights.PARTS} - {part}
        shutil.rmtree((only[part] / unused).parent)
    paints, lifts = only[facelift_weights.DIFFUSION], only[facelift_weights.GSLRM]
    views, head = tmp_path / "views", tmp_path / "head.safetensors"
    assert portrait(photo, "--out", views, "--views-only", weights=paints) == 0
    assert portrait("--views", views, "--out", head, weights=lifts) == 0
    assert portrait("--views", views, "--fuse", "--out", head, weights=tmp_path / "none") == 0
    assert portrait(photo, "--fuse", "--out", head, weights=paints) == 0
    for given, lacking, size in (((photo,), paints, "9.3"), (("--views", views), paints, "3.7")):
        assert portrait(*given, "--out", head, weights=lacking) == 2
        assert f"download {size} GB" in capsys.readouterr().err


@pytest.mark.gpu
def test_a_gpu_lifts_to_nearly_the_same_positions(weights):
    """Half precision keeps three bits more of them than bfloat16, with which they move several times as far."""
    views = np.random.default_rng(0).integers(0, 256, (6, SIZE, SIZE, 3), np.uint8)
    model = load_gslrm(facelift_weights.find_weights(weights).gslrm)
    everything = PostFilter(0.0, np.inf, np.inf, (np.inf,) * 3)
    on_cpu, _ = lift_views(views, six_cameras(SIZE), model, everything)
    on_gpu, _ = lift_views(views, six_cameras(SIZE), model.to("cuda"), everything)
    assert (on_gpu.mean - on_cpu.mean).norm(dim=1).mean() < 1e-3


@pytest.mark.parametrize(
    ("package", "command"),
    [("diffusers.models", "install portrait"), ("torch", "install")],
)
def test_a_missing_package_is_named_with_the_command_that_adds_it(monkeypatch, capsys, package, command):
    def fail(_options) -> None:
        raise ModuleNotFoundError(f"No module named '{package}'", name=package)

    monkeypatch.setattr("backend.__main__._info", fail)
    assert main(["info"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"Error: The Python package '{package}' is missing; run: python3 build.py {command}"


def test_the_matting_model_is_fetched_only_when_asked(weights, photo, tmp_path, monkeypatch):
    fetched = []
    monkeypatch.setattr(matting_models, "download_matting_model", lambda name, progress: fetched.append(name))
    command = [photo, "--out", tmp_path / "views", "--views-only"]
    assert portrait(*command, weights=weights) == 0
    assert portrait(*command, "--matting", "none", "--download-matting", weights=weights) == 0
    assert fetched == []
    assert portrait(*command, "--matting", "isnet-general-use", "--download-matting", weights=weights) == 0
    assert fetched == ["isnet-general-use"]


def test_a_damaged_gslrm_is_told_before_anything_is_painted(photo, tmp_path, capsys, monkeypatch):
    """Painting takes hours on a CPU."""
    folder = write_weights(tmp_path / "weights")
    content = (folder / facelift_weights.GSLRM).read_bytes()
    (folder / facelift_weights.GSLRM).write_bytes(content[: len(content) // 2])
    monkeypatch.setattr(MultiViewDiffusion, "generate", lambda *_: pytest.fail("painted"))
    assert portrait(photo, "--out", tmp_path / "head.safetensors", weights=folder) == 2
    assert "is damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("owner", "name", "options", "words"),
    [
        (MultiViewDiffusion, "denoise", (), "for painting views; switch offloading on"),
        (MultiViewDiffusion, "denoise", ("--offload",), "for painting views; run this on the CPU"),
        (GSLRM, "forward", (), "for lifting the views; run this on the CPU"),
        (UNet2DConditionModel, "to", (), "for painting views; switch offloading on"),
    ],
)
def test_a_full_gpu_is_told_with_what_helps(weights, photo, tmp_path, capsys, monkeypatch, owner, name, options, words):
    """While painting, while lifting, and while the parts are moved there."""

    def fail(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(owner, name, fail)
    assert portrait(photo, "--out", tmp_path / "head.safetensors", *options, weights=weights) == 2
    assert words in capsys.readouterr().err


def test_info_says_whether_the_weights_are_here(weights, capsys, monkeypatch):
    for found, words in (
        (None, "8884.7 MiB to download"),
        (facelift_weights.find_weights(weights), f"8884.7 MiB at {weights}"),
    ):
        monkeypatch.setattr(facelift_weights, "find_weights", lambda found=found: found)
        assert main(["info"]) == 0
        (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("facelift")]
        assert words in row
        assert "non-commercial" in row


def test_photos_of_one_name_get_results_of_their_own(tmp_path):
    for name in ("a.png", "a.JPG", "b.png", "clip.mp4", "clip.mpg"):
        (tmp_path / name).touch()
    assert set(find_photos(tmp_path)) == {"a.png", "a.JPG", "b.png"}
    (tmp_path / "a.JPG").unlink()
    assert set(find_photos(tmp_path)) == {"a", "b"}
    assert not is_picture(tmp_path / "clip.mpg")


def test_views_that_do_not_divide_into_patches_are_refused(weights):
    capture = paint_views(
        np.zeros(1), data.astronaut()[None], load_mvdiffusion(weights / facelift_weights.DIFFUSION), steps=1
    )
    model = GSLRM(GSLRMConfig(layers=1, width=64, heads=1))
    with pytest.raises(UserError, match="60 x 60; bring them to multiples of 8"):
        lift_capture(capture.square(60), model)
