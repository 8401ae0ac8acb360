# SPDX-License-Identifier: GPL-3.0-or-later
"""Scripts that contributors run, and the parts of build.py. Nothing here is shipped."""
