# SPDX-License-Identifier: GPL-3.0-or-later
"""Times come from tables, names, timecode and movies; what tells no time is an error that says what to give."""

from collections import Counter
from itertools import islice

import numpy as np
import pytest

from backend import movies
from backend.calibrations.load import load_capture, open_capture, open_take, read_capture
from backend.calibrations.times import frame_numbers, read_table, timecode_seconds
from backend.errors import UserError
from backend.import_options import ImportOptions
from tests.helpers import spots
from tests.helpers.colmap_files import write_model
from tests.helpers.movie_files import write_movie

RIG = spots.rig()
CAMERAS = [f"cam{index}" for index in range(len(RIG))]


@pytest.fixture
def rig(tmp_path):
    """A COLMAP model that calls four cameras cam0.png to cam3.png."""
    write_model(tmp_path / "sparse", RIG, [f"{camera}.png" for camera in CAMERAS])
    return tmp_path


def shoot(folder, layout, frames, cameras=CAMERAS):
    for camera, name in zip(RIG, CAMERAS, strict=True):
        for frame in frames if name in cameras else ():
            spots.save(folder / "images" / layout.format(camera=name, frame=frame), camera)


def times(folder, **options):
    return [shot.time for shot in open_capture(folder, ImportOptions(**options)).shots]


@pytest.mark.parametrize(
    "layout",
    [
        "{camera}/{frame:04d}.png",
        "{camera}_{frame:04d}.png",
        "{frame:04d}/{camera}.png",
        "take2_{camera}_f{frame}.png",
    ],
)
def test_numbers_in_names_count_frames(rig, layout):
    shoot(rig, layout, (1001, 1002, 1004))
    assert times(rig, fps=25) == pytest.approx([0, 0.04, 0.12] * 4)
    spots.assert_same_cameras(open_capture(rig, ImportOptions(fps=25)).cameras, [c for c in RIG for _ in range(3)])


def test_frames_that_a_camera_lacks_are_reported_and_change_no_time(rig):
    shoot(rig, "{camera}/{frame}.png", (10, 11, 12))
    (rig / "images" / "cam2" / "11.png").unlink()
    source = open_capture(rig, ImportOptions(fps=10))
    assert [shot.time for shot in source.shots] == pytest.approx([0, 0.1, 0.2, 0, 0.1, 0.2, 0, 0.2, 0, 0.1, 0.2])
    assert [str(finding) for finding in source.findings] == [
        "Camera 'cam2' lacks 1 of 3 frames, such as 11. Nothing is to be done; the other cameras fill in. Restore "
        "the pictures if they are only lost."
    ]


def test_frames_that_no_camera_has_are_reported(rig):
    shoot(rig, "{camera}/{frame:02d}.png", (1, 3, 7, 9, 11, 13))
    assert times(rig, fps=10) == pytest.approx([0, 0.2, 0.6, 0.8, 1.0, 1.2] * 4)
    (text,) = found(rig, fps=10)
    assert text.startswith("No camera has 1 of 7 frames, such as 5. Nothing is to be done; the times of the others are")


def test_a_picture_that_is_called_unlike_the_others_is_named(rig):
    shoot(rig, "{camera}/{frame}.png", (1, 2, 3))
    spots.save(rig / "images" / "cam1" / "notes.png", RIG[1])
    with pytest.raises(
        UserError, match=r"The name of cam1/notes\.png, a picture of camera 'cam1', is unlike .* rename it"
    ):
        times(rig, fps=10)


def test_names_with_seconds_or_timecode_need_no_numbers(rig):
    shoot(rig, "{camera}/{frame}.png", ("a_0.50s", "b_1.25s"))
    assert times(rig) == [0.5, 1.25] * 4
    for path in (rig / "images").rglob("*.png"):
        path.unlink()
    shoot(rig, "{camera}/{frame}.png", ("01-00-00-00", "01-00-00-12"))
    assert times(rig, fps=24) == [3600, 3600.5] * 4
    with pytest.raises(UserError, match="needs a rate; give it with --fps"):
        times(rig)


def test_several_pictures_of_a_camera_need_a_time(rig):
    shoot(rig, "{camera}/{frame}.png", (1, 2))
    with pytest.raises(UserError, match=r"Camera 'cam0' took several pictures, such as cam0/1\.png, but nothing tells"):
        times(rig)


