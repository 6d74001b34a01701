"""The command `bench`: in a module of its own, so that only who calls it waits for the import of the load test."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from . import bench as load_test

_DEFAULTS = load_test.Options()


def bench(
    *,
    options: Annotated[load_test.Options, Parameter(name="*")] = _DEFAULTS,
    json: Annotated[bool, Parameter(negative="", help="Print one JSON object instead of a table.")] = False,
) -> int:
    """Returns the exit status."""
    return load_test.main(options, json=json)
