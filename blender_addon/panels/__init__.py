# SPDX-License-Identifier: GPL-3.0-or-later
"""The Facet4D tab of the 3D View's sidebar."""
