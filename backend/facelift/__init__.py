# SPDX-License-Identifier: GPL-3.0-or-later
"""FaceLift with its official weights: six views are painted, and lifted to Gaussians."""