def test_the_numbers_of_cameras_are_not_those_of_frames(rig):
    shoot(rig, "{camera}/{frame}.png", (7,))
    assert times(rig, fps=25) == [0] * 4
    for camera in CAMERAS:
        (rig / "images" / camera / "7.png").rename(rig / "images" / f"{camera}.png")
    assert "are taken for frames of a camera that moved. Leave out --fps if" in str(
        open_capture(rig, ImportOptions(fps=25)).findings[0]
    )


def test_one_picture_of_each_camera_is_one_moment(rig):
    shoot(rig, "{camera}.png", (0,))
    assert times(rig) == [0] * 4


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("picture,time\n" + "".join(f"cam{c}/{f}.png,{c + f / 10}\n" for c in range(4) for f in (1, 2)), None),
        ("camera,frame,time\n" + "".join(f"cam{c},{f},{c + f / 10}\n" for c in range(4) for f in (1, 2)), None),
        ("camera;offset\ncam1;1\ncam2;00:00:02:00\ncam3;3\n", [0, 0.04, 1, 1.04, 2, 2.04, 3, 3.04]),
    ],
)
def test_a_table_tells_times_or_offsets(rig, table, expected):
    shoot(rig, "{camera}/{frame}.png", (1, 2))
    (rig / "times.csv").write_text(table)
    expected = expected or [c + f / 10 for c in range(4) for f in (1, 2)]
    assert times(rig, times=rig / "times.csv", fps=25 if "offset" in table else 0.0) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ("", r"The first line of .*times\.csv is ''; begin it with picture,time or"),
        ("name,when\n", "The first line of .* is 'name,when'"),
        ("picture,time\na.png\n", r"Line 2 of .*times\.csv has 1 value instead of 2"),
        (
            "picture,time\n\na.png,soon\n",
            r"The time 'soon' in line 3 of .*times\.csv is neither seconds nor a timecode",
        ),
        ("camera,frame,time\ncam0,one,1\n", "The frame 'one' in line 2"),
        (
            "camera,offset\ncam9,1\n",
            r"names camera 'cam9', but the cameras with pictures are cam0, cam1, cam2 and 1 more; ",
        ),
        ("camera,frame,time\ncam0,1,0.5\n", "The table of times lacks frame 2 of camera 'cam0'"),
        ("picture,time\ncam0/1.png,1\n", r"1 picture has a time but 7 have none, such as cam0/2\.png"),
        ("camera,offset\ncam0,00:00:01:00\n", "needs a rate; give it with --fps"),
    ],
)
def test_bad_tables_are_named(rig, table, sentence):
    shoot(rig, "{camera}/{frame}.png", (1, 2))
    (rig / "times.csv").write_text(table)
    with pytest.raises(UserError, match=sentence):
        times(rig, times=rig / "times.csv")


@pytest.mark.parametrize("layout", ["{camera}/{frame:04d}.png", "{frame:04d}/{camera}.png"])
def test_a_calibrated_frame_of_a_fixed_rig_holds_for_all(tmp_path, layout):
    write_model(tmp_path / "sparse", RIG, [layout.format(camera=camera, frame=0) for camera in CAMERAS])
    shoot(tmp_path, layout, (0, 1, 2))
    found = str(open_capture(tmp_path).findings[0])
    assert "8 pictures have no camera in the calibration" in found and "add --fixed-rig" in found
    source = open_capture(tmp_path, ImportOptions(fixed_rig=True, fps=30))
    spots.assert_same_cameras(source.cameras, [camera for camera in RIG for _ in range(3)])
    assert [shot.time for shot in source.shots] == pytest.approx([0, 1 / 30, 2 / 30] * 4)


def test_a_fixed_rig_that_was_calibrated_several_times_has_its_first_poses(tmp_path):
    names = [f"{camera}/{frame}.png" for frame in (0, 1) for camera in CAMERAS]
    write_model(tmp_path / "sparse", RIG * 2, names)
    shoot(tmp_path, "{camera}/{frame}.png", (0, 1, 2))
    source = open_capture(tmp_path, ImportOptions(fixed_rig=True, fps=10))
    assert [shot.time for shot in source.shots] == pytest.approx([0, 0.1, 0.2] * 4)
    assert source.findings == []


