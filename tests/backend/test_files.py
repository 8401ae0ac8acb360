# SPDX-License-Identifier: GPL-3.0-or-later
"""A file is replaced whole or not at all, and nothing is left beside it."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from backend.camera import Camera
from backend.capture import Capture, Frame, save_capture
from backend.errors import Cancelled, UserError
from backend.files import replacing, writing, writing_several
from backend.formats.exchange import write_clip, write_sequence, write_splats
from backend.gaussians import save_cloud
from tests.helpers.clouds import random_cloud
from tests.helpers.files import full_disk


@pytest.mark.parametrize("replace", [replacing, writing])
def test_a_file_is_new_only_once_it_is_whole(tmp_path, replace):
    target = tmp_path / "cloud.ply"
    target.write_text("old")
    with replace(target) as partial:
        partial.write_text("new")
        assert target.read_text() == "old" and partial.parent == tmp_path
    assert target.read_text() == "new" and list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("replace", [replacing, writing])
@pytest.mark.parametrize("stop", [Cancelled, KeyboardInterrupt, SystemExit, ValueError])
def test_what_was_there_stays_when_writing_stops(tmp_path, replace, stop):
    target = tmp_path / "cloud.ply"
    target.write_text("old")
    with pytest.raises(stop), replace(str(target)) as partial:
        partial.write_text("half")
        raise stop
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]


def test_a_place_that_cannot_be_written_is_told_with_the_reason(tmp_path):
    reason = r"cloud.ply cannot be written \(.+\); choose another folder"
    with pytest.raises(UserError, match=reason), writing(tmp_path / "missing" / "cloud.ply") as partial:
        partial.write_text("new")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="folder cannot be written"), writing(tmp_path / "folder") as partial:
        partial.write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_files_that_belong_together_appear_together_or_not_at_all(tmp_path):
    (tmp_path / "frame_0.png").write_text("old")
    with writing_several(tmp_path / "frame.png") as folder:
        (folder / "frame_0.png").write_text("new")
        (folder / "frame_1.png").write_text("new")
        assert [path.read_text() for path in tmp_path.glob("frame_?.png")] == ["old"]
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"frame_0.png": "new", "frame_1.png": "new"}
    with pytest.raises(Cancelled), writing_several(tmp_path / "frame.png") as folder:
        (folder / "frame_0.png").write_text("newer")
        raise Cancelled
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"frame_0.png": "new", "frame_1.png": "new"}


def test_several_writers_of_one_file_each_write_a_whole_one(tmp_path):
    target = tmp_path / "cloud.ply"
    with ExitStack() as stack:
        partials = [stack.enter_context(replacing(target)) for _ in range(3)]
        assert len({*partials}) == 3
        for number, partial in enumerate(partials):
            partial.write_text(str(number))
    assert target.read_text() == "0" and list(tmp_path.iterdir()) == [target]  # the last to end was the first

    def write(text: str) -> None:
        for _ in range(40):
            with replacing(target) as partial:
                partial.write_text(text)

    texts = [letter * 9999 for letter in "abcd"]
    threads = [threading.Thread(target=write, args=[text]) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert target.read_text() in texts and list(tmp_path.iterdir()) == [target]


def test_what_a_killed_process_left_is_taken_over(tmp_path):
    for name in ("cloud.ply.part", "cloud.ply.parts"):
        (tmp_path / name).mkdir() if name.endswith("s") else (tmp_path / name).write_text("a long stump")
    (tmp_path / "cloud.ply.parts" / "cloud_0007.ply").write_text("stump")
    with replacing(tmp_path / "cloud.ply") as partial, partial.open("ab") as file:
        file.write(b"new")
    with writing_several(tmp_path / "cloud.ply") as folder:
        (folder / "cloud_0000.ply").write_text("new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"cloud.ply": "new", "cloud_0000.ply": "new"}


@pytest.mark.skipif(os.name == "nt", reason="links and pipes are others there")
def test_a_link_stays_a_link_and_a_pipe_a_pipe(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "cloud.ply").write_text("old")
    (tmp_path / "link.ply").symlink_to(tmp_path / "disk" / "cloud.ply")
    with replacing(tmp_path / "link.ply") as partial:
        partial.write_text("new")
    assert (tmp_path / "link.ply").is_symlink() and (tmp_path / "disk" / "cloud.ply").read_text() == "new"

    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with replacing(pipe) as partial:
        partial.write_text("scores")
    assert os.read(reader, 99) == b"scores" and pipe.is_fifo()
    os.close(reader)


def _save_views(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 4), np.uint8)
    save_capture(Capture([Frame(Camera(np.eye(4), 64, 64, 32, 32, 64, 64), 0.0, noise, "view")]), path.parent)


CLOUD = random_cloud(2000)
WRITERS = {
    "cloud.safetensors": lambda path: save_cloud(CLOUD, path),
    "cloud.ply": lambda path: write_splats(CLOUD.to_splats(), path, 0.0),
    "cloud.spz": lambda path: write_splats(CLOUD.to_splats(), path, 0.0),
    "cloud.glb": lambda path: write_splats(CLOUD.to_splats(), path, 0.0),
    "cloud.usda": lambda path: write_clip(CLOUD.to_splats(), path, [0.0, 0.5], 2),
    "cloud4d.ply": lambda path: write_clip(CLOUD.to_splats(), path, [], 2),
    "frame_0002.ply": lambda path: write_sequence(CLOUD.to_splats(), path.with_name("frame.ply"), 2),
    "view.png": _save_views,
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, name):
    target = tmp_path / name
    target.write_text("old")
    with full_disk(6000), pytest.raises(UserError, match=r"cannot be written .*File too large"):
        WRITERS[name](target)
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]
    WRITERS[name](target)
    assert target.stat().st_size > 6000 and not [*tmp_path.glob("*.part*")]


WRITE_FOR_EVER = """
import signal
import sys
from backend.console import stop_when_told
from backend.files import replacing, writing_several
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and nohup's this
stop_when_told()
print(flush=True)
while True:
    with replacing(sys.argv[1] + "/cloud.ply") as partial:
        partial.write_bytes(b"new" * 300_000)
    with writing_several(sys.argv[1] + "/frame.ply") as folder:
        (folder / "frame_0000.ply").write_bytes(b"new" * 300_000)
