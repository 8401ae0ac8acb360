# SPDX-License-Identifier: GPL-3.0-or-later
"""A video's person is followed and cropped steadily, frame by frame, on one clock."""

import av
import numpy as np
import pytest
from PIL import Image
from skimage import data

from backend.errors import Cancelled, UserError
from backend.options import PortraitOptions
from backend.portrait.face import Face, detect_faces
from backend.portrait.photo import FACE_CENTRE, FACE_SIDE, crop_face
from backend.portrait.pipeline import read_sitting
from backend.portrait.video import crop_smoothly, follow_face, read_frames, read_front_views, smooth_over_time
from tests.helpers.faces import astronaut, write_video


def grey_frames(count: int = 10) -> list[np.ndarray]:
    return [np.full((64, 96, 3), 20 * index, np.uint8) for index in range(count)]


def test_frames_come_with_their_seconds(tmp_path):
    path = write_video(tmp_path / "clip.mp4", grey_frames())
    frames = list(read_frames(path))
    assert [time for time, _ in frames] == pytest.approx([index / 25 for index in range(10)])
    means = [picture[..., :3].mean() for _, picture in frames]
    assert means == pytest.approx([20 * index for index in range(10)], abs=2)
    times, pictures = zip(*read_frames(path, first=2, last=8, every=3), strict=True)
    assert times == pytest.approx([2 / 25, 5 / 25, 8 / 25])
    assert [picture[..., :3].mean() for picture in pictures] == pytest.approx([40, 100, 160], abs=2)


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_a_telephones_video_is_read_upright(tmp_path, rotation):
    frame = np.zeros((64, 96, 3), np.uint8)
    frame[:32, :48] = 200
    path = write_video(tmp_path / "clip.mp4", [frame] * 3, rotation)
    _, picture = next(read_frames(path))
    upright = np.rot90(frame, rotation // 90)
    assert picture.shape == (*upright.shape[:2], 4)
    assert np.abs(picture[..., :3].astype(int) - upright).mean() < 4


def test_unusable_videos_are_refused_in_plain_words(tmp_path):
    good = write_video(tmp_path / "good.mp4", grey_frames())
    (tmp_path / "half.mp4").write_bytes(good.read_bytes()[:500])
    (tmp_path / "text.mp4").write_text("hello")
    with av.open(str(tmp_path / "sound.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        sound.rate = 8000
        container.mux(stream.encode(sound))
    with av.open(str(tmp_path / "bare.h264"), "w", format="h264") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(grey_frames(1)[0], format="rgb24")))
        container.mux(stream.encode())
    for name, words in {
        "bare.h264": "does not store the times of its frames; convert it to mp4",
        "none.mp4": "none.mp4 cannot be decoded",
        "half.mp4": "half.mp4 cannot be decoded",
        "text.mp4": "text.mp4 cannot be decoded",
        "sound.wav": "sound.wav holds no video",
    }.items():
        with pytest.raises(UserError, match=words):
            list(read_frames(tmp_path / name))
    with pytest.raises(UserError, match="no frames in the range that begins with 10"):
        list(read_frames(good, first=10))


def test_one_person_is_followed():
    """Somebody else who comes, is larger, or remains alone, is not taken for the one."""
    one = [Face((10.0 + 4 * step, 20, 60 + 4 * step, 80), 0.99) for step in range(6)]
    other = Face((200, 10, 300, 120), 0.99)
    found = [[], [one[1]], [one[2], other], [other], [other, one[4]], [one[5]]]
    assert follow_face(found, 400, 300) == [None, one[1], one[2], None, one[4], one[5]]
    assert follow_face([[one[0], other], [one[1], other]], 400, 300) == [other, other]  # the largest
    assert follow_face([[one[0], other], [one[1], other]], 400, 300, 0) == [one[0], one[1]]  # on the left
    with pytest.raises(UserError, match="No face was found"):
        follow_face([[], []], 400, 300)


def test_smoothing_keeps_steady_motion_and_fills_gaps():
    times = np.arange(20) / 25
    motion = np.array([100, 50, 160, 130]) + times[:, None] * np.array([30, -10, 35, -5])
    boxes = [None if index in (0, 7, 8, 19) else tuple(box) for index, box in enumerate(motion)]
    np.testing.assert_allclose(smooth_over_time(times, boxes), motion, atol=1e-6)
    np.testing.assert_allclose(smooth_over_time(times[:3], [None, (1, 2, 3, 4), None]), [[1, 2, 3, 4]] * 3)


def test_smoothing_removes_trembling():
    times = np.arange(75) / 25
    noise = np.random.default_rng(0).normal(0, 1, (75, 4))
    boxes = [tuple(box) for box in np.array([100, 50, 160, 130]) + noise]
    trembling = np.diff(smooth_over_time(times, boxes), axis=0).std()
    assert trembling < 0.1 * np.diff(boxes, axis=0).std()


def test_a_smooth_crop_is_the_canonical_one_to_a_fraction_of_a_pixel():
    """A square moved by fractions of a pixel stays where training faces are, while whole pixels would jump."""
    box = np.array([20.0, 30, 60, 75])
    picture = np.full((160, 140, 3), 255, np.uint8)
    picture[30:75, 20:60] = 0
    darkness = 1 - crop_smoothly(picture, tuple(box))[..., 0] / 255
    rows, columns = np.mgrid[:512, :512] + 0.5
    centre = [(darkness * axis).sum() / darkness.sum() for axis in (columns, rows)]
    assert centre == pytest.approx(FACE_CENTRE, abs=0.1)
    assert darkness.sum() == pytest.approx(FACE_SIDE**2 * (40 * 45) / 42.5**2, rel=0.01)
    moved = 1 - crop_smoothly(picture, tuple(box + 0.1))[..., 0] / 255
    shift = (moved * columns).sum() / moved.sum() - centre[0]
    assert shift == pytest.approx(-0.1 * FACE_SIDE / 42.5, abs=0.02)
    picture, box = data.astronaut(), (181, 62, 268, 172)
    difference = np.abs(crop_smoothly(picture, box) - crop_face(picture, box).astype(float))
    assert difference.mean() < 4


@pytest.mark.slow
def test_a_video_becomes_front_views(tmp_path):
    """The astronaut wanders through the picture; in the crops she does not."""
    person = np.asarray(Image.fromarray(data.astronaut()).resize((320, 320)))[:240]
    frames = []
    for index in range(6):
        frame = np.full((240, 400, 3), 255, np.uint8)
        frame[:, 10 * index : 10 * index + 320] = person
        frames.append(frame)
    path = write_video(tmp_path / "clip.mp4", frames)
    told = []
    times, fronts, cameras = read_front_views(path, "none", every=2, progress=lambda stage, done: told.append(stage))
    assert times == pytest.approx([0, 0.08, 0.16])
    assert fronts.shape == (3, 512, 512, 3)
    for front in fronts:
        (face,) = detect_faces(front)
        centre = (face.box[0] + face.box[2]) / 2, (face.box[1] + face.box[3]) / 2
        assert centre == pytest.approx(FACE_CENTRE, abs=8)
        assert (face.box[2] - face.box[0] + face.box[3] - face.box[1]) / 2 == pytest.approx(FACE_SIDE, rel=0.06)
    assert told[0] == "Looking for the face, frame 1"
    noses = np.array([camera.project(np.array([0, -0.6, 0])) for camera in cameras])
    assert np.diff(noses, axis=0) == pytest.approx(np.array([[20, 0], [20, 0]]), abs=2)  # pixels she wandered

    def stop(stage: str, done: float) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        read_front_views(path, "none", progress=stop)


@pytest.mark.slow
def test_a_videos_alpha_is_the_matte_as_a_photos_is(tmp_path):
    """Nothing is cut out anew, and what is hidden holds no face."""
    hidden = np.dstack([data.astronaut(), np.zeros((512, 512), np.uint8)])
    picture = np.concatenate([astronaut(), hidden], 1)
    darker = np.dstack([picture[..., :3] // 10 * 9, picture[..., 3]])
    Image.fromarray(picture).save(tmp_path / "photo.png")
    pictures = [Image.fromarray(image) for image in (picture, darker)]
    pictures[0].save(tmp_path / "clip.webp", save_all=True, append_images=pictures[1:], lossless=True)
    photo, video = (read_sitting(tmp_path / name, PortraitOptions()) for name in ("photo.png", "clip.webp"))
    assert len(video.busts) == 2
    difference = np.abs(video.busts[0].image[..., 3].astype(int) - photo.busts[0].image[..., 3])
    assert difference.mean() < 3 and 0.05 < (photo.busts[0].image[..., 3] == 0).mean() < 0.9
    _, fronts, _ = read_front_views(tmp_path / "clip.webp")
    assert (fronts[:, 0, [0, -1]] == 255).all()  # beside the ellipse
