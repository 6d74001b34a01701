"""The figures of a run, as a table for people and as JSON for programs.

Every field of `Result` is a key of the JSON object, under the same name, with its unit in the name: both are
stable. Megabytes are 1,000,000 bytes.
"""

import json
from collections.abc import Sequence

import attrs
from attrs import frozen
from rich.table import Table

# Above this share of a core the load process reads late now and then, and its delays show up as the server's.
_BUSY_FRACTION = 0.85


@frozen(kw_only=True)
class Result:
    """What was measured. Rates are over the measured window; what concerns chat holds up to the end of the
    wait for late lines.

    Attributes:
        url: the server.
        users: how many logged in.
        rooms: over how many rooms they were spread.
        send_hz: transforms a second that each user was to send.
        chat_hz: chat lines a second that all together were to say.
        fps: batches a second that the server was started with; None where it was there already.
        window_s: how long the measured window was, in seconds; shorter than asked for only if nobody was
            left.
        batches_per_s_mean: batches of transforms that a user received a second: mean over the users,
        batches_per_s_min: of the user who received the fewest,
        batches_per_s_max: and the most.
        transforms_delivered_per_s: entries in those batches a second, all users together.
        transforms_sent_per_s: transforms that all users together sent a second.
        sends_blocked: transforms and chat lines that were not sent, as the sender's socket took no more: the
            server did not read.
        frames_in_per_s: WebSocket frames received a second, all users together.
        megabytes_in_per_s: megabytes received a second, all users together, headers included.
        chat_lines_sent: chat lines said.
        chat_lines_delivered: arrivals of a line at a user, each counted once; sound is lines times the users of a room.
        chat_lines_lost: those that had not arrived 2 s after the window, users who were cut off included.
        chat_gaps: those of the lost that later lines of the same sender overtook; the rest may have been on
            their way.
        chat_lines_duplicated: arrivals of a line where it had arrived before.
        chat_lines_out_of_order: arrivals in another order than the other users', or than the sender's.
        chat_latency_p50_ms: from send to arrival, over all deliveries: half of them took no longer; None
            without any.
        chat_latency_p99_ms: 99 of 100 took no longer.
        chat_latency_max_ms: the longest.
        connections_closed: users who were cut off, from the end of the login to the end of the wait.
        close_codes: how many of them by each WebSocket close code; 1006 is a connection that ended without
            one.
        error_frames: error messages of the protocol received in the whole run, all users together.
        first_error_code: the code of the first; None without any.
        server_cpu_s: CPU seconds of the server and its children in the window; None where its process is not
            known or gone.
        server_cpu_fraction: the same per second of the window: 1.0 is one core.
        server_cpu_fraction_by_process: the same of the server and each of its children, the busiest first.
        users_by_process: how many users each of these has, the most first, without one that only starts the
            others; empty where that is not known.
        server_rss_mb: the server's and its children's resident memory at the end of the window, in megabytes.
        engine_cpu_fraction: CPU seconds per second of the window of the engine by which processes share their
            rooms, whatever else it does included; None without one.
        load_cpu_fraction: CPU seconds per second of the window of the process that made the load.
    """

    url: str
    users: int
    rooms: int
    send_hz: float
    chat_hz: float
    fps: float | None
    window_s: float
    batches_per_s_mean: float
    batches_per_s_min: float
    batches_per_s_max: float
    transforms_delivered_per_s: float
    transforms_sent_per_s: float
    sends_blocked: int
    frames_in_per_s: float
    megabytes_in_per_s: float
    chat_lines_sent: int
    chat_lines_delivered: int
    chat_lines_lost: int
    chat_gaps: int
    chat_lines_duplicated: int
    chat_lines_out_of_order: int
    chat_latency_p50_ms: float | None
    chat_latency_p99_ms: float | None
    chat_latency_max_ms: float | None
    connections_closed: int
    close_codes: dict[int, int]
    error_frames: int
    first_error_code: int | None
    server_cpu_s: float | None
    server_cpu_fraction: float | None
    server_cpu_fraction_by_process: list[float]
    users_by_process: list[int]
    server_rss_mb: float | None
    engine_cpu_fraction: float | None
    load_cpu_fraction: float

    @property
    def server_cpu_fraction_busiest(self) -> float | None:
        """CPU seconds per second of the busiest of the server's processes."""
        return max(self.server_cpu_fraction_by_process, default=None)

    @property
    def doubtful(self) -> bool:
        """Whether the load process was so busy that it may have been the bottleneck itself."""
        return self.load_cpu_fraction > _BUSY_FRACTION

    @property
    def kept_up(self) -> bool | None:
        """Whether the batches came at the rate asked for, but for a twentieth; None where the rate is not known."""
        if self.fps is None:
            return None
        return self.batches_per_s_mean >= 0.95 * min(self.fps, self.send_hz * (self.users // self.rooms))

    @property
    def sound(self) -> bool:
        """Whether nobody was cut off and every line came to everybody, once and in order."""
        broken = self.chat_lines_lost + self.chat_lines_duplicated + self.chat_lines_out_of_order
        return broken == 0 and self.connections_closed == 0


_JUDGEMENTS = ("doubtful", "kept_up", "sound")


def as_plain(result: Result) -> dict[str, object]:
    """The fields of `Result`, and `doubtful`, `kept_up` and `sound`, as JSON has them."""
    figures = attrs.asdict(result)
    return {key: _rounded(value) for key, value in figures.items()} | {
        name: getattr(result, name) for name in _JUDGEMENTS
    }


def _rounded(value: object) -> object:
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return round(value, 6) if isinstance(value, float) else value


def to_json(result: Result) -> str:
    """`as_plain` as one JSON object on one line."""
    return json.dumps(as_plain(result), allow_nan=False)


def table(result: Result) -> Table:
    """The figures for a terminal, with a line beneath where they are doubtful."""
    r = result
    asked = (
        f"{where(r.users, r.rooms)}, {r.send_hz:g} transforms/s each, {r.chat_hz:g} chat lines/s, {r.window_s:.1f} s"
    )
    doubts: list[str] = []
    if r.doubtful:
        doubts.append(f"Doubtful: the load process used {r.load_cpu_fraction:.0%} of a core and may be the bottleneck.")
    if r.kept_up is False:
        doubts.append(f"The server did not keep up: {r.batches_per_s_mean:.1f} batches/s in place of {r.fps:g}.")
    caption = "\n".join(doubts) or None
    grid = Table(title=f"{r.url}\n{asked}", caption=caption, show_header=False, caption_style="bold red")
    grid.add_column()
    grid.add_column(justify="right")
    spread = f"{r.batches_per_s_mean:.1f} ({r.batches_per_s_min:.1f} to {r.batches_per_s_max:.1f})"
    grid.add_row("batches/s to each user: mean (min to max)", spread)
    grid.add_row("transforms/s sent", f"{r.transforms_sent_per_s:,.0f}")
    grid.add_row("transforms/s delivered", f"{r.transforms_delivered_per_s:,.0f}")
    grid.add_row("frames/s received", f"{r.frames_in_per_s:,.0f}")
    grid.add_row("MB/s received", f"{r.megabytes_in_per_s:.2f}", end_section=True)
    grid.add_row("chat lines sent", f"{r.chat_lines_sent:,}")
    grid.add_row("chat lines delivered", f"{r.chat_lines_delivered:,}")
    latencies = (r.chat_latency_p50_ms, r.chat_latency_p99_ms, r.chat_latency_max_ms)
    grid.add_row("chat latency p50 / p99 / max, ms", " / ".join(number(value, ".2f") for value in latencies))
    grid.add_row("lost", _alarm(r.chat_lines_lost, f"{r.chat_gaps} of them overtaken"))
    grid.add_row("duplicated", _alarm(r.chat_lines_duplicated))
    grid.add_row("out of order", _alarm(r.chat_lines_out_of_order), end_section=True)
    codes = ", ".join(f"{code}: {count}" for code, count in sorted(r.close_codes.items()))
    grid.add_row("connections cut off", _alarm(r.connections_closed, codes))
    grid.add_row("error frames", _alarm(r.error_frames, f"first {r.first_error_code}"))
    grid.add_row("sends blocked", _alarm(r.sends_blocked), end_section=True)
    grid.add_row("server CPU, s", number(r.server_cpu_s, ".2f"))
    grid.add_row("server CPU, share of a core", number(r.server_cpu_fraction, ".1%"))
    if len(r.server_cpu_fraction_by_process) > 1:
        grid.add_row("of its processes", _list(r.server_cpu_fraction_by_process, ".1%"))
        grid.add_row("users at its processes", _list(r.users_by_process, "d"))
    grid.add_row("server memory, MB", number(r.server_rss_mb, ".1f"))
    grid.add_row("load process CPU, share of a core", f"{r.load_cpu_fraction:.1%}")
    return grid


def where(users: int, rooms: int) -> str:
    """How many users there are in how many rooms."""
    return f"{users} users" if rooms == 1 else f"{users} users in {rooms} rooms"


def number(value: float | None, form: str) -> str:
    """In this form, or a dash where there is none."""
    return "-" if value is None else format(value, form)


def _list(values: Sequence[float], form: str) -> str:
    return ", ".join(format(value, form) for value in values)


def _alarm(count: int, detail: str = "") -> str:
    if not count:
        return "0"
    return f"[red]{count:,}[/red] ({detail})" if detail else f"[red]{count:,}[/red]"
