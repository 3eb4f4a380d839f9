"""A session with the database beside this thread's own, for one piece of work at a time."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from django.db import InterfaceError, OperationalError, connection

Value = TypeVar("Value")


class Beside:
    """A thread whose waiting for the database nobody waits for. It begins with its first work."""

    def __init__(self) -> None:
        self.pool: ThreadPoolExecutor | None = None

    def begin(self, work: Callable[[], Value]) -> "Future[Value]":
        if self.pool is None:
            self.pool = ThreadPoolExecutor(1, thread_name_prefix="beside")
        return self.pool.submit(_afresh, work)

    def close(self) -> None:
        """Wait for what was begun, and let go of the database."""
        if self.pool is not None:
            self.pool.submit(_close)
            self.pool.shutdown()


def _close() -> None:
    # The thread's own: a bound method would be another's.
    connection.close()


def _afresh(work: Callable[[], Value]) -> Value:
    try:
        return work()
    except (OperationalError, InterfaceError):
        # The next work begins with a new session.
        connection.close()
        raise
