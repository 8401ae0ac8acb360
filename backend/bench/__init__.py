# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmark: how long the slow parts take on this machine, in one table, and beside an earlier run's."""
