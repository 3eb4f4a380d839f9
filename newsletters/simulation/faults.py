"""What goes wrong in a simulation: chosen by chance, counted where it really landed."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

from django.db import OperationalError, connection

# How likely each is, each time it could happen.
CHANCES = {
    "worker killed before the hand-off": 0.001,
    "worker killed between hand-off and dot": 0.005,
    "worker killed between dot and settling": 0.005,
    "worker killed while staging the next": 0.005,
    "worker killed at any statement": 0.005,
    "database lost while sending": 0.005,
    "planner killed in its transaction": 0.01,
    "wake-up lost": 0.02,
    "wake-up doubled": 0.02,
    "tick doubled": 0.02,
    "beat late by hours": 0.001,
    "beat down for days": 0.0001,
    "clock an hour ahead": 0.001,
    "clock an hour back": 0.001,
    "clock a day ahead": 0.0001,
    "server away for hours": 0.0004,
    "recipient put off": 0.003,
    "recipient refused": 0.0005,
    "message put off at the dot": 0.001,
    "message refused at the dot": 0.00003,
    "server gone at the dot": 0.0001,
    "reader left after staging": 0.0005,
}


class Killed(BaseException):
    """The process ended here, as by kill -9."""


class Faults:
    """Says when a fault strikes. Past the middle of the run, one that never landed strikes at its next occasion."""

    def __init__(self, random: Random, wanted: bool) -> None:
        self.random = random
        self.wanted = wanted
        self.over = False
        self.progress = 0.0
        self.landed = Counter[str]()

    def strike(self, kind: str) -> bool:
        """Tell whether a fault happens here and now, and count it."""
        struck = self.loaded(kind)
        self.landed[kind] += struck
        return struck

    def loaded(self, kind: str) -> bool:
        if not self.wanted or self.over:
            return False
        overdue = self.progress > 0.5 and not self.landed[kind]
        return overdue or self.random.random() < CHANCES[kind]

    def never_landed(self) -> list[str]:
        return [kind for kind in CHANCES if not self.landed[kind]] if self.wanted else []

    @contextmanager
    def within(self, ends: dict[str, type[BaseException]], statements: int) -> Iterator[None]:
        """Let a process meet one of these ends, if any, at one of its next statements."""
        kind = next((kind for kind in ends if self.loaded(kind)), None)
        if kind is None:
            yield
            return
        left = self.random.randint(1, statements)

        def fuse(execute: Callable[..., Any], *call: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                self.landed[kind] += 1
                raise ends[kind](kind)
            return execute(*call)

        with connection.execute_wrapper(fuse):
            yield


KILLS_PLANNER: dict[str, type[BaseException]] = {"planner killed in its transaction": Killed}
STOPS_SENDER: dict[str, type[BaseException]] = {
    "worker killed at any statement": Killed,
    "database lost while sending": OperationalError,
}
