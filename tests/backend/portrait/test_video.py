# SPDX-License-Identifier: GPL-3.0-or-later
"""A video's person is followed and cropped steadily, frame by frame, on one clock."""

import av
import numpy as np
import pytest
from PIL import Image
from skimage import data

from backend.errors import Cancelled, UserError
from backend.face import Face, detect_faces
from backend.logs import log
from backend.options import PortraitOptions
from backend.portrait.cuts import find_shots, thumbnail
from backend.portrait.photo import FACE_CENTRE, FACE_SIDE, crop_face
from backend.portrait.pipeline import read_sitting
from backend.portrait.video import (
    crop_smoothly,
    follow_face,
    follow_person,
    read_frames,
    read_front_views,
    smooth_over_time,
)
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
    closer = Face((20.0, 10, 120, 130), 0.99)  # at the same place
    assert follow_face([[one[0]], [closer], [one[2]]], 400, 300) == [one[0], None, one[2]]
    with pytest.raises(UserError, match="No face was found"):
        follow_face([[], []], 400, 300)


def shown(picture: np.ndarray, x: float, y: float, zoom: float = 1.0) -> np.ndarray:
    """Return what a noisy camera of 320 x 240 pixels shows of a picture from a corner on."""
    box = x, y, x + 320 / zoom, y + 240 / zoom
    image = np.asarray(Image.fromarray(picture).resize((320, 240), Image.Resampling.BICUBIC, box))
    noise = np.random.default_rng(round(x + y)).normal(0, 4, image.shape)
    return (image + noise).clip(0, 255).astype(np.uint8)


def shots_of(frames: list[np.ndarray]) -> list[int]:
    """Return the lengths of the shots that are found."""
    return [len(shot) for shot in find_shots([thumbnail(frame) for frame in frames])]


def test_cuts_are_found_and_motion_and_light_are_none():
    person, cat, table = data.astronaut(), data.chelsea(), data.coffee()
    still = [shown(person, 50 + 0.1 * step, 0) for step in range(10)]
    assert shots_of(still) == [10] and shots_of(still[:1]) == [1]
    assert shots_of([shown(person, 8 * step, 0) for step in range(20)]) == [20]  # the camera turns
    assert shots_of([shown(person, 20 * step, 5 * step) for step in range(9)]) == [9]
    assert shots_of([frame // 3 if step < 5 else frame for step, frame in enumerate(still)]) == [10]  # a lamp
    assert shots_of([*still[:4], np.full_like(still[0], 250), *still[5:]]) == [10]  # a flash
    assert shots_of([*still[:4], *[shown(cat, 20, 0)] * 3, *[shown(table, 60, 50)] * 5, *still]) == [4, 3, 5, 10]
    assert shots_of([*still, *[shown(person, 62, 8, 1.15)] * 10]) == [10, 10]  # the same, but closer
    pan = [shown(person, 8 * step, 0) for step in range(12)] + [shown(table, 10 * step, 20) for step in range(12)]
    assert shots_of(pan) == [12, 12]


@pytest.mark.parametrize("length", [7, 16, 30])
@pytest.mark.parametrize("speed", [0.0, 0.5])
def test_dissolves_are_found_and_their_frames_left_out(length, speed):
    person, cat = data.astronaut(), data.chelsea()
    before = [shown(person, 50 + speed * step, 10) for step in range(20 + length)]
    after = [shown(cat, 30 - speed * step, 20) for step in range(20 + length)]
    mixtures = [
        ((1 - share) * before[20 + step] + share * after[step]).astype(np.uint8)
        for step, share in enumerate(np.linspace(0, 1, length + 2)[1:-1])
    ]
    first, last = find_shots([thumbnail(frame) for frame in [*before[:20], *mixtures, *after[length:]]])
    slack = max(2, length // 5)
    assert first.start == 0 and abs(first.stop - 20) <= slack
    assert abs(last.start - 20 - length) <= slack and last.stop == 40 + length


@pytest.mark.slow
@pytest.mark.parametrize("speed", [0.5, 1, 2, 4, 8])
def test_what_moves_or_comes_closer_is_no_dissolve(speed):
    person, cat = data.astronaut(), data.chelsea()
    assert shots_of([shown(person, min(speed * step, 190), 0.5 * step) for step in range(60)]) == [60]
    assert shots_of([shown(person, 10, 10, 1 + speed * step / 100) for step in range(60)]) == [60]
    walking = [shown(person, 50, 50) for _ in range(60)]
    for step, frame in enumerate(walking):
        left = min(int(20 + speed * step), 200)
        frame[60:220, left : left + 120] = shown(cat, 60, 30)[60:220, 100:220]
    assert shots_of(walking) == [60]


@pytest.mark.slow
def test_of_a_video_with_cuts_the_shot_is_taken_that_shows_a_face_longest(tmp_path, caplog, monkeypatch):
    """Nothing is made up about a face between two shots, and the persons of several are not one."""
    monkeypatch.setattr(log, "propagate", True)
    person, mirrored = data.astronaut(), np.ascontiguousarray(data.astronaut()[:, ::-1])
    frames = [shown(data.chelsea(), 20, 0)] * 5
    frames += [shown(person, 60, 10)] * 3
    frames += [shown(data.coffee(), 60, 50)] * 4
    frames += [shown(mirrored, 140 + step, 20) for step in range(7)] + [shown(mirrored, 0, 260)] * 2
    person = follow_person(write_video(tmp_path / "clip.mp4", frames), every=2)
    assert (person.first, person.last) == (12, 18)
    assert person.times == pytest.approx([12 / 25, 14 / 25, 16 / 25, 18 / 25])
    assert all(person.faces)
    assert "clip.mp4 is cut 4 times: the head is made of the frames 12 to 18." in caplog.text
    sitting = read_sitting(tmp_path / "clip.mp4", PortraitOptions(every=2))
    assert len(sitting.busts) == 4
    assert np.ptp([camera.position for camera in sitting.cameras], axis=0).max() < 0.1
    with pytest.raises(UserError, match="No face was found"):
        follow_person(tmp_path / "clip.mp4", last=4)


@pytest.mark.slow
def test_frames_before_a_face_comes_and_after_it_has_left_are_left_out(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(log, "propagate", True)
    frames = [shown(data.astronaut(), 50, 260 - 20 * min(step, 13)) for step in range(18)]  # the camera rises
    person = follow_person(write_video(tmp_path / "clip.mp4", frames))
    assert person.first > 3 and person.last == 17 and person.faces[0] and person.faces[-1]
    assert "clip.mp4 does not show the face all the time" in caplog.text


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
