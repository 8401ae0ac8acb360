# SPDX-License-Identifier: GPL-3.0-or-later
"""What the add-on's mixins for operators derive from: for type checkers an operator, for Blender nothing at all."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bpy.types import Operator as OperatorMixin
else:
    OperatorMixin = object

__all__ = ("OperatorMixin",)
