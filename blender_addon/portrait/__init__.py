# SPDX-License-Identifier: GPL-3.0-or-later
"""A head from a single photo or video: settings, job, operators, and its place in the scene."""
