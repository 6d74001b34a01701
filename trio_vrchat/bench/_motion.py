"""How the bench's users move: round a circle, or along the paths of people who were recorded.

A path is a list of frames for one room, one for each step, masked and ready, so that a step costs no more than its
`send`. At its end it begins again. Of a recording, a step holds the last transform of its time, in the bytes in which
it was recorded; where somebody stood still for long, a second of it is kept.

How much is kept is bounded by what a run can send, and by `MOST_STEPS`.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path as FilePath

import msgspec

from ._options import BenchError, Options
from ._protocol import lap, transform_frame
from ._room import name_of

# Recorded transforms with hands are some 500 bytes: 100 MB of them. 100 users who move for 100 s take as many.
MOST_STEPS = 200_000
_LONGEST_PAUSE_S = 1.0
# Of the times in a recording, and so of what is left of a step.
_RESOLUTION_S = 1e-6
# Before the window, and a little.
_MORE_S = 2.0

Path = Sequence[bytes]


class _Line(msgspec.Struct):
    room: str
    time: float
    user: str
    data: msgspec.Raw


class _Recorded:
    """One person's path in the making. People who are in several rooms move along that of the first."""

    def __init__(self, line: _Line, step_s: float) -> None:
        self.room = line.room
        self.steps: list[bytes] = []
        self._step_s = step_s
        self._time = line.time
        self._ahead_s = 0.0
        self._last = bytes(line.data)

    def go_on(self, line: _Line, most: int) -> None:
        """Stay until the time of this line where the one before was, and then go there."""
        self._ahead_s += min(max(0.0, line.time - self._time), _LONGEST_PAUSE_S)
        while self._ahead_s + _RESOLUTION_S >= self._step_s and len(self.steps) < most:
            self._ahead_s -= self._step_s
            self.steps.append(self._last)
        self._time = line.time
        self._last = bytes(line.data)

    def path(self) -> Sequence[bytes]:
        return self.steps or [self._last]


def paths(options: Options) -> Sequence[Path]:
    """The paths that the users take in turn; where there are more users than paths, each from a place of its own.

    User number i is in room number i modulo `options.rooms`, and so is the path that it takes.

    Raises:
        BenchError: the recording cannot be read, or nobody moves in it.
    """
    people = [lap()] if options.motion is None else _recorded_people(options, options.motion)
    # So many that each is in one room, and that nobody in it walks in step with another.
    return [
        [transform_frame(data, name_of(number % options.rooms, options.rooms)) for data in people[number % len(people)]]
        for number in range(min(math.lcm(len(people), options.rooms), options.users))
    ]


def _recorded_people(options: Options, file: FilePath) -> Sequence[Sequence[bytes]]:
    from .. import recording  # noqa: PLC0415  (slow to import, and needed here only)
    from .._errors import RecordingError  # noqa: PLC0415

    step_s = 1 / options.send_hz if options.send_hz else math.inf
    most = max(1, min(math.ceil((options.seconds + _MORE_S) * options.send_hz), MOST_STEPS // options.users))
    people: dict[str, _Recorded] = {}
    decode = msgspec.json.Decoder(_Line).decode
    try:
        with recording.open(file) as session:
            for _, text in session.lines(("transforms",)):
                line = decode(text)
                person = people.get(line.user)
                if person is not None:
                    if line.room == person.room:
                        person.go_on(line, most)
                        if len(person.steps) == most and _are_complete(people, options.users, most):
                            break
                elif len(people) < options.users:
                    people[line.user] = _Recorded(line, step_s)
    except (RecordingError, msgspec.MsgspecError) as error:
        raise BenchError(f"motion is {str(file)!r}: {error}") from error
    if not people:
        raise BenchError(f"motion is {str(file)!r}: nobody moves in that recording")
    return [person.path() for person in people.values()]


def _are_complete(people: Mapping[str, _Recorded], users: int, most: int) -> bool:
    return len(people) == users and all(len(person.steps) == most for person in people.values())
