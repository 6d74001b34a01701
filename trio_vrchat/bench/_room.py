"""One of the rooms of the load: its name, its chat and the books on it, and how what comes from it is read.

Users are spread evenly: number i of them is in room number i modulo the rooms. Where there is one room it is the lobby,
in which everybody is who logs in.
"""

from collections.abc import Sequence

from ._ledger import Ledger
from ._options import Options
from ._protocol import LOBBY, ChatMark, Contents, Scanner


def name_of(number: int, rooms: int) -> str:
    """The name of room `number` of so many."""
    return LOBBY if rooms == 1 else f"bench-{number + 1}"


class Room:
    """Room `number` of the run with this id."""

    def __init__(self, number: int, run: str, options: Options) -> None:
        self.name = name_of(number, options.rooms)
        self._rooms = options.rooms
        # Each with a mark of its own, so that what strays from one into another counts in neither.
        self._mark = ChatMark(f"{run}-{number + 1}", self.name)
        # And each with a scanner, for the message before is that of the room.
        self._scanner = Scanner(self._mark)
        members = len(range(number, options.users, options.rooms))
        rounds = options.chat_lines // options.users + 1
        self.ledger = Ledger(members, min(rounds * members, options.chat_lines))

    def next_line(self) -> bytes:
        """The frame that says the line that will be sent next."""
        return self._mark.frame(self.ledger.next_line)

    def sent(self, user: int, at_s: float) -> None:
        """User number `user` of the load sent that line at a time `at_s`."""
        self.ledger.sent(user // self._rooms, at_s)

    def heard(self, user: int, text: bytes, at_s: float) -> Contents:
        """A text message came to user number `user` of the load at `at_s`; returns what it counts for.

        Raises:
            WireError: it is not a message of the protocol.
        """
        contents = self._scanner.scan(text)
        for line in contents.lines:
            self.ledger.arrived(user // self._rooms, line, at_s)
        return contents


def rooms_of(options: Options, run: str) -> Sequence[Room]:
    """The rooms of the run with this id."""
    return [Room(number, run, options) for number in range(options.rooms)]
