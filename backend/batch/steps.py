# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps of a unit of work, wherever they run: split and decode on a processor, prepare, predict and score on the
device, and write.

Each step of a unit (units.py) is a function of what the step before returned. A step that fails returns a Failure,
which the later ones pass on, so that one broken shot stops no other.
"""

from __future__ import annotations

import functools
import platform
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from PIL import Image

from ..calibrations.load import open_capture, open_take
from ..camera import Camera
from ..capture import Capture, Frame
from ..devices import beside, pick_device
from ..errors import UserError
from ..facelift.pipeline import FaceLift
from ..facelift.weights import FOLDER, FaceLiftWeights, find_weights
from ..files import writing
from ..gaussians import Gaussians4D, load_cloud, save_cloud
from ..lrm4d import LRM4D
from ..models import load_model
from ..options import FACELIFT_MODEL, PortraitOptions, ReconstructOptions
from ..planning import make_plan
from ..portrait.mattes import cut_out_take
from ..portrait.pipeline import Completion, Sitting, read_sitting
from ..reconstruct import Poses, Prepared, compute, prepare
from ..still import Stillness
from ..take import Take, Window, plan_windows
from ..version import read_version
from ..windows import Parts, align_take, fade_window, forget_finished, join_take, put_right
from .failures import Failure, Report, step
from .shots import DONE, FAILED, OPEN, Shot, describe_input, read_record, stamp, state_of, write_record
from .strip import Sight, choose_inputs, draw_strip, look_at, score_inputs
from .units import JOIN, WHOLE, Outcome, Tries, Unit, Unwritable

T = TypeVar("T")


@dataclass
class Decoded:
    """A unit's input in memory: pictures, a person, the path of a photo, or a take's windows; and its sight.

    prepared: of pictures, once that is done.
    """

    unit: Unit
    report: Report
    source: Capture | Sitting | Path | Parts
    window: Window | None = None
    times: Sequence[float] = ()
    sight: Sight | None = None
    prepared: Prepared | None = None


@dataclass
class Predicted:
    """A unit's cloud on any device, and its sight; once it is scored, its cloud on the CPU, and its strip uint8
    [H, W, 3]."""

    unit: Unit
    report: Report
    cloud: Gaussians4D
    sight: Sight | None = None
    strip: np.ndarray | None = None


@functools.lru_cache(maxsize=8)
def _open(shot: Shot, _stamp: str) -> tuple[Take, list[Window], frozenset[Path]]:
    """Open a capture: return its pictures, with mattes once they are read, its windows, and all files that it names."""
    source = open_capture(shot.input)
    files = {picture.path(source.library) for picture in source.shots}
    others = (file for picture in source.shots for file in (picture.view.mask, picture.view.plate))
    files |= {file for file in others if file}
    options = cast(ReconstructOptions, shot.options)
    files |= set(options.plates.iterdir()) if options.plates and options.plates.is_dir() else set()
    take = cut_out_take(open_take(source), options)
    windows = plan_windows(take.cameras, take.times, shot.centre, options.window)
    outside = frozenset(file for file in files if shot.input not in file.parents)
    if len(windows) > 1:
        take.read(windows[0].pictures)  # the first window's pictures decide how all are cut out
    return take, windows, outside


@step("split")
def _split(unit: Unit, report: Report) -> list[Unit]:
    shot = unit.shot
    if unit.number != WHOLE or isinstance(shot.options, PortraitOptions):
        return [unit]
    now = stamp(shot)
    _, windows, _ = _open(shot, now)
    if len(windows) == 1:
        return [Unit(shot, WHOLE, now)]
    parts = tuple(shot.parts / f"window_{number:05}_{now}.safetensors" for number in range(len(windows)))
    missing = [Unit(shot, number, now, parts) for number, path in enumerate(parts) if not path.exists()]
    return missing or [Unit(shot, JOIN, now, parts)]


def split(tries: Tries, unit: Unit) -> list[Unit] | Failure:
    """Return the units that a whole shot consists of: itself, or those windows of a long take that are not finished.

    Where all windows are, it is the unit that joins them.
    """
    return _split(tries, unit, Report())


@step("decode")
def _decode(unit: Unit, report: Report) -> Decoded | Outcome:
    shot, options = unit.shot, unit.shot.options
    if unit.number >= 0 and unit.parts[unit.number].exists():
        return Outcome(unit, DONE, {})
    if unit.number < 0 and state_of(shot) == DONE:
        return Outcome(unit, DONE, read_record(shot) or {})
    if isinstance(options, PortraitOptions):
        report.record.update(describe_input(shot.input))
        if options.model == FACELIFT_MODEL:
            return Decoded(unit, report, shot.input)
        sitting = read_sitting(shot.input, options)
        frames = [
            Frame(bust.camera, float(moment), bust.image, f"{number}")
            for number, (moment, bust) in enumerate(zip(sitting.times, sitting.busts, strict=True))
        ]
        inputs = Capture([frames[number] for number in choose_inputs(len(frames))])
        return Decoded(unit, report, sitting, sight=look_at(inputs, [frames[0].camera], np.zeros(3)))
    take, windows, outside = _open(shot, unit.stamp)
    if unit.number >= 0:
        window = windows[unit.number]
        return Decoded(unit, report, take.read(window.pictures), window)
    report.record.update(describe_input(shot.input, outside), windows=len(windows), pictures=len(take))
    if unit.number == JOIN:
        inputs = take.read(choose_inputs(len(take)))
        parts, sight = _read_parts(unit, take, windows), look_at(inputs, take.cameras, shot.centre)
        return Decoded(unit, report, parts, times=take.times, sight=sight)
    capture = take.read(windows[0].pictures)
    inputs = capture.select(choose_inputs(len(capture.frames)))
    cameras = [frame.camera for frame in capture.frames]
    return Decoded(unit, report, capture, sight=look_at(inputs, cameras, shot.centre))


def _read_parts(unit: Unit, take: Take, windows: Sequence[Window]) -> Parts:
    """Read the clouds of a take's windows, and see in the pictures of one after the other what stands still."""
    stillness = Stillness()
    for window in windows:
        stillness.add(take.read(window.pictures))
    clouds = [load_cloud(path) for path in unit.parts]
    shown = [(cloud, window.middle) for cloud, window in zip(clouds, windows, strict=True) if len(cloud)]
    return Parts([cloud for cloud, _ in shown], [middle for _, middle in shown], stillness)


