"""The way of a message from its row to the server and back: lease, stage, hand off, settle.

Before the hand-off everything may be repeated at will. After it nothing is: what a server may have accepted is never
sent again by itself, and a row whose end nobody knows becomes `uncertain`.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import datetime

from django.utils import timezone

from newsletters import allowances, walks
from newsletters.models import Delivery, Letter, Relay
from newsletters.models.outgoing import OutgoingQuerySet
from newsletters.sender import LAST_REPLIES, QUIET, SETTLED_WITHIN, Sender
from newsletters.supply import Supply
from newsletters.transports import Line, Transport, connect, line

log = logging.getLogger(__name__)

Clock = Callable[[], datetime]

# A server that has said nothing for so many seconds may go on so, but no longer than for ten minutes.
MUTE, LONGEST = 5.0, 600.0

_loop = threading.Lock()


def drain(
    clock: Clock = timezone.now,
    seconds: float = 60.0,
    stopping: Callable[[], bool] = lambda: False,
    report: Callable[[Counter[str]], None] = lambda done: None,
    way_out: Callable[[str], Transport | Line] = connect,
) -> Counter[str]:
    """Send what is due, letters first, until nothing is or the time is up; return how many rows ended how.

    One loop runs in a process: a second call returns at once.
    """
    if not _loop.acquire(blocking=False):
        return Counter()
    try:
        with ExitStack() as stack:
            loop = Loop(lambda known: _senders(stack, clock, way_out, known), seconds, stopping, report)
            loop.run()
    finally:
        _loop.release()
    return loop.done


class Loop:
    """Each relay has its turn, until none has anything left or the time is up."""

    def __init__(
        self,
        open_ways: Callable[[set[int]], Iterator[Sender]],
        seconds: float,
        stopping: Callable[[], bool],
        report: Callable[[Counter[str]], None],
    ) -> None:
        self.open_ways, self.seconds, self.stopping, self.report = open_ways, seconds, stopping, report
        self.senders: list[Sender] = []
        self.begun = self.deadline = self.reported = 0.0

    def run(self) -> None:
        last = time.monotonic() + self.seconds + LONGEST
        self.begin()
        while not self.stopping():
            more = time.monotonic() < self.deadline
            self.turn(more)
            if not self.busy and not (more and self.awaited()):
                break
            if time.monotonic() > self.reported + 1:
                self.report(self.done)
                self.reported = time.monotonic()
            if self.mute() and time.monotonic() < last:
                self.begin()
        self.end()

    def begin(self) -> None:
        """Take up whatever is due by now, for as long as a drain may take."""
        self.senders += self.open_ways({sender.supply.relay.pk for sender in self.senders if not sender.dead})
        for sender in self.senders:
            sender.dry = sender.dead
        self.begun = self.reported = time.monotonic()
        self.deadline = self.begun + self.seconds

    def turn(self, more: bool, patience: float = SETTLED_WITHIN) -> None:
        """Feed and hear all, and wait only for whoever was heard last: nobody waits for a relay that has no news."""
        busy = self.busy
        first = max(busy, key=lambda sender: sender.stirred_at, default=None)
        if len(busy) > 1:
            patience = QUIET
        for sender in self.senders:
            # A relay that rests is not asked again: whoever reaches it says so.
            if sender.busy or not sender.dead:
                sender.step(more, patience if sender is first else 0)

    def mute(self) -> bool:
        """Tell whether the replies that are lacking may take minutes: whoever is not silent need not wait for them."""
        heard = [sender.stirred_at for sender in self.busy]
        return bool(heard) and time.monotonic() - max(self.begun, *heard) > MUTE

    def end(self) -> None:
        """Let nothing new leave, and wait for what has left, but not for long."""
        for sender in self.senders:
            sender.recall()
        deadline = time.monotonic() + LAST_REPLIES
        while self.busy:
            self.turn(more=False, patience=0.2)
            if time.monotonic() > deadline:
                break
        for sender in self.senders:
            sender.conclude()
        if self.done:
            self.report(self.done)

    def awaited(self) -> bool:
        """Wait a moment where only the next second's share of a limit is lacking; return whether that was so."""
        pauses = [pause for sender in self.senders if (pause := sender.rested()) is not None]
        if pauses and not self.stopping():
            time.sleep(min(pauses))
        return bool(pauses)

    @property
    def busy(self) -> list[Sender]:
        return [sender for sender in self.senders if sender.busy]

    @property
    def done(self) -> Counter[str]:
        return sum((sender.done for sender in self.senders), Counter())


def _senders(
    stack: ExitStack, clock: Clock, way_out: Callable[[str], Transport | Line], known: set[int]
) -> Iterator[Sender]:
    """Open the ways out of the relays for which something is due, those that would take over included."""
    now, lanes = clock(), (_letters, _deliveries)
    for route in allowances.routes():
        if any(route.of(lane()).due(now).exists() for lane in lanes):
            for relay in allowances.free(route, now):
                if relay.pk not in known and (way := _opened(relay, now, way_out)):
                    stack.enter_context(closing(way))
                    yield Sender(way, Supply(route, relay, lanes, clock), clock)


def _opened(relay: Relay, now: datetime, way_out: Callable[[str], Transport | Line]) -> Line | None:
    """Return a relay's way out; one whose settings cannot be used rests, and keeps nobody else's mail waiting."""
    try:
        return line(way_out(relay.url))
    except Exception:
        log.exception("The relay %s cannot be used", relay)
        allowances.rest(relay, now)
        return None


def waiting(now: datetime) -> bool:
    """Tell whether anything is due."""
    return any(lane().due(now).exists() for lane in (_letters, _deliveries))


def sweep(now: datetime) -> None:
    """Take back what dead workers held, and close what came too late."""
    allowances.tidy(now)
    allowances.overdue(now)
    for lane in (_letters, _deliveries):
        rows = lane()
        if rows.abandoned().exists():
            walks.advance(rows.in_doubt().claimed())
            report(rows, **rows.take_back())
        report(rows, missed=rows.close(now))


def report(rows: OutgoingQuerySet, **ends: int) -> None:
    for end, count in ends.items():
        if count:
            log.warning("%s: %d %s", rows.model._meta.verbose_name_plural, count, end)


def _letters() -> OutgoingQuerySet:
    return Letter.objects.select_related("publication", "subscriber")


def _deliveries() -> OutgoingQuerySet:
    return Delivery.objects.all()
