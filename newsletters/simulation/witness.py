"""A mail server inside the simulation: it counts what it accepted, and behaves as badly as servers do."""

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from newsletters.models import Subscriber
from newsletters.postfix import Answer
from newsletters.simulation.faults import Faults, Killed
from newsletters.transports import Message, Outcome, Unreachable


class Witness:
    """The server's own record, which no row of ours can change."""

    def __init__(self, faults: Faults, leave: Callable[[int], None]) -> None:
        self.faults = faults
        self.leave = leave
        self.away = False
        self.accepted = Counter[str]()
        self.keys = Counter[Any]()
        self.unwanted: list[Any] = []

    def connect(self, url: str) -> "Connection":
        return Connection(self)

    def ask(self, messages: Mapping[str, datetime]) -> dict[str, Answer]:
        """Say what became of messages, as a relay's log does."""
        had = {name.partition("@")[0] for name in self.accepted}
        return {name: Answer("sent" if name in had else "absent") for name in messages}

    def accept(self, message: Message) -> None:
        self.accepted[message.message_id] += 1
        self.keys[message.key] += 1

    def doubt(self, keys: set[Any]) -> None:
        """Note whoever is handed a daily email without being active."""
        deliveries = [key for key in keys if isinstance(key, tuple)]
        readers = Subscriber.objects.mailable().filter(pk__in={key[1] for key in deliveries})
        wanted = set(readers.values_list("pk", flat=True))
        self.unwanted += [key for key in deliveries if key[1] not in wanted]


class Connection:
    """One worker's connection."""

    group = 50

    def __init__(self, witness: Witness) -> None:
        self.witness, self.strike = witness, witness.faults.strike
        self.staged: dict[Any, Message] = {}
        self.served = False

    def stage(self, message: Message) -> Outcome | None:
        if self.witness.away:
            raise Unreachable("Connection refused")
        if self.served and self.strike("worker killed while staging the next"):
            raise Killed
        if self.strike("worker killed before the hand-off"):
            raise Killed
        if self.strike("recipient put off"):
            return Outcome("retry", reply="451 4.3.2 Try again later")
        if self.strike("recipient refused"):
            return Outcome("failed", "address", "550 5.1.1 No such user")
        self.staged[message.key] = message
        if isinstance(message.key, tuple) and self.strike("reader left after staging"):
            self.witness.leave(message.key[1])
        return None

    def hand_off(self, keys: set[Any]) -> dict[Any, Outcome]:
        staged, self.staged = self.staged, {}
        if keys and self.strike("worker killed between hand-off and dot"):
            raise Killed
        self.witness.doubt(keys)
        outcomes, gone = {}, False
        for key in filter(keys.__contains__, staged):
            gone = gone or self.strike("server gone at the dot")
            outcomes[key] = self.dot(staged[key], gone)
        if keys and self.strike("worker killed between dot and settling"):
            raise Killed
        self.served = True
        return outcomes

    def dot(self, message: Message, gone: bool) -> Outcome:
        """Answer a message's end; of a server that is gone nobody knows whether it has accepted."""
        if gone:
            if self.witness.faults.random.random() < 0.5:
                self.witness.accept(message)
            return Outcome("uncertain", "connection", "Connection lost")
        if self.strike("message put off at the dot"):
            return Outcome("retry", reply="452 4.2.2 Mailbox full")
        if self.strike("message refused at the dot"):
            return Outcome("failed", "content", "554 5.7.1 Refused")
        self.witness.accept(message)
        return Outcome("sent", reply="250 2.0.0 OK")

    def close(self) -> None:
        self.staged = {}
        if self.served and self.strike("worker killed while staging the next"):
            raise Killed
