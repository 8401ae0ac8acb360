# SPDX-License-Identifier: GPL-3.0-or-later
"""Sets the time of each picture: from the calibration, a table, the movie, or the picture's name."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import PurePosixPath

import numpy as np

from ..errors import UserError
from ..import_options import ImportOptions
from ..wording import counted, list_some
from .calibration import Finding, View
from .pictures import Library
from .shots import STILL, Shot, camera_name
from .times import TimeTable, exact_rate, frame_numbers, read_table, seconds_in_names, timecode_seconds

LONGEST = 86_400.0  # seconds of a clip: a day
JOINTS = "/_-. "  # between the parts of names
UNEVEN = 0.2  # of a frame's duration: a movie whose frames differ by more has a variable rate


def set_times(
    shots: list[Shot], views: Sequence[View], library: Library, options: ImportOptions
) -> tuple[list[Shot], list[Finding]]:
    """Return the shots that the options choose with their times, in their order, and what is odd about these.

    views: all that are calibrated, also those without pictures.

    Raises:
        UserError: it cannot be told when a picture was taken; the message says what to give.
    """
    rate = exact_rate(options.fps) if options.fps else None
    table = read_table(options.times, rate) if options.times else TimeTable()
    named = {*table.offsets, *(camera for camera, _ in table.frames)}
    findings: list[Finding] = []
    if named:
        shots = _name_cameras(shots, findings)
    if unknown := sorted(named - {*map(camera_name, views)} - (known := {shot.camera for shot in shots})):
        raise UserError(
            f"{options.times} names camera '{unknown[0]}', but the cameras with pictures are "
            f"{list_some(sorted(known))}; correct the name, restore its pictures, or take it out of the table."
        )
    starts = _movie_starts(shots, library, table, rate, findings)
    timed, untimed = [], []
    for shot in shots:
        seconds = shot.view.time if shot.alone else None
        if seconds is None:
            seconds = _stored_time(shot, library, table, starts)
        (untimed if seconds is None else timed).append(shot.at(math.nan if seconds is None else seconds))
    findings += [*_uneven_movies(shots, library), *_strangers(table, shots)]
    if timed and untimed:
        raise UserError(
            f"{counted(len(timed), 'picture has', 'pictures have')} a time but "
            f"{counted(len(untimed), 'has', 'have')} none, such as {untimed[0].file}; give all times with --times."
        )
    if untimed:
        timed = _times_of_pictures(untimed, table, rate, findings)
    chosen = _count_from_first(_choose(timed, options), findings)
    return chosen, findings + _far_times(chosen) + _cameras_apart(chosen)


def _stored_time(shot: Shot, library: Library, table: TimeTable, starts: dict[str, float]) -> float | None:
    """Return when a picture was taken by the table, or by its movie; None if neither tells."""
    if shot.frame is None:
        return table.of_picture(shot.file)
    if (seconds := table.frames.get((shot.camera, shot.frame))) is not None:
        return seconds
    return library.movie(shot.file).times[shot.frame] + starts[shot.file]


def _strangers(table: TimeTable, shots: list[Shot]) -> list[Finding]:
    """Return whether a table has times of pictures that there are not."""
    known = {name for shot in shots for name in TimeTable.names_of(shot.file)} if table.pictures else set()
    unknown = [picture for picture in table.pictures if picture not in known]
    if not unknown:
        return []
    return [
        Finding(
            f"The table of times names {counted(len(unknown), 'picture that is', 'pictures that are')} not there: "
            f"{list_some(unknown)}.",
            "Restore them or correct their names, or go on without them.",
        )
    ]


def _movie_starts(
    shots: list[Shot], library: Library, table: TimeTable, rate: Fraction | None, findings: list[Finding]
) -> dict[str, float]:
    """Return when each movie begins, in seconds: by the table's offsets, else by timecode if all movies have one; if
    only some have one, that is added to the findings."""
    cameras = {shot.file: shot.camera for shot in shots if shot.frame is not None}
    if table.offsets:
        return {file: table.offsets.get(camera, 0.0) for file, camera in cameras.items()}
    without = [file for file in cameras if library.movie(file).timecode is None]
    if without:
        if len(without) < len(cameras):
            findings.append(
                Finding(
                    f"{len(without)} of {len(cameras)} movies {'has' if len(without) == 1 else 'have'} no timecode, "
                    f"so all are read as if they began at once: {list_some(without)}.",
                    "If they did not, give the cameras' offsets in a table with --times.",
                )
            )
        return dict.fromkeys(cameras, 0.0)
    codes = {}
    for file in cameras:
        movie = library.movie(file)
        codes[file] = timecode_seconds(movie.timecode or "", rate or movie.rate, f"'{file}'")
    first = min(codes.values(), default=0.0)
    return {file: seconds - first for file, seconds in codes.items()}


def _cameras_apart(shots: list[Shot]) -> list[Finding]:
    """Return whether cameras that filmed did so when most others had not begun or were done."""
    films: dict[str, list[float]] = defaultdict(list)
    for shot in shots:
        if not shot.alone:  # else it is one of many pictures, each calibrated by itself
            films[shot.camera].append(shot.time)
    spans = {camera: (min(times), max(times)) for camera, times in films.items() if len(times) > 1}
    if len(spans) < 2:
        return []
    begin, end = np.median(list(spans.values()), axis=0)
    apart = [camera for camera, (first, last) in spans.items() if not (first < end and last > begin)]
    if not apart:
        return []
    first, last = spans[apart[0]]
    return [
        Finding(
            f"{len(apart)} of {len(spans)} cameras {'films' if len(apart) == 1 else 'film'} from {first:.3g} to "
            f"{last:.3g} s, when most do so from {begin:.3g} to {end:.3g} s: {list_some(apart)}.",
            "Correct their timecodes, or their times or offsets in the table.",
        )
    ]


def _uneven_movies(shots: list[Shot], library: Library) -> list[Finding]:
    findings = []
    for file in dict.fromkeys(shot.file for shot in shots if shot.frame is not None):
        steps = np.diff(library.movie(file).times)
        if len(steps) and np.ptp(steps) > UNEVEN * np.median(steps):
            findings.append(
                Finding(
                    f"The frames of {file} last {1000 * steps.min():.1f} to {1000 * steps.max():.1f} ms: its rate "
                    "varies or frames were dropped.",
                    "The times of its frames are used as they are stored; check them if the movie was converted.",
                )
            )
    return findings


def _times_of_pictures(
    shots: list[Shot], table: TimeTable, rate: Fraction | None, findings: list[Finding]
) -> list[Shot]:
    """Return pictures with the times that their names or the calibration's frame numbers tell."""
    if seconds := seconds_in_names([shot.file for shot in shots], rate):
        return [shot.at(time) for shot, time in zip(shots, seconds, strict=True)]
    is_counted = table.frames or rate or len({shot.view.frame for shot in shots}) > 1
    if not is_counted and all(shot.alone for shot in shots):
        if _several_at_one_place(shots):
            findings.append(
                Finding(
                    f"Nothing tells when the {counted(len(shots), 'picture was', 'pictures were')} taken, so they are "
                    "read as one moment.",
                    "If the subject moved, give the frames a second of their numbers with --fps, or a table with "
                    "--times.",
                )
            )
        return [shot.at(0.0) for shot in shots]
    if not rate and not table.frames:
        crowd = next((shot for shot in shots if not shot.alone), shots[0])
        raise UserError(
            f"Camera '{crowd.camera}' took several pictures, such as {crowd.file}, but nothing tells when; give the "
            "frames a second of their numbers with --fps, or a table with --times."
        )
    shots = _name_cameras(shots, findings)
    numbers = _numbers(shots, findings)
    first = min(numbers)
    result = []
    for shot, number in zip(shots, numbers, strict=True):
        time = table.frames.get((shot.camera, number))
        if time is None and not rate:
            raise UserError(f"The table of times lacks frame {number} of camera '{shot.camera}'; add it or give --fps.")
        time = float((number - first) / (rate or 1)) + table.offsets.get(shot.camera, 0.0) if time is None else time
        result.append(shot.at(time))
    return result


