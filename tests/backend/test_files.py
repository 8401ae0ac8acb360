# SPDX-License-Identifier: GPL-3.0-or-later
"""A file is replaced whole or not at all, and nothing is left beside it."""

import pytest

from backend.errors import Cancelled, UserError
from backend.files import replacing, writing


@pytest.mark.parametrize("replace", [replacing, writing])
def test_a_file_is_new_only_once_it_is_whole(tmp_path, replace):
    target = tmp_path / "cloud.ply"
    target.write_text("old")
    with replace(target) as partial:
        partial.write_text("new")
        assert target.read_text() == "old" and partial.parent == tmp_path
    assert target.read_text() == "new" and list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("replace", [replacing, writing])
@pytest.mark.parametrize("stop", [Cancelled, KeyboardInterrupt, ValueError])
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
