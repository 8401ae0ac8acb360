# SPDX-License-Identifier: GPL-3.0-or-later
"""Tries new malformed inputs, round after round: python3 build.py fuzz --minutes 60.

What fails is written to out/fuzz with the smallest input that fails. Hypothesis remembers it and tries it first the
next time. Keep it as a test in test_findings.py.
"""

import argparse
import os
import random
import subprocess
import sys
import time
from pathlib import Path

CASES = 300  # of each test in a round


def main() -> int:
    """Run rounds until the time is over, and return 1 if anything failed."""
    parser = argparse.ArgumentParser(prog="build.py fuzz")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--out", type=Path, default=Path("out/fuzz"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    end, rounds, failed = time.monotonic() + 60 * given.minutes, 0, 0
    while time.monotonic() < end:
        rounds += 1
        seed = random.randrange(1 << 30)
        command = [sys.executable, "-m", "pytest", "tests/fuzz", "-q", "--tb=short", "-p", "no:logging", "-n", "auto"]
        result = subprocess.run(
            [*command, f"--hypothesis-seed={seed}"],
            env={**os.environ, "FACET4D_FUZZ_CASES": str(CASES)},
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        output = result.stdout + result.stderr
        print(f"round {rounds}, seed {seed}: {(output.strip() or 'nothing').splitlines()[-1]}", flush=True)
        if result.returncode:
            failed += 1
            log = given.out / f"{seed}.log"
            log.write_text(output, encoding="utf-8")
            print(f"  see {log}")
    print(f"{rounds} rounds, {failed} with findings")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