def _numbers(shots: list[Shot], findings: list[Finding]) -> list[int]:
    """Return the frame number of each shot; frames that a camera or all cameras lack are added to the findings."""
    groups: dict[str, list[int]] = defaultdict(list)
    for index, shot in enumerate(shots):
        groups[shot.camera].append(index)
    result = [0] * len(shots)
    for camera, members in groups.items():
        own = [shots[index].view.frame for index in members]
        known = [number for number in own if number is not None]
        numbers = known if len(known) == len(own) else frame_numbers([shots[index].file for index in members], camera)
        for index, number in zip(members, numbers, strict=True):
            result[index] = number
    every = set(result)
    for camera, members in groups.items():
        if missing := every - {result[index] for index in members}:
            findings.append(
                Finding(
                    f"Camera '{camera}' lacks {len(missing)} of {len(every)} frames, such as {min(missing)}.",
                    "Nothing is to be done; the other cameras fill in. Restore the pictures if they are only lost.",
                )
            )
    findings += _dropped_frames(result)
    return result


def _dropped_frames(numbers: list[int]) -> list[Finding]:
    """Return whether frames are missing between the others, of all cameras."""
    every = np.unique(numbers)
    steps = np.diff(every)
    usual = min(steps, default=0)
    gaps = np.flatnonzero(steps > usual)
    if not len(gaps) or 2 * len(gaps) >= len(steps):  # else too few tell what is usual
        return []
    count, first = int((steps[gaps] // usual - 1).sum()), every[gaps[0]] + usual
    return [
        Finding(
            f"No camera has {count} of {count + len(every)} frames, such as {first}.",
            "Nothing is to be done; the times of the others are right. Restore the pictures if they are only lost.",
        )
    ]


def _name_cameras(shots: list[Shot], findings: list[Finding]) -> list[Shot]:
    """Return the shots with the names of their cameras, where pictures are calibrated each by itself and have no frame.

    A camera's pictures have one name but for the number that counts frames. Which of several numbers does is told by
    the poses: without it, the pictures of one name were taken at one place.

    Raises:
        UserError: the numbers of the names differ in count, or no number leaves cameras that stand still.
    """
    apart = [index for index, shot in enumerate(shots) if shot.named and shot.view.frame is None]
    if len(apart) < len(shots) and len({shots[index].camera for index in apart}) == len(apart):
        return shots  # they are called as cameras, of which others took several pictures
    result = [*shots]
    for camera, members in _gather_by_place([shots[index] for index in apart], findings).items():
        for member in members:
            result[apart[member]] = replace(shots[apart[member]], camera=camera)
    return result


def _gather_by_place(shots: list[Shot], findings: list[Finding]) -> dict[str, list[int]]:
    """Return the numbers of the shots of each camera, see _name_cameras."""
    places = np.stack([shot.view.camera_to_world[:3, 3] for shot in shots])
    size = float(np.linalg.norm(places - places.mean(0), axis=1).max()) or 1.0
    names = [re.split(r"(\d+)", PurePosixPath(shot.file).with_suffix("").as_posix()) for shot in shots]
    fitting = []
    for column in range(1, min(map(len, names)), 2):
        groups: dict[str, list[int]] = defaultdict(list)
        for index, parts in enumerate(names):
            before, after = "".join(parts[:column]), "".join(parts[column + 1 :])
            groups[f"{before.rstrip(JOINTS)}{after}".strip(JOINTS)].append(index)
        if max(map(len, groups.values())) > 1:
            spread = max(float(np.ptp(places[members], axis=0).max()) for members in groups.values())
            fitting.append((spread, groups))
    still = [groups for spread, groups in fitting if spread <= STILL * size]
    if len(still) == 1:
        return still[0]
    if len(fitting) == 1:
        findings.append(
            Finding(
                f"The numbers of the pictures, such as {shots[0].file}, are taken for frames of a camera that moved.",
                "Leave out --fps if they count cameras.",
            )
        )
        return fitting[0][1]
    raise UserError(
        f"It cannot be told which number in the names of the pictures, such as {shots[0].file}, counts the frames; "
        "give a table of times with --times."
    )


def _several_at_one_place(shots: Sequence[Shot]) -> bool:
    poses = np.stack([shot.view.camera_to_world[:3] for shot in shots])
    size = float(np.linalg.norm(poses[:, :, 3] - poses[:, :, 3].mean(0), axis=1).max()) or 1.0
    poses[:, :, 3] /= size
    return len(np.unique((poses / STILL).round().reshape(len(poses), -1), axis=0)) < len(poses)


def _count_from_first(shots: list[Shot], findings: list[Finding]) -> list[Shot]:
    """Return the shots with their times, counted from the first one's where single precision could not tell them apart.

    That, and a clip too long for seconds, is added to the findings.
    """
    times = [shot.time for shot in shots]
    first, last = min(times), max(times)
    if last - first > LONGEST:
        findings.append(
            Finding(
                f"The pictures were taken over {(last - first) / LONGEST:.3g} days, if their times are seconds.",
                "If they are not, correct them.",
            )
        )
    if not max(abs(first), abs(last)) > 1e5 * (last - first) > 0:
        return shots
    findings.append(
        Finding(
            f"The clock of the pictures stands at {first:.0f} s, so their times are counted from the first one.",
            "Nothing is to be done.",
        )
    )
    return [shot.at(shot.time - first) for shot in shots]


def _far_times(shots: list[Shot]) -> list[Finding]:
    """Return which pictures were taken long before or after most others."""
    times = np.array([shot.time for shot in shots])
    away = np.abs(times - np.median(times))
    usual = np.quantile(away, 0.9)
    far = [shot.name for shot, distance in zip(shots, away, strict=True) if distance > 100 * usual > 0]
    if not far:
        return []
    return [
        Finding(
            f"{counted(len(far), 'picture was', 'pictures were')} taken more than {100 * usual:g} s away "
            f"from the others: {list_some(far)}.",
            "Correct their times, or leave them out.",
        )
    ]


def _choose(shots: list[Shot], options: ImportOptions) -> list[Shot]:
    """Return the shots of the chosen part of the clip."""
    moments: dict[str, set[float]] = defaultdict(set)  # of each camera that took several pictures
    for shot in shots:
        moments["" if shot.alone else shot.view.name].add(shot.time)
    ranks = {camera: {time: rank for rank, time in enumerate(sorted(times))} for camera, times in moments.items()}
    chosen = [
        shot
        for shot in shots
        if ranks["" if shot.alone else shot.view.name][shot.time] % options.every == 0
        and (not options.start or options.start <= shot.time)
        and (not options.end or shot.time <= options.end)
    ]
    if not chosen:
        raise UserError(f"No picture was taken between {options.start:g} and {options.end:g} s; choose another part.")
    return chosen
