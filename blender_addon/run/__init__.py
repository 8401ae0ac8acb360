# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs of the backend on the scene's capture: their operators, and an estimate of what a run will take."""
