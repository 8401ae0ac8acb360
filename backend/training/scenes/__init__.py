# SPDX-License-Identifier: GPL-3.0-or-later
"""Synthetic scenes to learn from, made and rendered on the GPU while training goes on."""
