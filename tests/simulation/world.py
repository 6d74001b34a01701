"""A server, the connections to it, and a step: bytes arrive, everything settles, everything is checked."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any

import attrs
import trio

from tests.observer import Observer
from trio_vrchat import Config
from trio_vrchat.testing import MemoryServer

from . import invariants
from .crowd import Stranger
from .model import LOBBY, Model
from .network import Link, Transcript
from .people import Person
from .scheduler import settle
from .view import Limits

# Between two looks: less than what a ping may wait for its pong.
_LOOK_S = 5.0
# By when a connection must be freed that its client has left: a write's deadline, the leaves, the closing handshake.
_FREED_S = 15.0
_PASSWORD = "secret"


@attrs.define(eq=False)
class World:
    """Everything that a seed makes."""

    server: MemoryServer
    config: Config
    dice: Random
    model: Model
    # The last of them, for a failure's message.
    acts: deque[str]
    transcript: Transcript = attrs.field(factory=Transcript)
    people: list[Person] = attrs.field(factory=list)
    crowd: list[Stranger] = attrs.field(factory=list)
    act_count: int = 0
    _links: list[Link] = attrs.field(factory=list)
    # Connections that nobody uses any more, and when they must be gone.
    _left: dict[Link, float] = attrs.field(factory=dict)
    _link_count: int = 0

    # Connecting

    async def dial(self, *, buffer_bytes: int | None = None, paced: bool = True) -> Link:
        """Connect, and send nothing."""
        self._link_count += 1
        link = Link(self._link_count, await self.server.dial(buffer_bytes=buffer_bytes), self.transcript, paced=paced)
        self._links.append(link)
        return link

    async def connect(self, *, buffer_bytes: int | None = None, paced: bool = True) -> Link:
        """Connect, with the handshake."""
        link = await self.dial(buffer_bytes=buffer_bytes, paced=paced)
        link.piece_bytes = self.dice.choice((0, 0, 0, 50))
        link.open()
        await self._hand_on(link)
        link.piece_bytes = 0
        assert link.upgraded, "the server did not answer the handshake"
        return link

    async def login(self, person: Person, *, buffer_bytes: int | None = None) -> str:
        """Log in; whoever has a session takes it over."""
        await self.pass_time(0.001)  # so that a history is older than the time of the login
        link = await self.connect(buffer_bytes=buffer_bytes)
        return await self._login(person, link)

    async def _login(self, person: Person, link: Link) -> str:
        alive = self.model.alive(person.user)
        await self._enter(person, link, _login_request(person), None)
        return "takes its session over" if alive else "logs in"

    def _request(self, person: Person) -> tuple[dict[str, Any], dict[str, float] | None]:
        """What continues the session: a resume where that is possible, or a login."""
        observer = person.observer
        if person.token is None or observer is None:
            return _login_request(person), None
        seen = {name: room.latest for name, room in observer.rooms.items()}
        return _resume_request(person.token, seen), seen

    async def resume(self, person: Person) -> str:
        """Resume a session; where it is over, log in."""
        await self.pass_time(0.001)
        link = await self.connect()
        if person.spent_token is not None:
            await self._check_refused(link, person.spent_token)
        request, seen = self._request(person)
        if not self.model.alive(person.user):
            assert person.token is not None
            await self._check_refused(link, person.token)
            return "cannot resume; " + await self._login(person, link)
        await self._enter(person, link, request, seen)
        return "resumes"

    async def _check_refused(self, link: Link, token: str) -> None:
        """A token that is spent, or whose session is over, resumes nothing."""
        link.send(_resume_request(token, {}))
        await self._hand_on(link)
        codes = [message.get("response", {}).get("code") for message in link.messages()]
        assert codes == [403], f"a resume with a token that is no longer good is answered with {codes}"

    async def _enter(self, person: Person, link: Link, request: dict[str, Any], seen: dict[str, float] | None) -> None:
        check = self._begin_to_enter(person, link, request, seen)
        await self._hand_on(link)
        check()

    def _begin_to_enter(
        self, person: Person, link: Link, request: dict[str, Any], seen: dict[str, float] | None
    ) -> Callable[[], None]:
        """Send a login or a resume; returns what checks its answer."""
        user, old = person.user, person.link
        is_told = old is not None and user.sees_all and not old.delay_s
        if self.model.alive(user) and person.observer is not None:
            observer = person.observer
            inside = {log.room for log in self.model.rooms_of(user)}
            observer.come_back(link, inside, crowded=user.hurries)
        else:
            observer = person.observer = Observer(person.name, link)
            person.views.forget()
        if seen is None:
            observer.will(LOBBY, "join")
        person.link, person.stands_until = link, 0.0
        if old is not None:
            self.leave(old)
        observer.answers.clear()
        link.send(request, lambda: self.model.logged_in(user, link, seen))

        def check() -> None:
            (answer,) = observer.answers
            assert answer["code"] == 202, f"{person.name} is refused: {answer}"
            person.spent_token, person.token = person.token, answer["detail"].get("session")
            assert (person.token is not None) == person.resumes
            # (What was on its way when a slow network got fast again is still to come.)
            if is_told and old is not None and old.caught_up:
                assert old.close_code == 4009, f"{person.name}: the old connection ends with {old.close_code}"

        return check

    def leave(self, link: Link) -> None:
        """Nobody uses this connection any more: the server must free it."""
        self._left[link] = trio.current_time() + _FREED_S

    def closed(self, person: Person, link: Link) -> None:
        """A close frame has reached the server."""
        if person.link is link:
            self.model.lost(person.user, session_stays=False)
            person.link = None
            self.leave(link)

    # Steps

    async def act(self, actor: Person | Stranger) -> None:
        """One act, and what comes of it at once."""
        self.act_count += 1
        self.acts.append(f"{trio.current_time():10.3f} {actor.name} …")
        what = await actor.act(self, self.dice)
        self.acts[-1] = f"{trio.current_time():10.3f} {actor.name} {what}"
        await self._step()

    async def rush(self) -> None:
        """Several people act at one instant: only the server knows the order, and all must see the same."""
        await self.pass_time(0.01)
        hurrying = [person for person in self.people[1:] if person.may_hurry()]
        self.dice.shuffle(hurrying)
        self.act_count += 1
        self.acts.append(f"{trio.current_time():10.3f} {', '.join(person.name for person in hurrying)} act at once")
        coming = {
            person: await self.connect()
            for person in hurrying
            if LOBBY in person.user.meant and self.dice.random() < 0.2
        }
        checks = []
        for person in hurrying:
            person.user.hurries = True
            if person in coming:
                request, seen = self._request(person)
                checks.append(self._begin_to_enter(person, coming[person], request, seen))
            else:
                person.hurry(self, self.dice)
        for person in hurrying:
            assert person.link is not None
            pieces, person.link.piece_bytes = person.link.piece_bytes, 0
            while await person.link.hand_on() is not None:
                pass
            person.link.piece_bytes = pieces
        await self._observe()
        for person in hurrying:
            person.user.hurries = False
        for check in checks:
            check()
        await self._step()

    async def miss_a_tick(self, person: Person) -> None:
        """What somebody sends arrives, and ticks pass before anybody reads."""
        assert person.link is not None
        person.user.hurries = True
        while await person.link.hand_on() is not None:
            pass
        await trio.sleep(1.25 / self.config.fps)
        await self._observe()
        person.user.hurries = False
        await self._step()

    async def pass_time(self, seconds: float) -> None:
        """Let time pass, and look now and then."""
        end = trio.current_time() + seconds
        while (now := trio.current_time()) < end:
            await trio.sleep_until(min(now + _LOOK_S, end, *(link.next_arrival(now) for link in self._links)))
            for person in self.people:
                person.heal()
            await self._step()

    async def _step(self) -> None:
        """Hand on whatever is due, one packet after the other."""
        await self._observe()
        for link in list(self._links):
            await self._hand_on(link)

    async def _hand_on(self, link: Link) -> None:
        handed = False
        while (visible := await link.hand_on()) is not None:
            handed = True
            if visible:
                await self._observe()
                handed = False
        if handed:
            await self._observe()

    async def _observe(self) -> None:
        """Let the server settle, take what came, and check all that must hold."""
        await settle()
        takers = self._links
        while sum(link.take() for link in takers):  # (not `any`: all of them take)
            await settle()
            takers = [link for link in takers if not link.reads_bytes]
        for person in self.people:
            if person.observer is not None and person.link is not None:
                person.observer.take()
                limits = Limits(self.config.history, self.config.history_limit_bytes)
                person.views.look(person.observer, limits, caught_up=person.link.caught_up)
        self._notice_ends()
        open_links = sum(not link.raw.ended for link in self._links)
        invariants.check(self.people, self.model, self.server.statistics, open_links)

    def _notice_ends(self) -> None:
        now = trio.current_time()
        for person in self.people:
            link = person.link
            if link is None or not (link.raw.ended or link.ended):
                continue
            sound = not person.user.tight and link.trusted
            assert not sound, f"{person.name}: the server has ended a sound connection ({link.close_code})"
            self.model.lost(person.user, session_stays=person.resumes)
            person.link = None
            self.leave(link)
        for stranger in self.crowd:
            stranger.notice_end(self)
        for link, deadline in list(self._left.items()):
            if link.raw.ended:
                del self._left[link]
            else:
                assert now <= deadline, f"connection {link.number} is not freed"
        self._links = [
            link for link in self._links if not (link.raw.ended and (link.ended or link not in self._used()))
        ]

    def _used(self) -> set[Link]:
        return {person.link for person in self.people if person.link is not None}

    async def check_heads(self) -> None:
        """After some ticks at rest, everybody who reads sees everybody where they are."""
        for _ in range(3):
            await trio.sleep(1.25 / self.config.fps)
            await self._observe()
        # (Who is still read moves on, and a slow reader misses a batch; it is in the next.)
        resting = {stranger.name for stranger in self.crowd if stranger.moves_until < trio.current_time()}
        invariants.check_heads(self.people, self.model, resting)


def _login_request(person: Person) -> dict[str, Any]:
    options: dict[str, Any] = {"user": person.name, "pass": _PASSWORD}
    if person.resumes:
        options["resume"] = True
    return {"system": "login", "options": options}


def _resume_request(token: str, seen: dict[str, float]) -> dict[str, Any]:
    return {"system": "resume", "options": {"session": token, "seen": seen}}
