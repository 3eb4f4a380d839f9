"""A line of a transport whose hand-off may take a minute: it runs beside the loop, which can stop meanwhile."""

import logging
import threading
from queue import Empty, SimpleQueue
from typing import Any

from newsletters.transports import Full, InTurn, Message, Outcome, Transport, Unreachable

log = logging.getLogger(__name__)


class Aside(InTurn):
    def __init__(self, transport: Transport) -> None:
        super().__init__(transport)
        self.calling = False
        self.waiting: Message | None = None
        self.answers: SimpleQueue[dict[Any, Outcome] | Exception] = SimpleQueue()

    @property
    def group(self) -> int:
        return max(1, len(self.staged)) if self.waiting else super().group

    @property
    def room(self) -> int:
        return 0 if self.calling or self.waiting else super().room

    def stage(self, message: Message) -> None:
        try:
            super().stage(message)
        except Full:
            self.waiting = message

    def poll(self, seconds: float) -> dict[Any, Outcome]:
        if self.calling and not self.ended:
            self._listen(seconds)
        if self.waiting and not self.calling and not self.staged:
            message, self.waiting = self.waiting, None
            self.stage(message)
        return super().poll(seconds)

    def recall(self) -> None:
        self.waiting = None
        super().recall()

    def hand_off(self, passed: set[Any], dropped: set[Any]) -> None:
        if passed:
            self.staged.clear()
            self.calling = True
            threading.Thread(target=self._call, args=(passed,), daemon=True).start()
        elif dropped:
            # Nothing is staged while a call is under way: it is never disturbed from here.
            super().hand_off(passed, dropped)

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
        rests = [outcome for outcome in answer.values() if outcome.wait is not None]
        if rests:
            longest = max(rests, key=lambda outcome: outcome.wait or 0)
            said = f"Left alone after: {longest.reply}"
            raise Unreachable(said, longest.wait, everywhere=longest.reason != "unreachable")
