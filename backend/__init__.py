# SPDX-License-Identifier: GPL-3.0-or-later
"""Facet4D's backend: it reconstructs 4D Gaussians from posed, timed pictures. It works without Blender.

Importing the package loads nothing. `camera`, `capture`, `splats` and `formats` need only NumPy and Pillow; most other
modules import torch.
"""

import os

# How often PyTorch's threads look for work before they sleep, where GNU OpenMP runs them. By default they look thirty
# times as long, and beside a program that keeps one of two cores busy everything takes three times as long. OpenMP
# reads it once, so it is set before torch is there.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
