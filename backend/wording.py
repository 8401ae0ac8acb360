# SPDX-License-Identifier: GPL-3.0-or-later
"""Words of messages for the user that depend on a count."""


def counted(count: float, one: str, several: str = "") -> str:
    """Return a count and the words after it, as "1 picture has" or "3 pictures have"; several: `one` with an s."""
    return f"{count:,.0f} {one if count == 1 else several or f'{one}s'}"
