# SPDX-License-Identifier: GPL-3.0-or-later
"""When pictures were taken: from the numbers in their names, from timecode, or from a table."""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path, PurePosixPath

from ..errors import UserError
from ..files import read_file
from ..wording import counted

NTSC = tuple(Fraction(1000 * rate, 1001) for rate in (24, 30, 60))
_SECONDS = re.compile(r"(?<![\d.])(\d+\.\d+) ?s(?![^\W_])")
_TIMECODE = re.compile(r"(?<!\d)(\d{2})([:.-])(\d{2})\2(\d{2})[:;.-](\d{2})(?!\d)")


@dataclass
class TimeTable:
    """The times of a table in seconds: of pictures by their paths, of (camera, frame), and cameras' offsets."""

    pictures: dict[str, float] = field(default_factory=dict)
    frames: dict[tuple[str, int], float] = field(default_factory=dict)
    offsets: dict[str, float] = field(default_factory=dict)

    def of_picture(self, file: str) -> float | None:
        """Return the time of a picture, by its path or its name, with or without ending."""
        if not self.pictures:
            return None
        return next((self.pictures[name] for name in self.names_of(file) if name in self.pictures), None)

    @staticmethod
    def names_of(file: str) -> tuple[str, ...]:
        """Return what a table may call the picture of a path."""
        path = PurePosixPath(file)
        return file, path.with_suffix("").as_posix(), path.name, path.stem


def read_table(path: Path, rate: float | Fraction | None) -> TimeTable:
    """Read a CSV file whose header is `picture,time`, `camera,frame,time` or `camera,offset`; several rows each.

    A time or offset is in seconds or a timecode, which needs the rate in frames a second.

    Raises:
        UserError: the file is missing or malformed; the message names the line.
    """
    try:
        text = read_file(path).decode("utf-8-sig")
        delimiter = ";" if ";" in text.partition("\n")[0] else ","
        rows = [[cell.strip() for cell in row] for row in csv.reader(text.splitlines(), delimiter=delimiter)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"The table of times {path} cannot be read ({error}); save it as a CSV file.") from None
    head = [cell.lower() for cell in rows[0]] if rows else []
    if head not in (["picture", "time"], ["camera", "frame", "time"], ["camera", "offset"]):
        raise UserError(
            f"The first line of {path} is '{','.join(head):.60}'; begin it with picture,time or camera,frame,time or "
            "camera,offset."
        )
    table = TimeTable()
    for line, row in enumerate(rows[1:], 2):
        if not any(row):
            continue
        if len(row) != len(head):
            raise UserError(
                f"Line {line} of {path} has {counted(len(row), 'value')} instead of {len(head)}; correct it."
            )
        seconds = _read_time(row[-1], rate, f"line {line} of {path}")
        if head[0] == "picture":
            table.pictures[row[0].replace("\\", "/")] = seconds
        elif head[-1] == "offset":
            table.offsets[row[0]] = seconds
        elif row[1].isdecimal():
            table.frames[row[0], int(row[1])] = seconds
        else:
            raise UserError(f"The frame '{row[1]}' in line {line} of {path} is not a whole number; correct it.")
    return table


def _read_time(text: str, rate: float | Fraction | None, where: str) -> float:
    if match := _TIMECODE.fullmatch(text):
        return timecode_seconds(match[0], rate, where)
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds):
        raise UserError(f"The time '{text}' in {where} is neither seconds nor a timecode 01:02:03:04; correct it.")
    return seconds


def exact_rate(rate: float | Fraction) -> Fraction:
    """Return a rate in frames a second as it is meant: 29.97 stands for 30000/1001."""
    return next((value for value in NTSC if abs(rate - value) < 2e-3), Fraction(rate))


def timecode_seconds(timecode: str, rate: float | Fraction | None, where: str) -> float:
    """Return the seconds of a timecode HH:MM:SS:FF; with a semicolon before FF, it drops frame numbers (SMPTE 12M).

    Raises:
        UserError: it is malformed, or the rate in frames a second is not known.
    """
    match = _TIMECODE.fullmatch(timecode)
    if not match:
        raise UserError(f"'{timecode}' in {where} is not a timecode; write it as 01:02:03:04.")
    if not rate:
        raise UserError(f"The timecode {timecode} in {where} needs a rate; give it with --fps.")
    hours, minutes, seconds, frames = (int(match[group]) for group in (1, 3, 4, 5))
    exact = exact_rate(rate)
    counted = round(exact)  # frame numbers in a second of timecode
    if frames >= counted:
        raise UserError(
            f"The timecode {timecode} in {where} has no frame {frames} at {float(rate):g} a second; correct one."
        )
    number = ((hours * 60 + minutes) * 60 + seconds) * counted + frames
    if ";" in timecode:
        minutes += 60 * hours
        number -= counted // 15 * (minutes - minutes // 10)
    return float(number / exact)


def seconds_in_names(files: Sequence[str], rate: float | Fraction | None) -> list[float] | None:
    """Return the times that all the names tell, as seconds (0.50s) or as timecode (01-02-03-04); None if one does not.

    Raises:
        UserError: see timecode_seconds.
    """
    stems = [PurePosixPath(file).stem for file in files]
    if all(matches := [_SECONDS.search(stem) for stem in stems]):
        return [float(match[1]) for match in matches if match]
    if all(matches := [_TIMECODE.search(stem) for stem in stems]):
        return [
            timecode_seconds(match[0], rate, f"'{file}'") for match, file in zip(matches, files, strict=True) if match
        ]
    return None


def frame_numbers(files: Sequence[str], camera: str) -> list[int]:
    """Return the frame numbers of one camera's pictures: the one number in their paths that differs between them.

    Raises:
        UserError: no number differs, or several do in unlike ways.
    """
    numbers = [tuple(map(int, re.findall(r"\d+", str(PurePosixPath(file).with_suffix(""))))) for file in files]
    if len(files) == 1:
        return [numbers[0][-1] if numbers[0] else 0]
    usual = Counter(map(len, numbers)).most_common(1)[0][0]
    if odd := [file for file, row in zip(files, numbers, strict=True) if len(row) != usual]:
        alike = next(file for file, row in zip(files, numbers, strict=True) if len(row) == usual)
        raise UserError(
            f"The name of {odd[0]}, a picture of camera '{camera}', is unlike those of the others, such as {alike}, "
            "whose numbers count frames; rename it, take it away, or give a table of times with --times."
        )
    columns = set()
    if usual:
        columns = {column for column in zip(*numbers, strict=True) if len(set(column)) == len(files)}
    if len(columns) != 1:
        what = "several numbers" if columns else "no number"
        raise UserError(
            f"The pictures of camera '{camera}', such as {files[0]} and {files[1]}, have {what} in their names that "
            "could count frames; give a table of times with --times."
        )
    return list(columns.pop())