"""


@pytest.mark.skipif(os.name == "nt", reason="signals are others there")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_process_that_is_stopped_leaves_whole_files(tmp_path, how):
    for moment in (0.003, 0.011):
        for name in ("cloud.ply", "frame_0000.ply"):
            (tmp_path / name).write_bytes(b"old" * 300_000)
        process = subprocess.Popen(
            [sys.executable, "-c", WRITE_FOR_EVER, tmp_path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        process.stdout.readline()
        time.sleep(moment)
        process.send_signal(how)
        assert process.wait(10) == {signal.SIGTERM: 143, signal.SIGHUP: 129}.get(how, -how)
        process.stdout.close()
        for name in ("cloud.ply", "frame_0000.ply"):
            content = (tmp_path / name).read_bytes()
            assert content in (b"old" * 300_000, b"new" * 300_000)
        if how != signal.SIGKILL:  # which nobody can answer
            assert {path.name for path in tmp_path.iterdir()} == {"cloud.ply", "frame_0000.ply"}


def test_frames_of_an_earlier_longer_sequence_are_told(tmp_path, caplog):
    splats = CLOUD.to_splats()
    assert len(write_sequence(splats, tmp_path / "cloud.ply", 2)) == 5 and not caplog.messages
    assert len(write_sequence(splats, tmp_path / "cloud.ply", 1)) == 3
    assert "2 files of an earlier sequence are still there, cloud_0003.ply to cloud_0004.ply" in caplog.text


@pytest.mark.skipif(os.name == "nt", reason="links and pipes are others there")
def test_a_signal_waits_until_all_files_are_moved(tmp_path, monkeypatch):
    for name in ("frame_0", "frame_1"):
        (tmp_path / name).write_text("old")
    move = os.replace

    def move_and_interrupt(*places) -> None:
        move(*places)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(os, "replace", move_and_interrupt)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), writing_several(tmp_path / "frame") as folder:
            for name in ("frame_0", "frame_1"):
                (folder / name).write_text("new")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"frame_0": "new", "frame_1": "new"}


def test_what_two_killed_processes_left_is_removed(tmp_path):
    for name in ("cloud.ply.part", "cloud.ply.2.part", "cloud.ply.3.part"):
        (tmp_path / name).write_text("stump")
    (tmp_path / "cloud.ply.2.parts").mkdir()
    (tmp_path / "cloud.ply.2.parts" / "cloud_0007.ply").write_text("stump")
    with replacing(tmp_path / "cloud.ply") as partial:
        partial.write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["cloud.ply"]
