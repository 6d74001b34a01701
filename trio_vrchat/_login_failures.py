"""Who fails to log in too often: three times a minute with one name, ten times with any, unless set otherwise."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import attrs

from ._admission import Peer
from ._config import Config
from ._errors import SlowDown

_WINDOW_S = 60.0
# Addresses and names that failures are counted for at one time. Who can spread over more has more than this defends
# against, and the oldest are forgotten first.
_FAILURES_LIMIT = 10_000


class LoginFailures:
    """Failed logins of the last minute: for each pair of name and address, and for each address.

    By pairs, so that whoever guesses at a name from one place does not lock out its owner at another. An attempt counts
    against its pair from its start, before any password is looked at, so that many at once are no way around it; one
    that succeeds is taken back.
    """

    def __init__(self, config: Config, now: Callable[[], float]) -> None:
        self._per_account = config.login_failures_per_account
        self._per_address = config.login_failures_per_address
        self._now = now
        self._times: dict[tuple[str | None, str | None], deque[float]] = {}

    def begin(self, key: str, peer: Peer) -> Attempt:
        """An attempt to log in as `key`. Raises SlowDown (429) where there were too many."""
        now = self._now()
        attempt = Attempt(self, (key, peer.network), None if peer.exempt else (None, peer.network), now)
        self._check(attempt.pair, self._per_account, now)
        if attempt.address is not None:
            self._check(attempt.address, self._per_address, now)
        if self._per_account:
            self._add(attempt.pair, now)
        return attempt

    def _check(self, who: tuple[str | None, str | None], limit: int, now: float) -> None:
        times = self._times.get(who)
        if times is None:
            return
        while times and times[0] <= now - _WINDOW_S:
            times.popleft()
        if not times:
            del self._times[who]
        elif limit and len(times) >= limit:
            raise SlowDown("too many failed logins", retry_after=round(times[0] + _WINDOW_S - now, 3))

    def _add_address(self, who: tuple[str | None, str | None], now: float) -> None:
        if self._per_address:
            self._add(who, now)

    def _add(self, who: tuple[str | None, str | None], now: float) -> None:
        self._times.setdefault(who, deque()).append(now)
        if len(self._times) > _FAILURES_LIMIT:
            del self._times[next(iter(self._times))]

    def _take_back(self, who: tuple[str | None, str | None], time: float) -> None:
        times = self._times.get(who)
        if times is not None and time in times:
            times.remove(time)
            if not times:
                del self._times[who]


@attrs.frozen
class Attempt:
    """One attempt to log in. Until it is taken back it counts as a failure of its pair."""

    _failures: LoginFailures
    pair: tuple[str | None, str | None]
    address: tuple[str | None, str | None] | None
    _time: float

    def taken_back(self) -> None:
        """It was no failure."""
        self._failures._take_back(self.pair, self._time)

    def failed(self) -> None:
        """The address has failed, too."""
        if self.address is not None:
            self._failures._add_address(self.address, self._time)
