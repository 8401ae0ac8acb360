# SPDX-License-Identifier: GPL-3.0-or-later
"""What contributors run beside build.py, and what build.py itself is made of; nothing here is shipped."""
