# SPDX-License-Identifier: GPL-3.0-or-later
"""A person in a photo or a video: matte, face, canonical crop and camera. Does not depend on a generator of views."""
