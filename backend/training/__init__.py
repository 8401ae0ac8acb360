# SPDX-License-Identifier: GPL-3.0-or-later
"""Training from synthetic 4D scenes that are made on the fly."""
