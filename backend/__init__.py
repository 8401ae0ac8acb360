# SPDX-License-Identifier: GPL-3.0-or-later
"""Facet4D's backend: it reconstructs 4D Gaussians from posed, timed pictures. It works without Blender.

Importing the package loads nothing. `camera`, `capture`, `splats` and `formats` need only NumPy and Pillow; most other
modules import torch.
"""
