"""The load: everybody's login, the warm-up, the measured window, the wait for what is late.

Rules:

- One thread, one selector, no waiting elsewhere: whatever this process does too late shows up as the server's
  delay.
- What is due is sent by the clock, not by what comes back: a server that slows down does not get less to do.
  Only a user whose socket takes no more falls silent, and that is counted.
- The figures of the window are the difference of two snapshots of counters that only grow.

Theory of operation: users log in a few at a time, while those who are in already read what the room tells
them. Then all begin to move, one after the other at even intervals, so that the server never sees them in a
burst of our making. A second later the window opens and the chat begins; every line of the run is said in the
window. When the window closes nobody sends any more, and the lines that are still on their way have two
seconds. The selector waits for whole milliseconds, so what falls due within one goes out together.

A line's delay runs from just before its `send` to just after the `recv` that brought it. That includes this
process's own work on what arrived a moment before at other users, some 10 µs for each: a server cannot be
seen to be quicker than that.
"""

import secrets
import selectors
import socket
import time
from collections import Counter
from collections.abc import Callable

from attrs import frozen

from ._ledger import percentile, together
from ._motion import paths
from ._options import BenchError, Options
from ._result import Result
from ._room import rooms_of
from ._schedule import Schedule
from ._target import Target, begin_to_connect, reach
from ._usage import Meter, Reading, usage, users_of
from ._user import Stage, User

_LOGINS_AT_ONCE = 8
_LOGIN_DEADLINE_S = 30.0
_WARM_UP_S = 1.0
_WAIT_FOR_LATE_S = 2.0
_GOODBYE_S = 1.0
_PROGRESS_INTERVAL_S = 0.5

# More than waits in a socket whose reader keeps up, so that one read takes it all.
_READ_BYTES = 256 * 1024


@frozen
class _Snapshot:
    """The counters at one moment."""

    at_s: float
    load_cpu_s: float
    batches: list[int]
    transforms_in: int
    transforms_sent: int
    sends_blocked: int
    frames_in: int
    bytes_in: int
    cost: Reading


def measure(options: Options, target: Target, meter: Meter, progress: Callable[[float], None]) -> Result:
    """Put the load on the server at `target` and measure; `meter` reads what that costs.

    Raises:
        BenchError: not all users could log in, or the server broke the protocol.
    """
    if meter.pid is not None and usage(meter.pid) is None:
        raise BenchError(f"there is no process {meter.pid} whose CPU time can be read: give the server's pid, or none")
    load = _Load(options, target, meter, progress)
    try:
        return load.run()
    finally:
        load.close()