@pytest.mark.parametrize("layout", ["{camera}/{frame:04d}.png", "{frame:04d}/{camera}.png"])
def test_pictures_that_are_calibrated_each_by_itself_have_times_too(tmp_path, layout):
    """Which of two numbers counts frames, the poses tell."""
    names = [layout.format(camera=camera, frame=frame) for frame in (5, 6, 8) for camera in CAMERAS]
    write_model(tmp_path / "sparse", RIG * 3, names)
    shoot(tmp_path, layout, (5, 6, 8))
    assert times(tmp_path, fps=10) == pytest.approx([0] * 4 + [0.1] * 4 + [0.3] * 4)
    assert "read as one moment. If the subject moved, give" in str(open_capture(tmp_path).findings[0])


@pytest.mark.parametrize("layout", ["{camera}/{frame:04d}.png", "{frame:04d}/{camera}.png"])
def test_cameras_of_pictures_that_are_calibrated_each_by_itself_have_rows_in_tables(tmp_path, layout):
    names = [layout.format(camera=camera, frame=frame) for frame in (5, 6) for camera in CAMERAS]
    write_model(tmp_path / "sparse", RIG * 2, names)
    shoot(tmp_path, layout, (5, 6))
    offsets = _write(tmp_path / "offsets.csv", "camera,offset\ncam1,1\n")
    assert times(tmp_path, fps=10, times=offsets) == pytest.approx([0, 1, 0, 0, 0.1, 1.1, 0.1, 0.1])
    rows = "".join(f"cam{index},{frame},{index + frame}\n" for index in range(4) for frame in (5, 6))
    table = _write(tmp_path / "times.csv", f"camera,frame,time\n{rows}")
    assert times(tmp_path, times=table) == pytest.approx([5, 6, 7, 8, 6, 7, 8, 9])


def test_a_picture_with_another_ending_is_its_cameras_own(tmp_path):
    """Cameras that all call a picture 0001 do not have one another's."""
    names = [f"{camera}/{frame:04d}.png" for frame in (1, 2) for camera in CAMERAS]
    write_model(tmp_path / "sparse", RIG * 2, names)
    shoot(tmp_path, "{camera}/{frame:04d}.png", (1, 2))
    picture = tmp_path / "images" / "cam2" / "0001.png"
    picture.rename(picture.with_suffix(".bmp"))
    spots.save(tmp_path / "images" / "cam9" / "0001.png", RIG[0])  # of a camera that is not calibrated
    source = open_capture(tmp_path, ImportOptions(fps=10))
    assert [shot.time for shot in source.shots] == pytest.approx([0] * 4 + [0.1] * 4)
    assert source.shots[2].file == "cam2/0001.bmp"
    picture.with_suffix(".bmp").unlink()
    source = open_capture(tmp_path, ImportOptions(fps=10))
    assert [shot.file for shot in source.shots[:3]] == ["cam0/0001.png", "cam1/0001.png", "cam3/0001.png"]


def test_a_part_of_a_clip_is_chosen(rig):
    shoot(rig, "{camera}/{frame}.png", range(8))
    assert times(rig, fps=10, start=0.2, end=0.65, every=2) == pytest.approx([0.2, 0.4, 0.6] * 4)
    with pytest.raises(UserError, match="No picture was taken between 5 and 6 s; choose another part"):
        times(rig, fps=10, start=5, end=6)


@pytest.mark.parametrize(
    ("code", "rate", "seconds"),
    [
        ("01:02:03:04", 25, 3723.16),
        ("00:00:10:00", 23.976, 240 * 1001 / 24000),
        ("00:01:00;02", 29.97, 1800 * 1001 / 30000),  # frames 0 and 1 of this minute are dropped
        ("00:10:00;00", 29.97, 17982 * 1001 / 30000),
    ],
)
def test_timecode_is_seconds(code, rate, seconds):
    assert timecode_seconds(code, rate, "a test") == pytest.approx(seconds, abs=1e-9)


def test_timecode_beyond_the_rate_is_named():
    with pytest.raises(UserError, match="has no frame 30 at 25 a second"):
        timecode_seconds("01:00:00:30", 25, "a test")


