# SPDX-License-Identifier: GPL-3.0-or-later
"""Splat files of other programs: PLY, SPZ, .splat, glTF and USD."""
