# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the trainer's asset packs from public data: python -m backend.training.packs make NAME."""
