"""A line of a transport whose hand-off may take a minute: it runs beside the loop, which can stop meanwhile."""

import logging
import threading
from queue import Empty, SimpleQueue
from typing import Any

from newsletters.transports import InTurn, Outcome, Transport

log = logging.getLogger(__name__)


class Aside(InTurn):
    def __init__(self, transport: Transport) -> None:
        super().__init__(transport)
        self.calling = False
        self.answers: SimpleQueue[dict[Any, Outcome] | Exception] = SimpleQueue()

    @property
    def room(self) -> int:
        return 0 if self.calling else super().room

    def poll(self, seconds: float) -> dict[Any, Outcome]:
        if self.calling and not self.ended:
            self._listen(seconds)
        return super().poll(seconds)

    def hand_off(self, passed: set[Any], dropped: set[Any]) -> None:
        if not passed:
            super().hand_off(passed, dropped)
            return
        self.staged.clear()
        self.calling = True
        threading.Thread(target=self._call, args=(passed,), daemon=True).start()

    def close(self) -> None:
        # A call that nobody waits for any more ends by itself; its connection is not taken away under it.
        if not self.calling:
            super().close()

    def _call(self, passed: set[Any]) -> None:
        try:
            self.answers.put(self.transport.hand_off(passed))
        except Exception as error:
            log.exception("A call broke off")
            self.answers.put(error)

    def _listen(self, seconds: float) -> None:
        try:
            answer = self.answers.get(timeout=seconds)
        except Empty:
            return
        self.calling = False
        if isinstance(answer, Exception):
            raise answer
        self.ended |= answer
