"""A line that lets everything through to another: what stands between a sender and its line begins with this."""

from collections.abc import Collection
from typing import Any

from newsletters.transports import Line, Message, Outcome


class Through:
    def __init__(self, way: Line) -> None:
        self.way = way

    @property
    def group(self) -> int:
        return self.way.group

    @property
    def room(self) -> int:
        return self.way.room

    @property
    def staged(self) -> Collection[Any]:
        return self.way.staged

    def stage(self, message: Message) -> None:
        self.way.stage(message)

    def poll(self, seconds: float) -> dict[Any, Outcome]:
        return self.way.poll(seconds)

    def hand_off(self, passed: set[Any], dropped: set[Any]) -> None:
        self.way.hand_off(passed, dropped)

    def recall(self) -> None:
        self.way.recall()

    def close(self) -> None:
        self.way.close()
