# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes in: the scene's cameras and their pictures, surveyed, imported, rendered, and cut to a capture."""
