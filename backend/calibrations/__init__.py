# SPDX-License-Identifier: GPL-3.0-or-later
"""Calibrations of other programs, read as cameras; and the captures that are made of them and their pictures."""
