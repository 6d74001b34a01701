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
    rounds: Annotated[int, Parameter(help="With --compare: how often each server is measured.")] = 3,
    json: Annotated[bool, Parameter(negative="", help="Print one JSON object instead of a table.")] = False,
) -> int:
    """Returns the exit status."""
    others: dict[str, str] = {}
    for each in compare:
        name, equals, command = each.partition("=")
        if not (name and equals and command) or name in others:
            sys.stderr.write(
                f"trio-vrchat: error: --compare {each!r}: give NAME=COMMAND, each name once, "
                "such as --compare other='python other.py {port} {fps}'\n"
            )
            return 2
        others[name] = command
    return load_test.main(options, json=json, others=others, rounds=rounds)
