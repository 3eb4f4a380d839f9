"""SMTP through several connections that are kept open, in one loop.

Each connection has at most one message whose last byte has gone out and whose reply has not come: that, and nothing
else, is in doubt when a machine dies. The next message's envelope leaves in one write with that last byte.
"""

import logging
import selectors
import socket
import threading
import time
from collections import Counter, deque
from queue import SimpleQueue
from typing import Any

from newsletters.transports import Message, Options, Outcome, Unreachable
from newsletters.transports.smtp.opening import Opened, open_connection
from newsletters.transports.smtp.replies import Lost
from newsletters.transports.smtp.session import Session

log = logging.getLogger(__name__)

CONNECTIONS = 4
# A message that has met so many broken connections waits for a while: it may be what breaks them.
TRIES = 2
# So many accepted messages earn back a connection that a break has cost.
EARNED = 100
QUIT_SECONDS = 1.0


class SMTP:
    def __init__(self, options: Options) -> None:
        self.options = options
        self.wanted = self.limit = int(options.query.get("connections", CONNECTIONS))
        self.sessions: list[Session] = []
        self.waiting: deque[Message] = deque()
        self.held: dict[Any, Message] = {}
        self.staged: dict[Any, Session] = {}
        self.ended: dict[Any, Outcome] = {}
        self.broken = Counter[Any]()
        self.earned = 0
        self.opening = 0
        self.opened: SimpleQueue[Opened | Exception] = SimpleQueue()
        self.selector = selectors.DefaultSelector()
        self.bell, self.clapper = socket.socketpair()
        self.selector.register(self.bell, selectors.EVENT_READ)
        self.trouble = ""
        self.checked = time.monotonic()

    @property
    def group(self) -> int:
        """Half of the connections: while their hand-off is committed, the server is busy with the other half."""
        return max(1, len(self.sessions) // 2)

    @property
    def room(self) -> int:
        return 2 * self.limit - len(self.held)

    def stage(self, message: Message) -> None:
        self.held[message.key] = message
        self.waiting.append(message)

    def poll(self, seconds: float) -> dict[Any, Outcome]:
        self._deal()
        if self.trouble and not (self.ended or self.staged):
            raise Unreachable(self.trouble)
        for key, _events in self.selector.select(0 if self.ended else seconds):
            if key.data is None:
                self._answer_bell()
            else:
                self._serve(key.data)
        self._look_at_the_clock()
        ended, self.ended = self.ended, {}
        return ended

    def hand_off(self, passed: set[Any], dropped: set[Any]) -> None:
        for key in dropped:
            # The only way to take back a text without its dot is to hang up.
            self.held.pop(key)
            self._hang_up(self.staged.pop(key))
        for key in passed:
            self.held.pop(key)
            session = self.staged.pop(key)
            session.dot(self.waiting.popleft() if self.waiting and session.pipelining else None)
            self._note(session)

    def recall(self) -> None:
        self.waiting.clear()
        self.held.clear()
        self.staged.clear()
        for session in list(self.sessions):
            session.leaving = True
            if session.current is not None and session.dotted is None:
                self._hang_up(session)

    def close(self) -> None:
        for session in list(self.sessions):
            if session.current or session.dotted or session.expected:
                self._hang_up(session)
            else:
                session.quit()
        deadline = time.monotonic() + QUIT_SECONDS
        while self.sessions and (left := deadline - time.monotonic()) > 0:
            for key, _events in self.selector.select(left):
                if key.data is not None:
                    self._hang_up(key.data)
        for session in list(self.sessions):
            self._hang_up(session)
        self._close()

    def _close(self) -> None:
        self.selector.close()
        self.clapper.close()
        self.bell.close()
        while not self.opened.empty():
            if isinstance(late := self.opened.get(), Opened):
                late.sock.close()

    # Connections come and go

    def _deal(self) -> None:
        """Give what waits to whoever is idle, and open more connections where that is not enough."""
        if not self.waiting or self.trouble:
            return
        for session in self.sessions:
            while self.waiting and session.idle:
                session.begin(self.waiting.popleft())
                self._note(session)
        for _ in range(min(len(self.waiting), self.limit - len(self.sessions)) - self.opening):
            self.opening += 1
            # Names, TLS and greetings take their time; what is open need not wait for it.
            threading.Thread(target=self._open, daemon=True).start()

    def _open(self) -> None:
        try:
            result: Opened | Exception = open_connection(self.options)
        except (OSError, Lost, ValueError) as error:
            result = error
        self.opened.put(result)
        try:
            self.clapper.send(b".")
        except OSError:
            # Nobody listens any more.
            if isinstance(result, Opened):
                result.sock.close()

    def _answer_bell(self) -> None:
        self.bell.recv(100)
        while not self.opened.empty():
            result = self.opened.get()
            self.opening -= 1
            if isinstance(result, Exception):
                self._not_opened(result)
            else:
                session = Session(result, self.options.query.get("verp", ""))
                self.sessions.append(session)
                self.selector.register(session.sock, selectors.EVENT_READ, session)
        self._deal()

    def _not_opened(self, error: Exception) -> None:
        if self.sessions:
            # A server that takes so many and no more.
            self.limit = len(self.sessions)
            log.info("The mail server takes no further connection: %s", error)
        elif not self.opening:
            self.trouble = str(error) or repr(error)

    def _serve(self, session: Session) -> None:
        try:
            session.hear()
        except Lost as error:
            self._note(session)
            self._lose(session, str(error))
            return
        if session.out:
            session.flush()
        self._note(session)
        if session.leaving and session.dotted is None:
            self._hang_up(session)

    def _note(self, session: Session) -> None:
        """Take over what a session has learnt."""
        for key, outcome in session.news:
            if outcome is None and key in self.held:
                self.staged[key] = session
            elif outcome is None:
                # Taken back while its text was on the way.
                session.leaving = True
            else:
                self.held.pop(key, None)
                self.ended[key] = outcome
                self._earn(outcome)
        session.news.clear()
        if bool(session.out) != session.watched and session in self.sessions:
            session.watched = bool(session.out)
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if session.watched else 0)
            self.selector.modify(session.sock, events, session)

    def _earn(self, outcome: Outcome) -> None:
        if self.limit < self.wanted and outcome.state == "sent":
            self.earned += 1
            if self.earned >= EARNED:
                self.earned, self.limit = 0, self.limit + 1

    def _lose(self, session: Session, why: str) -> None:
        """Let a broken connection go, and say what became of the messages on it."""
        dotted, current, refusal = session.dotted, session.current, session.refusal
        if dotted is not None:
            left = session.dot_left
            self.ended[dotted.key] = Outcome("uncertain", "no reply", why) if left else Outcome("retry", "", why)
        self._hang_up(session)
        if current is not None and current.key in self.held:
            self._take_back(current, refusal, why)
        if current is None and dotted is None:
            return
        log.info("The mail server ended a connection: %s", why)
        self.limit = max(1, self.limit - 1)
        if not (session.accepted or self.sessions or self.opening):
            self.trouble = why

    def _take_back(self, message: Message, refusal: Outcome | None, why: str) -> None:
        self.staged.pop(message.key, None)
        self.broken[message.key] += 1
        if refusal is None and self.broken[message.key] < TRIES:
            self.waiting.appendleft(message)
            return
        del self.held[message.key], self.broken[message.key]
        self.ended[message.key] = refusal or Outcome("retry", "", why)

    def _hang_up(self, session: Session) -> None:
        if session in self.sessions:
            self.sessions.remove(session)
            self.selector.unregister(session.sock)
            session.sock.close()

    def _look_at_the_clock(self) -> None:
        now = time.monotonic()
        if now - self.checked < 1:
            return
        self.checked = now
        for session in list(self.sessions):
            if waiting := session.overdue(now):
                self._lose(session, f"no reply to {waiting}")
