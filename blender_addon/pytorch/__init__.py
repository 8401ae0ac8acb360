# SPDX-License-Identifier: GPL-3.0-or-later
"""PyTorch in Blender: examines, installs and removes it, and frees the GPU memory that it keeps."""
