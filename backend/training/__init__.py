# SPDX-License-Identifier: GPL-3.0-or-later
"""Training on synthetic 4D scenes that are generated on the fly."""
