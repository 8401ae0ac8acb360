# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of splats that other programs read: PLY, SPZ, glTF, USD."""
