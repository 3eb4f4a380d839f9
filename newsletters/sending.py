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
from newsletters.models import Delivery, Letter
from newsletters.models.outgoing import OutgoingQuerySet
from newsletters.sender import LAST_REPLIES, Sender
from newsletters.supply import Supply
from newsletters.transports import Line, Transport, connect, line

log = logging.getLogger(__name__)

Clock = Callable[[], datetime]

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
            senders = list(_senders(stack, clock, way_out))
            run(senders, time.monotonic() + seconds, stopping, report)
    finally:
        _loop.release()
    return total(senders)


def run(
    senders: list[Sender], deadline: float, stopping: Callable[[], bool], report: Callable[[Counter[str]], None]
) -> None:
    """Let each relay have its turn until none has anything left."""
    patience, reported = 1.0 if len(senders) == 1 else 0.02, time.monotonic()
    while not stopping():
        more = time.monotonic() < deadline
        for sender in senders:
            sender.step(more, patience)
        if not any(sender.busy for sender in senders) and not (more and awaited(senders, stopping)):
            break
        if time.monotonic() > reported + 1:
            report(total(senders))
            reported = time.monotonic()
    until = time.monotonic() + LAST_REPLIES
    for sender in senders:
        sender.wind_up(until)
    if done := total(senders):
        report(done)


def awaited(senders: list[Sender], stopping: Callable[[], bool]) -> bool:
    """Wait a moment where only the next second's share of a limit is lacking; return whether that was so."""
    pauses = [pause for sender in senders if (pause := sender.rested()) is not None]
    if pauses and not stopping():
        time.sleep(min(pauses))
    return bool(pauses)


def total(senders: list[Sender]) -> Counter[str]:
    return sum((sender.done for sender in senders), Counter())


def _senders(stack: ExitStack, clock: Clock, way_out: Callable[[str], Transport | Line]) -> Iterator[Sender]:
    """Open the ways out of the relays for which something is due, those that would take over included."""
    now, lanes = clock(), (_letters, _deliveries)
    for route in allowances.routes():
        if any(route.of(lane()).due(now).exists() for lane in lanes):
            for relay in allowances.free(route, now):
                way = stack.enter_context(closing(line(way_out(relay.url))))
                yield Sender(way, Supply(route, relay, lanes, clock), clock)


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
