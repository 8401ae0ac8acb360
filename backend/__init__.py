# SPDX-License-Identifier: GPL-3.0-or-later
"""Facet4D's backend: posed, timed pictures to 4D Gaussians. Never imports bpy; usable without Blender.

Importing the package is free of cost. `camera`, `capture`, `splats` and `formats` need NumPy and Pillow alone; most of
the rest imports torch.
"""
