# SPDX-License-Identifier: GPL-3.0-or-later
"""FaceLift with its official weights: a diffusion model paints six views, and GS-LRM lifts them to Gaussians."""
