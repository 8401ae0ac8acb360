# SPDX-License-Identifier: GPL-3.0-or-later
"""Splat files that other programs read: PLY, SPZ, glTF and USD."""
