# SPDX-License-Identifier: GPL-3.0-or-later
"""A batch on a Ray cluster: decoding on processors, actors for each GPU, and writing, as one stream of Ray Data.

All nodes must see the inputs, the batch's folder and this checkout at the same paths. What a node that is lost had in
work is done again on another one. What it has written already stays: a step that finds a shot finished passes it on.
"""

from __future__ import annotations

import functools
import logging
import os
import pickle
import socket
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..logs import Strict, attach
from .sharing import run_together, take_share
from .stages import SWITCH
from .units import OnOutcome, Tries, Unit, Unwritable

SECONDS = 10  # that a cluster may take to answer
CALLS = 3  # of an actor at once: one prepares, one predicts, one scores
LIGHT, DECODING = 0.5, 0.75  # of a processor; they also wait for disks. Steps of one share would be run as one


def run_on_ray(units: Sequence[Unit], tries: Tries, address: str, on_outcome: OnOutcome, strict: bool = False) -> None:
    """Run units on a cluster until all are finished; see local.run_locally.

    address: the cluster's, as for ray.init; empty for that of RAY_ADDRESS, or else for this machine.

    Raises:
        UserError: the cluster does not answer, or the batch's folder cannot be written.
    """
    import ray

    started = not ray.is_initialized()
    if started:
        _connect(address)
    try:
        run_together(functools.partial(_run_all, strict), units, tries, on_outcome)
    finally:
        if started:
            ray.shutdown()


def _run_all(strict: bool, units: Sequence[Unit], tries: Tries, on_outcome: OnOutcome, sharing: int) -> None:
    """Run units until all are finished; see `_run`."""
    while units:  # windows first, and then the units that join them
        units = _run(units, tries, on_outcome, strict, sharing)


def _connect(address: str) -> None:
    """Find a cluster, or start one on this machine.

    Raises:
        UserError: it does not answer within SECONDS.
    """
    import ray

    address = address or os.environ.get("RAY_ADDRESS", "")
    if address not in ("", "auto", "local") and not _answers(address):
        raise _silent(address)
    environment = {"PYTHONPATH": str(Path(__file__).parents[2])}
    try:
        ray.init(
            address=address or None,
            runtime_env={"env_vars": environment},
            logging_level=logging.WARNING,
            log_to_driver=False,
        )
    except (ConnectionError, RuntimeError, TimeoutError, ValueError):
        raise _silent(address) from None


def _answers(address: str) -> bool:
    """Return whether a server of HTTP/2 answers at host:port, as that of a cluster does; Ray would wait for ever."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=SECONDS) as connection:
            connection.settimeout(SECONDS)
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
            return connection.recv(9)[3:4] == b"\4"  # SETTINGS (RFC 9113, 3.4)
    except (OSError, ValueError, OverflowError):
        return False


def _silent(address: str) -> UserError:
    return UserError(f"No Ray cluster answers at '{address}'; start it, or correct the address (host:port).")


def _run(units: Sequence[Unit], tries: Tries, on_outcome: OnOutcome, strict: bool, sharing: int) -> list[Unit]:
    """Run units, and return those that have to follow them; sharing: at most so many actors for each GPU."""
    import ray
    import ray.data

    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    gpus = int(ray.cluster_resources().get("GPU", 0))
    if len(units) <= gpus or not gpus:
        sharing = 1
    nodes = sum(node["Alive"] and node["Resources"].get("CPU", 0) >= 1 for node in ray.nodes())
    # Ray would reserve a processor for each actor of a GPU, and with few none would be left that decode
    needs: dict[str, Any] = {"num_gpus": 1 / sharing, "num_cpus": 0} if gpus else {"num_cpus": 1}
    needs["compute"] = ray.data.ActorPoolStrategy(
        min_size=1,
        max_size=max(sharing * gpus or nodes, 1),
        initial_size=min(sharing * gpus, len(units)) or 1,  # Ray adds others only once these have a backlog
        max_concurrent_calls_per_actor=CALLS,
        enable_true_multi_threading=True,
    )
    rows = [{"unit": pickle.dumps(unit)} for unit in units]
    settings = {"tries": tries, "strict": strict}
    source: Any = ray.data.from_items(rows, override_num_blocks=len(rows))
    stream = (
        source.flat_map(_split, fn_kwargs=settings, num_cpus=LIGHT)
        .map(_decode, fn_kwargs=settings, num_cpus=DECODING)
        .map(_Predict, fn_constructor_kwargs={**settings, "sharing": sharing}, **needs)
        .map(_write, fn_kwargs={"sharing": sharing}, num_cpus=LIGHT)
    )
    following: list[Unit] = []
    for row in stream.iter_rows():
        outcome = pickle.loads(row["outcome"])
        if isinstance(outcome, Unwritable):
            raise UserError(f"{outcome} The batch stops; the same command goes on from here.")
        following += on_outcome(outcome)
    return following


@functools.cache  # once in each process
def _listen(strict: bool) -> None:
    attach(*([Strict()] if strict else [logging.NullHandler()]))


def _split(row: dict[str, bytes], tries: Tries, strict: bool) -> list[dict[str, bytes]]:
    from .failures import Failure
    from .steps import split

    _listen(strict)
    units = split(tries, pickle.loads(row["unit"]))
    return [{"unit": pickle.dumps(unit)} for unit in ([units] if isinstance(units, Failure) else units)]


def _decode(row: dict[str, bytes], tries: Tries, strict: bool) -> dict[str, bytes]:
    from .steps import decode

    _listen(strict)
    unit = pickle.loads(row["unit"])
    return {"decoded": pickle.dumps(decode(tries, unit) if isinstance(unit, Unit) else unit)}


class _Predict:
    """An actor of a GPU; of its threads, one at a time predicts."""

    def __init__(self, tries: Tries, strict: bool, sharing: int):
        from .steps import Predictor

        _listen(strict)
        sys.setswitchinterval(SWITCH)
        take_share(sharing)
        self._tries, self._predictor, self._predicting = tries, Predictor(tries), threading.Lock()

    def __call__(self, row: dict[str, bytes]) -> dict[str, bytes]:
        from .steps import score

        try:
            decoded = self._predictor.prepare_ahead(pickle.loads(row["decoded"]))
            with self._predicting:
                predicted = self._predictor.predict(decoded)
            return {"predicted": pickle.dumps(score(self._tries, predicted))}
        except Exception:  # its GPU cannot be used any more; Ray starts another actor
            traceback.print_exc()
            os._exit(1)


def _write(row: dict[str, bytes], sharing: int) -> dict[str, bytes]:
    from .steps import write

    try:
        return {"outcome": pickle.dumps(write(pickle.loads(row["predicted"]), sharing))}
    except Unwritable as error:
        return {"outcome": pickle.dumps(error)}
