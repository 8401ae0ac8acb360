# SPDX-License-Identifier: GPL-3.0-or-later
"""What a batch is told: folders and tables, and the sentences on tables that cannot be used."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from backend.batch.manifest import read_shots
from backend.batch.shots import Shot
from backend.errors import UserError
from backend.options import PortraitOptions, ReconstructOptions

ROWS = [
    {"input": "one", "out": "seq/one", "resolution": 128, "window": 1.5, "centre": "0,1,2"},
    {"input": "clips/head.mp4", "out": "", "offload": True, "box": [1, 2, 30, 40], "every": 2},
    {"input": "two", "out": None, "plates": "empty", "complete": "off", "model": "own/mine.safetensors"},
]
COLUMNS = list(dict.fromkeys(name for row in ROWS for name in row))


def write_csv(folder: Path) -> Path:
    def cell(value) -> str:
        text = "" if value is None else ",".join(map(str, value)) if isinstance(value, list) else str(value)
        return f'"{text}"'

    lines = [",".join(COLUMNS), *(",".join(cell(row.get(name)) for name in COLUMNS) for row in ROWS)]
    (folder / "shots.csv").write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
    return folder / "shots.csv"


def write_jsonl(folder: Path) -> Path:
    (folder / "shots.jsonl").write_text("\n".join(map(json.dumps, ROWS)) + "\n\n", encoding="utf-8")
    return folder / "shots.jsonl"


def write_parquet(folder: Path) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [{name: row.get(name) for name in COLUMNS} for row in ROWS]  # the first row names the columns
    parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "shots.parquet")
    return folder / "shots.parquet"


@pytest.mark.parametrize("write", [write_csv, write_jsonl, pytest.param(write_parquet, marks=pytest.mark.slow)])
def test_tables_of_every_format_say_the_same(tmp_path, write):
    path, out = write(tmp_path), tmp_path / "out"
    given = ReconstructOptions(device="cpu", seed=3)
    one, head, two = read_shots(path, out, {"device": "cpu", "seed": 3})
    assert one == Shot("seq/one", tmp_path / "one", out, replace(given, resolution=128, window=1.5), (0.0, 1.0, 2.0))
    options = PortraitOptions(device="cpu", seed=3, offload=True, box=(1.0, 2.0, 30.0, 40.0), every=2)
    assert head == Shot("head", tmp_path / "clips/head.mp4", out, options)
    assert two.options.plates == tmp_path / "empty" and two.options.complete == "off"
    assert two.options.model == tmp_path / "own/mine.safetensors"


def test_a_folder_holds_a_shot_for_each_capture_photo_and_video(tmp_path):
    for folder in ("b", "a", "out", ".hidden"):
        (tmp_path / folder).mkdir()
    for file in ("b.jpg", "clip.mov", "notes.txt"):
        (tmp_path / file).touch()
    shots = read_shots(tmp_path, tmp_path / "out")
    assert [(shot.name, shot.input.name, type(shot.options)) for shot in shots] == [
        ("a", "a", ReconstructOptions),
        ("b", "b", ReconstructOptions),
        ("b_jpg", "b.jpg", PortraitOptions),
        ("clip", "clip.mov", PortraitOptions),
    ]


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ("input,colour\na,red", "has the column 'colour', which is no option"),
        ("out\na", "row 2: there is no input"),
        ("input,out\na,x\nb,y\nc,x", r"two shots that write 'x' \(row 2 and row 4\)"),
        ("input,out\na,X.safetensors\nc,x", "two shots that write 'x'"),
        ("input,resolution\na,128\nb,large\nc,", "row 3: 'large' is no value of 'resolution'"),
        ("input,steps\na,0", "row 2: 'steps' is a number from 1 to 64"),
        ("input,centre\na,middle", "row 2: 'middle' is not a point"),
        ("input,window\na.jpg,2", "row 2: 'window' is no option of a photo or video"),
        ("input,out\na,../b", "row 2: '../b' is no path below the batch's folder"),
        ("input,out\na,/b", "row 2: '/b' is no path below the batch's folder"),
        ("input,out\na,Summary", "row 2: the output 'Summary' is where the batch's summary goes"),
        ("input,out\na", "row 2 has not as many cells as the header"),
        ("input,out\na,b,c", "row 2 has not as many cells as the header"),
        ("input", "There are no shots in"),
        ("input,seed\n" + "a,x\n" * 9, r"row 2: .* row 6: 'x' is no value of 'seed'; correct it. \(and 4 more\)"),
        ("input\n.", "row 2: its output lies within its input"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_with_its_rows(tmp_path, table, sentence):
    path = tmp_path / "shots.csv"
    path.write_text(table + "\n")
    with pytest.raises(UserError, match=sentence):
        read_shots(path, tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("shots.jsonl", b'{"input": "a"}\n{"input": ', "row 2 is not JSON"),
        ("shots.jsonl", b"[1]", "row 1 is no object"),
        ("shots.csv", b"input\n\xff\xfe\n", "cannot be read"),
        ("shots.parquet", b"PAR1", "cannot be read as Parquet"),
        ("shots.xlsx", b"", "neither a folder of shots nor a table"),
        ("transforms.json", b"{}", "neither a folder of shots nor a table"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path, name, content, sentence):
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        read_shots(tmp_path / name, tmp_path / "out")


def test_a_capture_in_place_of_a_folder_of_captures_is_refused(tmp_path):
    (tmp_path / "transforms.json").touch()
    with pytest.raises(UserError, match="is itself a capture"):
        read_shots(tmp_path, tmp_path / "out")
    with pytest.raises(UserError, match="There are no shots at"):
        read_shots(tmp_path / "nowhere", tmp_path / "out")
