# SPDX-License-Identifier: GPL-3.0-or-later
"""Reconstruct: the operators that run the backend on the scene's capture, and what a run will take."""
