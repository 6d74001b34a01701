"""A server of this package, and servers that commands start."""

from collections.abc import Callable, Mapping
from functools import partial

from ._options import BenchError, Options
from ._rounds import Comparison, Start, check_rounds, in_turn
from ._server_process import other_server, own_server

OURS = "trio_vrchat"


def compare(
    options: Options, commands: Mapping[str, str], rounds: int, progress: Callable[[str, float], None]
) -> Comparison:
    """Put the load on a server of this package, and then on those that the commands start, `rounds` times.

    Args:
        options: the load; without a `url`.
        commands: what starts each of the others, by a name for it; {port} and {fps} stand for what it is given.
        rounds: how often each is measured.
        progress: called as that of `bench.run` is, with what is being measured.

    Raises:
        BenchError: as `bench.run`; or the options, the commands or the rounds make no sense.
    """
    check_rounds(options, rounds)
    if OURS in commands:
        raise BenchError(f"a server is named {OURS!r}: that is the name of our own, which is always measured")
    servers: dict[str, Start] = {OURS: partial(own_server, options.fps)}
    servers |= {name: partial(other_server, command, options.fps) for name, command in commands.items()}
    return in_turn(options, servers, rounds, "", progress)
