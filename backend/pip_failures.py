# SPDX-License-Identifier: GPL-3.0-or-later
"""Explains pip's failures, for build.py and the add-on, which both run it. Standard library only."""

import re
import sys

FAILURES = (  # a pattern in pip's log, what it means, and what to do
    (r"No space left on device|not enough space on the disk", "The disk is full", "free some space and try again"),
    (
        r"ConnectionError|NameResolutionError|ConnectTimeoutError|ReadTimeoutError|ProxyError|Max retries exceeded",
        "The package index cannot be reached",
        "check the network and pip's proxy settings, and try again",
    ),
    (
        r"DO NOT MATCH THE HASHES|IncompleteRead|incomplete-download|BadZipFile|has an invalid wheel|is invalid",
        "A package arrived broken",
        "try again",
    ),
    (
        r"No matching distribution found for (?P<package>\S+)",
        "The package index has no {package} for this system and Python {python}",
        "{alternative}",
    ),
)


def explain_failure(log: str, alternative: str) -> str | None:
    """Explain in a sentence why pip failed and what to do; return None if its log does not say.

    alternative: what to do if the index lacks a package, such as "choose another build".
    """
    python = "{}.{}".format(*sys.version_info)
    for pattern, meaning, advice in FAILURES:
        if match := re.search(pattern, log):
            return f"{meaning}; {advice}.".format(python=python, alternative=alternative, **match.groupdict())
    return None
