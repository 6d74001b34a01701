"""Who may log in, and whose session it is then.

Three policies decide whether a name and a password are accepted: `open` lets everybody in, `accounts` and an embedding
program's hook ask an authenticator. What follows is the same for all: a name that nobody holds gets a session; one
that is held is taken over by the same user. With an authenticator whoever it accepts is the same user; with `open`,
whoever knows the password of the first login.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import attrs

from ._account_rules import Standing
from ._admission import Peer
from ._codec import check_user_name
from ._errors import AccessDenied, BadRequest, Conflict, InternalError, RequestError
from ._login_failures import LoginFailures
from ._messages import LoginOptions
from ._names import name_key
from ._session import Link, Session, Sessions, Verifier

# User, password, and the peer as the log has it. True: accepted; a str: accepted, and this is how rooms show the user.
Authenticator = Callable[[str, str, str], Awaitable[bool | str | None]]

_log = logging.getLogger("trio_vrchat.connection")
# What is the same as long as whoever was accepted under this name would be again; None where nobody would.
Standings = Callable[[str], Awaitable[Standing | None]]


@attrs.frozen
class Granted:
    """A login that was granted: the link speaks for this session now."""

    session: Session
    taken_over: bool
    resumable: bool


class Login:
    """The logins of one server."""

    def __init__(
        self,
        sessions: Sessions,
        failures: LoginFailures,
        authenticate: Authenticator | None,
        standing_of: Standings | None = None,
    ) -> None:
        self._sessions = sessions
        self._failures = failures
        self._authenticate = authenticate
        self._standing_of = standing_of

    async def log_in(self, asked: LoginOptions, peer: Peer, link: Link) -> Granted:
        """Let a user in. No checkpoint follows the change of the session.

        Raises AccessDenied (403: refused), Conflict (409: the name is another's, or looks like one),
        SlowDown (429: too many failures) and Unavailable (503: whoever keeps names or accounts for several servers is
        away).
        """
        user, password, resumable = asked["user"], asked["pass"], asked.get("resume", False)
        attempt = self._failures.begin(name_key(user), peer)
        if self._authenticate is not None:
            try:
                accepted = await self._authenticate(user, password, peer.text)
            except Exception:
                # It was never found out whether it would have been a failure.
                attempt.taken_back()
                raise
            if isinstance(accepted, str):
                user = accepted
                try:
                    check_user_name(user)
                except BadRequest as error:
                    attempt.taken_back()
                    raise InternalError(f"authenticate gave {user!r}, which is no name: {error.reason}") from None
            elif accepted is not True:
                if accepted is not False and accepted is not None:
                    # Not the value: it may be a row with a password's hash.
                    kind = type(accepted).__name__
                    _log.error("authenticate must return True, False or a name, not a %s: %r is refused", kind, user)
                attempt.failed()
                raise AccessDenied(f"the login as {user!r} is refused")
        verifier = Verifier(password) if self._authenticate is None else None
        try:
            standing = await self._standing_of(user) if self._standing_of is not None else None
            session, lease = await self._sessions.held_or_claimed(user, verifier, password)
        except RequestError:
            attempt.taken_back()
            raise
        if session is None and (lease is not None or self._sessions.names is None):
            attempt.taken_back()
            session = self._sessions.open(user, verifier, link, resumable=resumable, lease=lease)
            session.standing = standing
            session.notices = asked.get("notices", False)
            return Granted(session, taken_over=False, resumable=resumable)
        if session is None or not self._is_same_user(session, password):
            attempt.failed()
            raise Conflict(f"the name {user!r} is taken")
        attempt.taken_back()
        self._sessions.take_over(session, link, resumable=resumable)
        session.standing = standing
        session.set_notices(asked.get("notices", False))
        return Granted(session, taken_over=True, resumable=resumable)

    def _is_same_user(self, session: Session, password: str) -> bool:
        return session.verifier is None or session.verifier.accepts(password)

    async def resume(self, token: str, link: Link) -> Session:
        """Let a session go on over this link. No checkpoint follows the change of the session.

        Raises AccessDenied (403): the token is not known, or whoever logged in would not be accepted any more; and
        Unavailable (503): nobody knows whether they would. The token stays good then.
        """
        session = self._sessions.with_token(token)
        standing_of = self._standing_of
        if session is not None and standing_of is not None and await standing_of(session.user) != session.standing:
            raise AccessDenied(f"the account of {session.user!r} is gone, or has another password")
        # Again: it may have ended meanwhile.
        session = self._sessions.with_token(token)
        if session is None:
            raise AccessDenied("no session has that token, or its time is over")
        self._sessions.take_over(session, link, resumable=True)
        return session
