# SPDX-License-Identifier: GPL-3.0-or-later
"""Many shots as one batch, on one machine, on a Ray cluster, or one by one on a render farm."""
