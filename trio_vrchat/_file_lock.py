"""One server a file: a lock that ends with its process, however that ends."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

from ._errors import StoreError

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextlib.contextmanager
def locked(path: str | os.PathLike[str]) -> Iterator[None]:
    """Hold the file at `path` against other servers. Raises StoreError where one has it.

    The lock is on a file beside it, `path` and ".lock", which stays: SQLite has locks of its own on the file itself,
    and programs that are no servers may use that meanwhile.
    """
    # (By whatever name: a link is no way around it.)
    name = f"{os.path.realpath(path)}.lock"
    try:
        descriptor = os.open(name, os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as error:
        raise StoreError(
            f"the store {os.fspath(path)!r}: {error.strerror}: check the name, and that its directory may be written to"
        ) from error
    try:
        try:
            _lock(descriptor)
        except OSError:
            raise StoreError(
                f"the store {os.fspath(path)!r} is in use by another server: end that, or name another file"
            ) from None
        yield
    finally:
        os.close(descriptor)