def decode(tries: Tries, unit: Unit) -> Decoded | Failure | Outcome:
    """Read what a unit's prediction needs into memory; this needs no GPU.

    A process or node that has ended meanwhile may have finished the unit; then its outcome is returned.
    """
    return _decode(tries, unit, Report())


class Predictor:
    """Makes clouds, one after the other, and keeps the last networks that it used; other threads may prepare units."""

    def __init__(self, tries: Tries):
        self._tries = tries
        self._network = _keep(load_model, 2)
        self._portraits = _keep(_make_portraits, 2)
        self._resolution = _keep(self._first_resolution, 64)
        self._right_poses = _keep(self._align, 64)
        self._network_use = threading.Lock()

    def prepare_ahead(self, decoded: Decoded | Failure | Outcome) -> Decoded | Failure | Outcome:
        """Prepare a unit's pictures before its turn; for a processor, `predict` does that itself.

        How much of a processor's memory is free is known only when no other prediction is using it.
        """
        if not isinstance(decoded, Decoded) or pick_device(decoded.unit.shot.options.device).type == "cpu":
            return decoded
        return _prepare(self._tries, decoded.unit, decoded.report, decoded, self)

    def predict(self, decoded: Decoded | Failure | Outcome) -> Predicted | Failure | Outcome:
        """Make a unit's cloud."""
        if isinstance(decoded, Decoded) and decoded.prepared is None:
            decoded = cast(Decoded | Failure, _prepare(self._tries, decoded.unit, decoded.report, decoded, self))
        if not isinstance(decoded, Decoded):
            return decoded
        return _predict(self._tries, decoded.unit, decoded.report, decoded, self)

    def prepare(self, decoded: Decoded) -> Prepared | None:
        """Prepare a unit's pictures; return None if its input is none.

        Raises:
            UserError: as reconstruct.prepare.
        """
        shot, options = decoded.unit.shot, decoded.unit.shot.options
        if isinstance(options, PortraitOptions) or not isinstance(decoded.source, Capture):
            return None
        capture = decoded.source
        if decoded.window is not None:
            capture = put_right(capture, self._right_poses(shot, decoded.unit.stamp))
            if options.resolution is None:
                options = replace(options, resolution=self._resolution(shot, decoded.unit.stamp))
        return prepare(capture, options, self._load(options), shot.centre)

    def cloud(self, decoded: Decoded) -> Gaussians4D:
        """Return the cloud of a unit's input, on any device.

        Raises:
            UserError: as reconstruct.reconstruct.
        """
        source: Any = decoded.source
        prepared = decoded.prepared
        if isinstance(source, Parts):
            source.stillness.put_right(self._right_poses(decoded.unit.shot, decoded.unit.stamp))
            return join_take(source, decoded.times, decoded.unit.shot.options.device)
        with self._network_use:
            if prepared is None:
                pipeline = self._portraits(decoded.unit.shot.options)
                return (pipeline.complete(source) if isinstance(pipeline, Completion) else pipeline.run(source)).cloud
            if decoded.window is None:
                return compute(prepared)
            cloud = fade_window(functools.partial(compute, prepared), decoded.window, prepared.plan.device)
            return _nothing() if cloud is None else cloud

    def _load(self, options: ReconstructOptions) -> LRM4D:
        return self._network(options.model, pick_device(options.device))

    def _align(self, shot: Shot, now: str) -> Poses:
        """Return the right poses of a take's cameras; while it finds them, it predicts nothing else."""
        take, _, _ = _open(shot, now)
        options = cast(ReconstructOptions, shot.options)
        with self._network_use:
            return align_take(take, options, self._load(options), shot.centre)[0]

    def _first_resolution(self, shot: Shot, now: str) -> int:
        """Return the resolution that the first window of a take decides on for all."""
        take, windows, _ = _open(shot, now)
        options = cast(ReconstructOptions, shot.options)
        return make_plan(take.read(windows[0].pictures), options, self._load(options), shot.centre).resolution


