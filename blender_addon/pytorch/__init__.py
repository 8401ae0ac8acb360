# SPDX-License-Identifier: GPL-3.0-or-later
"""PyTorch in Blender: found, installed, removed, and the GPU's memory given back."""
