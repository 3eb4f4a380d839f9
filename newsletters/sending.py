"""The way of a message from its row to the server and back: lease, stage, hand off, settle.

Before the hand-off everything may be repeated at will. After it nothing is: what a server may have accepted is never
sent again by itself, and a row whose end nobody knows becomes `uncertain`.
"""

import logging
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import datetime
from functools import partial
from typing import Any

from django.db.models import Q
from django.utils import timezone

from newsletters.claims import Claim
from newsletters.models import Delivery, Letter, Relay
from newsletters.models.delivery import OutgoingQuerySet
from newsletters.sender import Sender, advance
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
        if not any(sender.busy for sender in senders):
            break
        if time.monotonic() > reported + 1:
            report(total(senders))
            reported = time.monotonic()
    for sender in senders:
        sender.wind_up()
    if done := total(senders):
        report(done)


def total(senders: list[Sender]) -> Counter[str]:
    return sum((sender.done for sender in senders), Counter())


def _senders(stack: ExitStack, clock: Clock, way_out: Callable[[str], Transport | Line]) -> Iterator[Sender]:
    """Open the ways out of the relays for which something is due."""
    now = clock()
    for relay, publications in routes():
        if any(lane().filter(publications).due(now).exists() for lane in (_letters, _deliveries)):
            way = stack.enter_context(closing(line(way_out(relay.url))))
            owner = uuid.uuid4()
            yield Sender(way, partial(lease, relay, publications, owner, clock), owner, clock)


def routes() -> Iterator[tuple[Relay, Q]]:
    """Yield each relay that mail may take now, with the publications whose mail takes it."""
    own = {relay.publication_id: relay for relay in Relay.objects.exclude(publication=None).order_by("-rank", "-pk")}
    for publication, relay in own.items():
        yield relay, Q(publication=publication)
    yield Relay.of(0), ~Q(publication__in=list(own)) if own else Q()


def lease(relay: Relay, publications: Q, owner: uuid.UUID, clock: Clock, size: int) -> list[Any]:
    """Claim a batch of one lane for a relay: no letter ever waits behind a daily send."""
    now = clock()
    letters = _letters().filter(publications).lease(size, now, owner)
    return letters or _deliveries().filter(publications).lease(size, now, owner)


def waiting(now: datetime) -> bool:
    """Tell whether anything is due."""
    return any(lane().due(now).exists() for lane in (_letters, _deliveries))


def sweep(now: datetime) -> None:
    """Take back what dead workers held, and close what came too late."""
    advance([Claim.of(row) for row in _deliveries().abandoned().select_related("subscriber", "entry")])
    for lane in (_letters, _deliveries):
        for end, count in lane().sweep(now).items():
            if count:
                log.warning("%s: %d %s", lane().model._meta.verbose_name_plural, count, end)


def _letters() -> OutgoingQuerySet:
    return Letter.objects.select_related("publication", "subscriber")


def _deliveries() -> OutgoingQuerySet:
    return Delivery.objects.all()