def _keep(function: Callable[..., T], count: int) -> Callable[..., T]:
    """Return a function that keeps its last results; a thread waits for what another one is making."""
    kept, lock = functools.lru_cache(count)(function), threading.Lock()

    def call(*arguments: Any) -> T:
        with lock:
            return kept(*arguments)

    return call


@step("prepare")
def _prepare(_unit: Unit, _report: Report, decoded: Decoded, predictor: Predictor) -> Decoded:
    return replace(decoded, prepared=predictor.prepare(decoded))


@step("predict")
def _predict(unit: Unit, report: Report, decoded: Decoded, predictor: Predictor) -> Predicted:
    cloud = predictor.cloud(decoded)
    report.record["gaussians"] = len(cloud)
    device = pick_device(unit.shot.options.device)
    report.record["device"] = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return Predicted(unit, report, cloud, decoded.sight)


@step("score")
def _score(unit: Unit, report: Report, predicted: Predicted) -> Predicted:
    sight, strip, device = predicted.sight, None, pick_device(unit.shot.options.device)
    with beside(device):
        if sight is not None:
            there = predicted.cloud.to(device)
            report.record |= score_inputs(there, sight)
            report.record["camera"] = _describe_camera(sight.inputs.frames[0].camera)
            strip = draw_strip(there, sight)
        return Predicted(unit, report, predicted.cloud.to("cpu"), strip=strip)


def score(tries: Tries, predicted: Predicted | Failure | Outcome) -> Predicted | Failure | Outcome:
    """Find the scores and draw the strip of a shot, and bring its cloud to the CPU."""
    if not isinstance(predicted, Predicted):
        return predicted
    return _score(tries, predicted.unit, predicted.report, predicted)


def write(predicted: Predicted | Failure | Outcome, sharing: int = 1) -> Outcome:
    """Write what a unit has come to, each file whole; the record of a shot is the last.

    sharing: how many processes use the GPU. What may have failed because others use memory too is left open.

    Raises:
        Unwritable: the disk is full or the folder cannot be written.
    """
    if isinstance(predicted, Outcome):
        return predicted
    unit, report = predicted.unit, predicted.report
    if sharing > 1 and isinstance(predicted, Failure) and predicted.again:
        return Outcome(unit, OPEN, {})
    shot, started = unit.shot, time.perf_counter()
    record = report.record | {"warnings": report.warnings, "seconds": report.seconds, "versions": versions()}
    record["sharing"] = sharing
    try:
        shot.record.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(predicted, Failure):
            record |= {"state": FAILED, "error": predicted.sentence, "details": predicted.details}
            record = describe_input(shot.input) | record
            write_record(shot, record)
            return Outcome(unit, FAILED, record)
        if unit.number >= 0:
            path = unit.parts[unit.number]
            path.parent.mkdir(exist_ok=True)
            save_cloud(predicted.cloud, path)
            return Outcome(unit, DONE, record)
        save_cloud(predicted.cloud, shot.cloud)
        if predicted.strip is not None:
            with writing(shot.strip) as partial:
                Image.fromarray(predicted.strip).save(partial, "JPEG", quality=90)
        report.seconds["write"] = round(time.perf_counter() - started, 4)
        record |= {"state": DONE, "error": None, "bytes_out": shot.cloud.stat().st_size}
        write_record(shot, record)
        forget_finished(shot.parts)
        return Outcome(unit, DONE, record)
    except (UserError, OSError) as error:
        raise Unwritable(str(error)) from None


def versions() -> dict[str, str]:
    """Return what made a cloud, for its record."""
    return {
        "facet4d": read_version(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": platform.node(),
    }


def _make_portraits(options: PortraitOptions) -> Completion | FaceLift:
    if options.model != FACELIFT_MODEL:
        return Completion(options)

    def weights(parts: Collection[str]) -> FaceLiftWeights:
        here = find_weights(options.weights or FOLDER, parts)
        if here is None:
            raise UserError("FaceLift's weights are not here; get them by 'python -m backend portrait' with one photo.")
        return here

    return FaceLift(weights, options)


def _describe_camera(camera: Camera) -> dict[str, Any]:
    """Return a camera's fields for JSON, so that others can look at the cloud from where an input was taken."""
    return asdict(camera) | {"camera_to_world": camera.camera_to_world.tolist()}


def _nothing() -> Gaussians4D:
    """Return an empty cloud."""
    four = torch.zeros(0, 4)
    return Gaussians4D(four, four, four, four, torch.zeros(0), torch.zeros(0, 3))
