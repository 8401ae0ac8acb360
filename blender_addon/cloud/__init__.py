# SPDX-License-Identifier: GPL-3.0-or-later
"""The cloud in Blender: its object, node groups and material, and the operators that work on it."""
