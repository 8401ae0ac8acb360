# SPDX-License-Identifier: GPL-3.0-or-later
"""Synthetic training scenes, generated and rendered on the GPU during training."""
