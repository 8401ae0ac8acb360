# SPDX-License-Identifier: GPL-3.0-or-later
"""What NumPy arrays and torch tensors do not call alike. It imports no torch, which the add-on's main thread lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

# A function of several arrays takes all of one kind, and returns that kind.
Array = TypeVar("Array", "NDArray[Any]", "Tensor")


def choose(condition: Any, yes: Array, no: Array) -> Any:
    """Return the values of `yes` where the condition holds, and of `no` elsewhere."""
    return np.where(condition, yes, no) if isinstance(yes, np.ndarray | np.generic) else yes.where(condition, no)


def constant_like(values: np.ndarray, array: Array) -> Any:
    """Return constants in the form of an array: as a tensor of its type and device, or as they are."""
    return values if isinstance(array, np.ndarray) else array.new_tensor(values)
