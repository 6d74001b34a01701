"""The books on the chat of a room: which line was sent when, and who received it in which order.

Rules:

- A delivery is one line at one user. Expected is every line at every user of the room, its sender and users
  who were cut off
  included: what does not come is lost, whatever the reason.
- A line that comes to a user again is duplicated; only its first arrival counts for delay and order.
- A delivery is out of order if it comes after one that it should precede: by the order in which the room
  reached the other users, or by the order in which its sender spoke.
- A gap is a lost delivery that a later line of the same sender overtook for good: the server dropped it, it
  is not just late.

Theory of operation: while the load runs, an arrival costs a few list operations. Lines are numbered in the
order of sending, so the arrivals of a user are a sequence of numbers, and the accounts are made up from those
afterwards. The order to compare with is that of the first of the users who received the most lines, in a
sound run the first user: one who was cut off would say little about the lines after that.
"""

import math
from array import array
from collections.abc import Sequence

from attrs import frozen


@frozen
class ChatAccount:
    """The books closed.

    Attributes:
        sent: lines sent.
        delivered: deliveries, duplicates not counted.
        lost: deliveries that did not come.
        gaps: those of the lost that later lines of the same sender overtook.
        duplicated: further arrivals of a delivery.
        out_of_order: deliveries that came after one that they should precede.
        delays_s: from send to arrival in seconds, of every delivery, in rising order.
    """

    sent: int
    delivered: int
    lost: int
    gaps: int
    duplicated: int
    out_of_order: int
    delays_s: Sequence[float]


def together(accounts: Sequence[ChatAccount]) -> ChatAccount:
    """The accounts of several rooms as one."""
    return ChatAccount(
        sent=sum(each.sent for each in accounts),
        delivered=sum(each.delivered for each in accounts),
        lost=sum(each.lost for each in accounts),
        gaps=sum(each.gaps for each in accounts),
        duplicated=sum(each.duplicated for each in accounts),
        out_of_order=sum(each.out_of_order for each in accounts),
        delays_s=sorted(delay_s for each in accounts for delay_s in each.delays_s),
    )


class Ledger:
    """The open books, for `users` users and at most `lines` lines."""

    def __init__(self, users: int, lines: int) -> None:
        self._senders: list[int] = []
        self._sent_at_s: list[float] = []
        self._seen = [bytearray(lines) for _ in range(users)]
        self._orders = [array("I") for _ in range(users)]
        self._delays_s = array("d")
        self._duplicated = 0

    @property
    def next_line(self) -> int:
        """The number of the line that will be sent next."""
        return len(self._senders)

    @property
    def complete(self) -> bool:
        """Whether every delivery came."""
        return len(self._delays_s) == len(self._senders) * len(self._orders)

    def sent(self, sender: int, at_s: float) -> None:
        """User number `sender` sent the line `next_line` at a time `at_s`, of any one clock."""
        self._senders.append(sender)
        self._sent_at_s.append(at_s)

    def arrived(self, user: int, line: int, at_s: float) -> None:
        """Line number `line` reached user number `user` at `at_s`."""
        if line >= len(self._senders):
            return  # somebody else in the room makes them up
        if self._seen[user][line]:
            self._duplicated += 1
            return
        self._seen[user][line] = 1
        self._orders[user].append(line)
        self._delays_s.append(at_s - self._sent_at_s[line])

    def close(self) -> ChatAccount:
        """Make up the accounts."""
        reference = max(self._orders, key=len)
        places = {line: place for place, line in enumerate(reference)}
        gaps = out_of_order = 0
        for order, seen in zip(self._orders, self._seen, strict=True):
            furthest = -1
            latest_of: dict[int, int] = {}
            for line in order:
                sender = self._senders[line]
                latest = latest_of.get(sender, -1)
                # A line that the reference never got has no place; its sender's order still binds it.
                place = places.get(line, furthest)
                out_of_order += place < furthest or line < latest
                furthest = max(furthest, place)
                latest_of[sender] = max(latest, line)
            gaps += sum(
                not seen[line] and line < latest_of.get(sender, -1) for line, sender in enumerate(self._senders)
            )
        delivered = len(self._delays_s)
        return ChatAccount(
            sent=len(self._senders),
            delivered=delivered,
            lost=len(self._senders) * len(self._orders) - delivered,
            gaps=gaps,
            duplicated=self._duplicated,
            out_of_order=out_of_order,
            delays_s=sorted(self._delays_s),
        )


def percentile(ordered: Sequence[float], percent: float) -> float | None:
    """The smallest of `ordered` (rising) that at least `percent` per cent do not exceed; None of nothing.

    This nearest rank is always a value that was measured, never one interpolated between two.
    """
    if not ordered:
        return None
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]
