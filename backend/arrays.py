# SPDX-License-Identifier: GPL-3.0-or-later
"""Operations that NumPy arrays and torch tensors name differently. torch is not imported; the add-on may lack it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

# a function of several arrays takes all of one kind, and returns that kind
Array = TypeVar("Array", "NDArray[Any]", "Tensor")


def choose(condition: Any, yes: Array, no: Array) -> Any:
    """Return the values of `yes` where the condition holds, and of `no` elsewhere."""
    return np.where(condition, yes, no) if isinstance(yes, np.ndarray | np.generic) else yes.where(condition, no)


def constant_like(values: np.ndarray, array: Array) -> Any:
    """Return constants in the same form as an array: as they are, or as a tensor of its type and device."""
    return values if isinstance(array, np.ndarray) else array.new_tensor(values)


def to_floats(array: Array) -> Any:
    """Return an array as float32."""
    return array.astype(np.float32) if isinstance(array, np.ndarray) else array.float()
