# SPDX-License-Identifier: GPL-3.0-or-later
"""The input of a reconstruction: imports the scene's cameras and pictures, surveys them and reads them as a capture."""
