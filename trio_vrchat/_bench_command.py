"""The command `bench`: in a module of its own, so that only who calls it waits for the import of the load test."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import Parameter

from . import bench as load_test

_DEFAULTS = load_test.Options()


def bench(
    *,
    options: Annotated[load_test.Options, Parameter(name="*")] = _DEFAULTS,
    compare: Annotated[
        tuple[str, ...],
        Parameter(
            negative="",
            help="Compare with the server that a command starts, given as NAME=COMMAND; {port} and {fps} in it stand "
            "for what it is given. Several: give it again.",
        ),
    ] = (),
    workers: Annotated[
        str | None,
        Parameter(
            help="Measure the server as one process without a backplane, and then as so many processes that share "
            "their rooms, for each of these numbers, such as 1,2,4.",
            metavar="NUMBERS",
        ),
    ] = None,
    backplane: Annotated[
        str | None,
        Parameter(
            help="With --workers: redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE], by which they share them. No other "
            "servers may have rooms there; those of the load are removed.",
            metavar="URL",
        ),
    ] = None,
    rounds: Annotated[int, Parameter(help="With --compare or --workers: how often each server is measured.")] = 3,
    json: Annotated[bool, Parameter(negative="", help="Print one JSON object instead of a table.")] = False,
) -> int:
    """Returns the exit status."""
    others: dict[str, str] = {}
    for each in compare:
        name, equals, command = each.partition("=")
        if not (name and equals and command) or name in others:
            return _refused(
                f"--compare {each!r}: give NAME=COMMAND, each name once, "
                "such as --compare other='python other.py {port} {fps}'"
            )
        others[name] = command
    try:
        numbers = [int(number) for number in workers.split(",")] if workers is not None else []
    except ValueError:
        return _refused(f"--workers {workers!r}: give numbers of processes, such as --workers 1,2,4")
    return load_test.main(options, json=json, others=others, workers=numbers, backplane=backplane, rounds=rounds)


def _refused(why: str) -> int:
    sys.stderr.write(f"trio-vrchat: error: {why}\n")
    return 2
