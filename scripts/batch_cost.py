# SPDX-License-Identifier: GPL-3.0-or-later
"""Says what shots cost, by the summary of a batch, and what many more of them would take on other machines.

    python -m scripts.batch_cost out/summary.json --shots 100000 --gpus 64 --cores 16 --disk 2

The work of a shot flows through five places: processors decode and prepare it, a GPU computes it, a thread beside it
scores it, and the disk that all machines share reads and writes it. The slowest place sets the pace of a long batch.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import NamedTuple


class Cost(NamedTuple):
    """What one shot takes on average: seconds of the processors ahead of the GPU, of the GPU, and of the threads that
    score and write, and bytes. A GPU's seconds are those of a record divided by the processes that share it, because
    each does a shot in that time."""

    pictures: float
    decode: float
    predict: float
    score: float
    write: float
    bytes_in: float
    bytes_out: float


def read_cost(summary: Path) -> Cost:
    """Return the means over the shots of a batch that are done and were not divided into windows.

    The first shot of each process of a machine, which loads the model and compiles, is left out where there are more.

    Raises:
        SystemExit: there are none.
    """
    rows = [row for row in json.loads(summary.read_text(encoding="utf-8"))["shots"] if row["state"] == "done"]
    rows = [row for row in rows if row["pictures"] and row["windows"] == 1]
    if not rows:
        raise SystemExit(f"{summary} has no finished captures; measure with some.")
    rows.sort(key=lambda row: sum(row["seconds"].values()))
    sharing = max(row["sharing"] for row in rows)
    kept = rows[: -sharing * len({row["versions"]["machine"] for row in rows})] or rows

    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    def seconds(*steps: str) -> float:
        return mean([sum(row["seconds"].get(step, 0.0) for step in steps) for row in kept])

    def shared_seconds(step: str) -> float:
        return mean([row["seconds"][step] / row["sharing"] for row in kept])

    return Cost(
        mean([row["pictures"] for row in kept]),
        seconds("decode", "prepare"),
        shared_seconds("predict"),
        shared_seconds("score"),
        seconds("write"),
        mean([row["bytes_in"] for row in kept]),
        mean([row["bytes_out"] for row in kept]),
    )


def predict_seconds(cost: Cost, shots: int, gpus: int, cores: int, disk: float) -> dict[str, float]:
    """Return how long each place is busy with a batch; the longest is how long the batch takes.

    cores: processors for each GPU. disk: bytes a second that the shared disk reads or writes.
    """
    return {
        "decoding": shots * cost.decode / (gpus * cores),
        "GPUs": shots * cost.predict / gpus,
        "scoring": shots * cost.score / gpus,
        "reading": shots * cost.bytes_in / disk,
        "writing": shots * cost.bytes_out / disk,
    }


def main() -> None:
    """Print the costs and the prediction."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("summary", type=Path)
    parser.add_argument("--shots", type=int, required=True)
    parser.add_argument("--gpus", type=int, default=1)
    parser.add_argument("--cores", type=int, default=6, help="processors that decode, for each GPU (6)")
    parser.add_argument("--disk", type=float, default=1.0, help="GB a second that the shared disk reads or writes (1)")
    parser.add_argument("--gpu-seconds", type=float, help="of a shot, if they were measured elsewhere")
    given = parser.parse_args()
    cost = read_cost(given.summary)
    if given.gpu_seconds is not None:
        cost = cost._replace(predict=given.gpu_seconds)
    print(f"a shot of {cost.pictures:.0f} pictures: {cost.decode:.3f} s to decode, {cost.predict:.3f} s on the GPU,")
    print(f"{cost.score:.3f} s to score, {cost.write:.3f} s to write, {cost.bytes_in / 1e6:.2f} MB in,")
    print(f"{cost.bytes_out / 1e6:.2f} MB out")
    places = predict_seconds(cost, given.shots, given.gpus, given.cores, 1e9 * given.disk)
    for place, seconds in sorted(places.items(), key=lambda item: -item[1]):
        print(f"{place:10} {seconds / 60:10.1f} minutes")


if __name__ == "__main__":
    main()
