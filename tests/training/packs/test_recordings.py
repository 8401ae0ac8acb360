# SPDX-License-Identifier: GPL-3.0-or-later
import numpy as np
import pytest

from backend.errors import UserError
from backend.training.packs.recordings import make

HEADER = "Timecode,BlendShapeCount,EyeBlinkLeft,JawOpen\n"


def write(folder, take, *lines):
    (folder / take).mkdir(parents=True)
    (folder / take / f"MySlate_{take}_iPhone.csv").write_text(HEADER + "".join(f"{line}\n" for line in lines))


def test_takes_hold_every_frame_s_weights(tmp_path):
    write(tmp_path, "alex_rom_3", "00:00:01:02.5,2,0.25,1.5", "00:00:01:03.5,2", "00:00:01:04.5,2,0.5,-0.5")
    write(tmp_path, "Alex_ROM_4", "00:00:01:02.5,2,0,1")
    pack = make(tmp_path)
    assert list(pack["names"]) == ["EyeBlinkLeft", "JawOpen"]
    assert pack["alex_rom_3"].tolist() == [[0.25, 1.5], [0.5, -0.5]]  # a line without a face is left out
    assert pack["alex_rom_4"].dtype == np.float16


def test_a_cut_line_and_a_missing_take_are_named(tmp_path):
    write(tmp_path, "alex_rom_3", "00:00:01:02.5,2,0.25,1.5", "00:00:01:03.5,2,0.5")
    with pytest.raises(UserError, match=r"Line 3 of .*alex_rom_3_iPhone\.csv is not a frame of 2 channels"):
        make(tmp_path)
    (tmp_path / "alex_rom_3/MySlate_alex_rom_3_iPhone.csv").write_text(HEADER)
    with pytest.raises(UserError, match="no CSV file of the take alex_rom_4"):
        make(tmp_path)