def test_numbers_that_could_both_count_are_named(tmp_path):
    with pytest.raises(UserError, match="have several numbers in their names that could count frames"):
        frame_numbers(["a1_7.png", "a2_9.png"], "a")
    with pytest.raises(UserError, match="have no number in their names that could count frames"):
        frame_numbers(["left.png", "right.png"], "a")
    assert read_table(_write(tmp_path / "t.csv", "\ufeffpicture,time\nb.png, 2.5\n"), None).of_picture("x/b.png") == 2.5


def _write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def film(folder, name, camera, moments, **options):
    """A movie in which the spots stand still and the first column of pixels tells the frame's number."""
    picture = spots.picture(camera.project(spots.POINTS))[..., :3]
    pictures = [picture.copy() for _ in moments]
    for index, own in enumerate(pictures):
        own[:, 0] = 10 * index
    write_movie(folder / name, pictures, moments, **options)


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_movies_of_cameras_are_pictures_with_times(rig, ending):
    for index, camera in enumerate(CAMERAS):
        film(rig, f"videos/{camera}.{ending}", RIG[index], [0.0, 0.04, 0.08])
    (rig / "offsets.csv").write_text("camera,offset\ncam1,0.01\n")
    capture = load_capture(rig, ImportOptions(times=rig / "offsets.csv"))
    moments = [0, 0.04, 0.08, 0.01, 0.05, 0.09, *[0, 0.04, 0.08] * 2]
    assert [frame.time for frame in capture.frames] == pytest.approx(moments, abs=2e-3)
    assert [int(frame.image[0, 0, 0]) for frame in capture.frames] == [0, 10, 20] * 4
    spots.assert_same_cameras([frame.camera for frame in capture.frames], [c for c in RIG for _ in range(3)])
    assert capture.frames[4].name == "cam1_000001"
    for frame in capture.frames:
        assert spots.worst_miss(frame.image, frame.camera) < 0.06


def test_a_take_of_movies_is_decoded_once_window_by_window(rig, monkeypatch):
    moments = [0.04 * frame for frame in range(12)]
    for index, camera in enumerate(CAMERAS):
        film(rig, f"videos/{camera}.mp4", RIG[index], moments)
    take, decoded, decode = open_take(open_capture(rig)), Counter(), movies._decode

    def count(path):
        for frame in decode(path):
            decoded[path.stem] += 1
            yield frame

    monkeypatch.setattr(movies, "_decode", count)
    for first in range(0, 10, 2):  # windows of four moments, of which the next one begins with two
        numbers = [12 * camera + frame for camera in range(4) for frame in range(first, min(first + 4, 12))]
        frames = take.read(numbers).frames
        assert [int(frame.image[0, 0, 0]) for frame in frames] == [10 * (number % 12) for number in numbers]
    assert decoded == dict.fromkeys(CAMERAS, 12)


def test_movies_with_timecode_are_synchronised_by_it(rig):
    for index, camera in enumerate(CAMERAS):
        film(rig, f"videos/{camera}.mov", RIG[index], [0.0, 0.04, 0.08], timecode=f"10:00:00:0{index}")
    found = times(rig)
    assert found == pytest.approx([index * 0.04 + frame * 0.04 for index in range(4) for frame in range(3)], abs=1e-4)


def test_a_variable_rate_is_reported_and_its_times_kept(rig):
    for index, camera in enumerate(CAMERAS):
        film(rig, f"videos/{camera}.mp4", RIG[index], [0.0, 0.04, 0.12] if index == 2 else [0.0, 0.04, 0.08])
    source = open_capture(rig)
    assert [shot.time for shot in source.shots[6:9]] == pytest.approx([0, 0.04, 0.12], abs=1e-3)
    assert [str(finding) for finding in source.findings] == [
        "The frames of cam2.mp4 last 40.0 to 80.0 ms: its rate varies or frames were dropped. The times of its frames "
        "are used as they are stored; check them if the movie was converted."
    ]


def found(folder, **options):
    return [str(finding) for finding in open_capture(folder, ImportOptions(**options)).findings]


def test_movies_of_other_hours_are_reported(rig):
    for index, camera in enumerate(CAMERAS):
        code = "11:00:00:00" if index == 3 else f"10:00:00:0{index}"
        film(rig, f"videos/{camera}.mov", RIG[index], [0.0, 0.04, 0.08], timecode=code)
    assert any("1 of 4 cameras films from 3.6e+03 to 3.6e+03 s" in text and "cam3." in text for text in found(rig))


