"""A hundred honest members who talk and move: the bench's, with more patience.

    python -m tests.attacks.members URL

It prints a line once all are in, and the bench's figures as a line of JSON at the end.
"""

from __future__ import annotations

import sys

from trio_vrchat import bench
from trio_vrchat.bench import _load

MEMBERS = 100
# A line every two seconds from each.
_LINES_A_SECOND = 50
_MOVES_A_SECOND = 10
_SECONDS = 20
# The bench gives a late line three seconds, and then calls it lost. Beside every attack, on a machine that has other
# work, what is late is not lost.
_PATIENCE_S = 100


def main(url: str) -> None:
    _load._WAIT_FOR_LATE_S = _PATIENCE_S
    options = bench.Options(url=url, users=MEMBERS, send_hz=_MOVES_A_SECOND, chat_hz=_LINES_A_SECOND, seconds=_SECONDS)
    told = False

    def on_progress(share: float) -> None:
        nonlocal told
        if share > 0 and not told:
            told = True
            print("all are in", flush=True)  # noqa: T201

    print(bench.to_json(bench.run(options, on_progress)))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1])
