# SPDX-License-Identifier: GPL-3.0-or-later
"""The order of a long clip's Gaussians, by which the nodes find those of a moment: see near_nodes.py."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from bpy.types import NodesModifier

from .. import compat
from .._backend import splats
from .nodes import LASTING, LONGEST, ORDERED

WORTHWHILE = 0.7  # share of the Gaussians that a moment must not exceed
FEWEST = 50_000  # Gaussians from which on an order is worth it
CHOICES = 64  # how many numbers of lasting Gaussians are compared


class Order(NamedTuple):
    """An order of N Gaussians [N], how many at its beginning are seen for long, and the longest time in seconds from
    the middle of another one's time to the last moment at which it is seen."""

    numbers: np.ndarray
    lasting: int
    longest: float


def order_by_time(time_mean: np.ndarray, time_sigma: np.ndarray, opacity: np.ndarray) -> Order | None:
    """Order Gaussians [N] so that those of a moment lie together; None if that is not worth it.

    Few lasting ones leave the others with a long time, and many are always looked at. What is chosen has the fewest at
    a moment on average.
    """
    count = len(time_mean)
    if count < FEWEST:
        return None
    visible = np.maximum(opacity.astype(np.float64) / splats.MIN_OPACITY, 1)
    reach = time_sigma * np.sqrt(2 * np.log(visible))
    span = float(np.ptp(time_mean)) or 1.0
    longest_first = np.argsort(-reach, kind="stable")
    lasting = np.unique(np.linspace(0, count - 1, CHOICES).astype(int))
    longest = reach[longest_first[lasting]]
    shown = lasting + (count - lasting) * np.minimum(2 * longest / span, 1)
    best = int(shown.argmin())
    if shown[best] > WORTHWHILE * count:
        return None
    first, others = np.split(longest_first, [lasting[best]])
    by_time = others[np.argsort(time_mean[others], kind="stable")]
    return Order(np.concatenate([first, by_time]), int(lasting[best]), float(longest[best]) * (1 + 1e-5))


def tell_order(modifier: NodesModifier, order: Order | None) -> None:
    """Tell a cloud's modifier the order of its vertices; None if they have none."""
    compat.set_input(modifier, ORDERED, len(order.numbers) if order else 0)
    compat.set_input(modifier, LASTING, order.lasting if order else 0)
    compat.set_input(modifier, LONGEST, order.longest if order else 0.0)