def test_an_offset_that_leads_a_camera_away_is_reported(rig):
    for index, camera in enumerate(CAMERAS):
        film(rig, f"videos/{camera}.mp4", RIG[index], [0.0, 0.04, 0.08])
    near = _write(rig / "near.csv", "camera,offset\ncam1,0.05\n")
    assert found(rig, times=near) == []
    far = _write(rig / "far.csv", "camera,offset\ncam1,50\n")
    (text,) = found(rig, times=far)
    assert "1 of 4 cameras films from 50 to 50.1 s, when most do so from 0 to 0.08 s: cam1." in text


def test_a_movie_without_the_timecode_that_others_have_is_reported(rig):
    for index, camera in enumerate(CAMERAS):
        more = {} if index == 2 else {"timecode": f"10:00:00:0{index}"}
        film(rig, f"videos/{camera}.mov", RIG[index], [0.0, 0.04, 0.08], **more)
    (text,) = found(rig)
    assert "1 of 4 movies has no timecode, so all are read as if they began at once: cam2.mov." in text
    assert times(rig) == pytest.approx([0, 0.04, 0.08] * 4, abs=1e-4)


def test_times_of_pictures_that_there_are_not_are_reported(rig):
    shoot(rig, "{camera}_{frame}.png", (1,))
    rows = "".join(f"{camera}_1.png,{index}\n" for index, camera in enumerate(CAMERAS))
    good = _write(rig / "good.csv", f"picture,time\n{rows}")
    assert found(rig, times=good) == []
    more = _write(rig / "more.csv", f"picture,time\n{rows}cam1_2.png,9\n")
    (text,) = found(rig, times=more)
    assert text.startswith("The table of times names 1 picture that is not there: cam1_2.png. Restore them")


def test_frames_at_which_a_movie_breaks_off_are_left_out(rig, monkeypatch):
    for index, camera in enumerate(CAMERAS):
        film(rig, f"videos/{camera}.mp4", RIG[index], [0.0, 0.04, 0.08])
    whole = movies._decode
    monkeypatch.setattr(movies, "_decode", lambda path: islice(whole(path), 2))
    source = open_capture(rig)
    assert len(read_capture(source).frames) == 8
    told = "4 of 12 pictures cannot be used and are left out; the first: Frame 2 of "
    assert any(finding.text.startswith(told) for finding in source.findings)
    monkeypatch.setattr(movies, "_decode", lambda path: islice(whole(path), 1))
    with pytest.raises(UserError, match=r"Frame 1 of .*cam0\.mp4 cannot be decoded; convert it"):
        load_capture(rig)


def test_a_movie_that_cannot_be_decoded_is_named(rig):
    for camera in CAMERAS:
        _write(rig / f"{camera}.mp4", "no movie")
    with pytest.raises(UserError, match=r"cam0\.mp4 cannot be decoded .* convert it to another format, such as mp4"):
        open_capture(rig)


def test_two_movies_of_a_camera_are_named(rig):
    for take in ("a", "b"):
        film(rig, f"videos/{take}/cam0.mp4", RIG[0], [0.0, 0.04])
    with pytest.raises(
        UserError, match=r"Camera 'cam0\.png' has several movies .* keep those of one take in the folder"
    ):
        open_capture(rig)


def test_neural_3d_video_is_read_with_its_movies(tmp_path):
    rows = []
    for index, camera in enumerate(RIG):
        right, down, forward, position = camera.camera_to_world[:3].T
        rows.append([*np.stack([down, right, -forward, position, (120, 160, camera.fx)], 1).ravel(), 1.0, 5.0])
        film(tmp_path, f"cam{index:02d}.mp4", camera, [0.0, 1 / 30])
    np.save(tmp_path / "poses_bounds.npy", np.array(rows))
    source = open_capture(tmp_path)
    assert [shot.file for shot in source.shots[::2]] == [f"cam{index:02d}.mp4" for index in range(4)]
    assert [shot.time for shot in source.shots] == pytest.approx([0, 1 / 30] * 4, abs=1e-4)
