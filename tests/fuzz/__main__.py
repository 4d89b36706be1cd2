"""`python -m tests.fuzz`: spoiled frames by the million against the host's side of the channel.

    python -m tests.fuzz [--frames 1000000] [--seed N] [--jobs N]
    python -m tests.fuzz --replay 'Case(b"...")'

Status 1 where a frame did what none may. Every problem is told with the case that makes it happen again.
"""

from __future__ import annotations

import argparse
import sys

from tests.fuzz.runner import SEED, case_of, fuzz
from tests.fuzz.target import play


def main() -> int:
    """Fuzz, or play one case again."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Spoiled frames against the host.")
    parser.add_argument("--frames", type=int, default=1_000_000, help="how many at least (default: a million)")
    parser.add_argument("--seed", type=int, default=SEED, help="another one for other cases")
    parser.add_argument("--seconds", type=float, default=900.0, help="give up after so long")
    parser.add_argument("--jobs", type=int, help="processes (default: one a processor)")
    parser.add_argument(
        "--replay", metavar="CASE", help="play one case, as a problem was told with, and say how it ended"
    )
    options = parser.parse_args()
    if options.replay:
        print(play(case_of(options.replay), look=True))
        return 0
    report = fuzz(options.frames, seed=options.seed, seconds=options.seconds, jobs=options.jobs)
    print(report)
    for problem in report.problems:
        print(f"\n{problem}")
    return 1 if report.problems or report.frames < options.frames else 0


if __name__ == "__main__":
    sys.exit(main())