class _Load:
    """One run. It MUST be closed, and MUST NOT be run twice."""

    def __init__(self, options: Options, target: Target, meter: Meter, progress: Callable[[float], None]) -> None:
        self._run_id = secrets.token_hex(4)
        self._options = options
        self._target = target
        self._meter = meter
        self._progress = progress
        self._selector = selectors.DefaultSelector()
        self._buffer = memoryview(bytearray(_READ_BYTES))
        self._users: list[User] = []
        self._paths = paths(options)
        self._rooms = rooms_of(options, self._run_id)
        self._transforms_sent = 0
        self._sends_blocked = 0
        self._close_codes: Counter[int] = Counter()
        self._error_frames = 0
        self._first_error_code: int | None = None
        self._start_s = 0.0  # of the warm-up
        self._users_by_process: list[int] = []

    def close(self) -> None:
        for user in self._users:
            user.close()
        self._selector.close()

    def run(self) -> Result:
        self._progress(0.0)
        self._log_in_everybody()
        if self._meter.pid is not None:
            self._users_by_process = users_of(self._meter.pid, self._target.port)
        self._start_s = time.perf_counter()
        steps = Schedule(self._start_s, self._options.send_hz * self._options.users)
        self._carry_on(steps, Schedule(self._start_s, 0.0), self._start_s + _WARM_UP_S)
        opened = self._snapshot()
        lines = Schedule(opened.at_s, self._options.chat_hz, self._options.chat_lines)
        self._carry_on(steps, lines, opened.at_s + self._options.seconds)
        closed = self._snapshot()
        self._progress(1.0)
        self._wait(_WAIT_FOR_LATE_S, lambda: all(room.ledger.complete for room in self._rooms))
        result = self._result(opened, closed)
        for user in self._users:
            user.leave()
        self._wait(_GOODBYE_S, lambda: False)
        return result

    @property
    def _anybody_left(self) -> bool:
        return self._close_codes.total() < len(self._users)

    def _log_in_everybody(self) -> None:
        deadline_s = time.perf_counter() + _LOGIN_DEADLINE_S
        connection = reach(self._target)
        try:
            family, address = connection.family, connection.getpeername()
        except OSError as error:
            connection.close()
            raise BenchError(f"{self._target.url} hung up at once ({error}): the server's log may say why") from error
        under_way = [self._begin(connection)]
        while under_way:
            self._turn(deadline_s)
            under_way = [user for user in under_way if user.stage is not Stage.PRESENT]
            if self._close_codes:
                raise BenchError(
                    f"a user at {self._target.url} was cut off ({min(self._close_codes)}) "
                    "while others were logging in: the server's log may say why"
                )
            while len(under_way) < _LOGINS_AT_ONCE and len(self._users) < self._options.users:
                under_way.append(self._begin(begin_to_connect(family, address)))
            if under_way and time.perf_counter() >= deadline_s:
                raise BenchError(
                    f"only {len(self._users) - len(under_way)} of {self._options.users} users were logged in "
                    f"at {self._target.url} within {_LOGIN_DEADLINE_S:g} s: "
                    "is that a server of this protocol, and can it keep up?"
                )

    def _begin(self, connection: socket.socket) -> User:
        index = len(self._users)
        name, room = f"bench-{self._run_id}-{index + 1}", self._rooms[index % len(self._rooms)]
        user = User(index, name, room.name, self._target, connection, self._selector)
        self._users.append(user)
        return user

    def _carry_on(self, steps: Schedule, lines: Schedule, until_s: float) -> None:
        """Send what falls due and read what comes, until it is time or nobody is left."""
        shown_s = time.perf_counter()
        while (now_s := time.perf_counter()) < until_s and self._anybody_left:
            for number in steps.due(now_s):
                self._move(number)
            for number in lines.due(now_s):
                self._say(number)
            if now_s - shown_s >= _PROGRESS_INTERVAL_S:
                shown_s = now_s
                self._progress((now_s - self._start_s) / (_WARM_UP_S + self._options.seconds))
            self._turn(min(until_s, steps.next_s, lines.next_s))

    def _wait(self, seconds: float, done: Callable[[], bool]) -> None:
        """Read what comes, until `done` or for so long or until nobody is left."""
        until_s = time.perf_counter() + seconds
        while not done() and time.perf_counter() < until_s and self._anybody_left:
            self._turn(until_s)

    def _move(self, number: int) -> None:
        lap, index = divmod(number, self._options.users)
        user = self._users[index]
        if user.stage is not Stage.PRESENT:
            return
        # Of those who walk the same path, each begins at a place of their own.
        follower, which = divmod(index, len(self._paths))
        path = self._paths[which]
        if user.send(path[(lap + 37 * follower) % len(path)]):
            self._transforms_sent += 1
        else:
            self._sends_blocked += 1

    def _say(self, number: int) -> None:
        user = self._users[number % self._options.users]
        if user.stage is not Stage.PRESENT:
            return
        room = self._rooms[user.index % len(self._rooms)]
        frame = room.next_line()
        now_s = time.perf_counter()
        if user.send(frame):
            room.sent(user.index, now_s)
        else:
            self._sends_blocked += 1

    def _turn(self, until_s: float) -> None:
        """Wait until something happens or it is time, and see to what happened."""
        for key, events in self._selector.select(max(0.0, until_s - time.perf_counter())):
            user: User = key.data
            if events & selectors.EVENT_WRITE:
                user.on_writable()
            if events & selectors.EVENT_READ:
                self._listen(user)

    def _listen(self, user: User) -> None:
        texts = user.receive(self._buffer)
        now_s = time.perf_counter()
        room = self._rooms[user.index % len(self._rooms)]
        for text in texts:
            contents = room.heard(user.index, text, now_s)
            if contents.transforms:
                user.batches += 1
                user.transforms += contents.transforms
            if contents.error_code is not None:
                self._error_frames += 1
                if self._first_error_code is None:
                    self._first_error_code = contents.error_code
        if user.close_code is not None:
            self._close_codes[user.close_code] += 1

    def _snapshot(self) -> _Snapshot:
        return _Snapshot(
            at_s=time.perf_counter(),
            load_cpu_s=time.process_time(),
            batches=[user.batches for user in self._users],
            transforms_in=sum(user.transforms for user in self._users),
            transforms_sent=self._transforms_sent,
            sends_blocked=self._sends_blocked,
            frames_in=sum(user.reader.frames for user in self._users),
            bytes_in=sum(user.bytes_in for user in self._users),
            cost=self._meter.read(),  # last, and with a time of its own: it takes long
        )

    def _result(self, opened: _Snapshot, closed: _Snapshot) -> Result:
        options = self._options
        window_s = closed.at_s - opened.at_s
        batches = [after - before for before, after in zip(opened.batches, closed.batches, strict=True)]
        chat = together([room.ledger.close() for room in self._rooms])
        p50_ms, p99_ms, max_ms = (
            None if delay_s is None else delay_s * 1e3
            for delay_s in (percentile(chat.delays_s, p) for p in (50, 99, 100))
        )
        cost = closed.cost.cost_since(opened.cost)
        return Result(
            url=self._target.url,
            users=options.users,
            rooms=options.rooms,
            send_hz=options.send_hz,
            chat_hz=options.chat_hz,
            fps=options.fps if options.url is None else None,
            window_s=window_s,
            batches_per_s_mean=sum(batches) / len(batches) / window_s,
            batches_per_s_min=min(batches) / window_s,
            batches_per_s_max=max(batches) / window_s,
            transforms_delivered_per_s=(closed.transforms_in - opened.transforms_in) / window_s,
            transforms_sent_per_s=(closed.transforms_sent - opened.transforms_sent) / window_s,
            sends_blocked=closed.sends_blocked - opened.sends_blocked,
            frames_in_per_s=(closed.frames_in - opened.frames_in) / window_s,
            megabytes_in_per_s=(closed.bytes_in - opened.bytes_in) / window_s / 1e6,
            chat_lines_sent=chat.sent,
            chat_lines_delivered=chat.delivered,
            chat_lines_lost=chat.lost,
            chat_gaps=chat.gaps,
            chat_lines_duplicated=chat.duplicated,
            chat_lines_out_of_order=chat.out_of_order,
            chat_latency_p50_ms=p50_ms,
            chat_latency_p99_ms=p99_ms,
            chat_latency_max_ms=max_ms,
            connections_closed=self._close_codes.total(),
            close_codes=dict(self._close_codes),
            error_frames=self._error_frames,
            first_error_code=self._first_error_code,
            server_cpu_s=cost.cpu_s,
            server_cpu_fraction=cost.cpu_fraction,
            server_cpu_fraction_by_process=list(cost.cpu_fraction_by_process),
            users_by_process=self._users_by_process,
            server_rss_mb=cost.rss_mb,
            engine_cpu_fraction=cost.engine_cpu_fraction,
            load_cpu_fraction=(closed.load_cpu_s - opened.load_cpu_s) / window_s,
        )
