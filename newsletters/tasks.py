"""Wake-ups. Any of them may be lost or doubled: the rows say what is due."""

import logging
import mmap
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from billiard import current_process
from celery import shared_task
from celery.signals import worker_shutting_down
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from kombu.exceptions import OperationalError

from newsletters import alarms, choosing, heartbeat, notices, planning, promise, rehearsal, sending
from newsletters.bounces import mailbox
from newsletters.models import Heartbeat
from newsletters.models.outgoing import State

log = logging.getLogger(__name__)

# How many processes a tick sets to work, on whatever hosts. One that sends already only passes the wake-up on.
CREW = 16
# One byte of memory that forked children share: Celery's prefork pool tells the parent alone that it is to stop.
_stopping = mmap.mmap(-1, 1)


@worker_shutting_down.connect
def stop(**told: Any) -> None:
    """Let the senders finish the messages they are at, and no more."""
    _stopping[0] = 1


@contextmanager
def unhurried(*signals: signal.Signals) -> Iterator[Callable[[], bool]]:
    """Hold signals, SIGTERM at least, back until the block has ended, and yield what tells whether to end it.

    Whoever ends a service may signal all of its processes. Celery's handler would end a child in the middle of a
    group, and leave its messages in doubt; and a child that ends at its own signal tells of no result, for which its
    parent waits another ten seconds. So a child of the pool only finishes its work: its parent ends it.
    """
    told: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: bool(_stopping[0])
        return
    held = (signal.SIGTERM, *signals)
    before = {each: signal.signal(each, lambda number, frame: told.append(number)) for each in held}
    try:
        yield lambda: bool(told or _stopping[0])
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    if told and current_process().name == "MainProcess":
        signal.raise_signal(told[0])


@shared_task
def tick() -> None:
    """Plan what has struck, tidy up, and wake the senders where something waits; then see how the promise stands."""
    now = timezone.now()
    beat(now)
    guarded(notices.tick, now)
    plans = planning.tick(now)
    sending.sweep(now)
    if sending.waiting(now):
        _wake(CREW)
    keep_watch(now, plans)


def beat(now: datetime) -> None:
    if not Heartbeat.objects.filter(name="tick").update(at=now):
        Heartbeat.objects.update_or_create(name="tick", defaults={"at": now})


@shared_task
def rehearse() -> None:
    """Rehearse tomorrow's emails where the evening has come. It may take minutes, so it is no part of the tick."""
    guarded(rehearsal.rehearse_due, timezone.now())


@shared_task
def collect() -> None:
    """Read the mailbox that bounces and answers come to."""
    now = timezone.now()
    if settings.BOUNCE_MAILBOX and mailbox.due(now):
        guarded(mailbox.collect, settings.BOUNCE_MAILBOX, now)
        wake()


@shared_task
def choose() -> None:
    """Settle what is uncertain by a publication's choice. It waits for providers, so it is no part of the tick."""
    if choosing.by_choice(timezone.now()):
        wake()


@shared_task
def tell() -> None:
    """Tell alarms and give signs of life. It waits for other machines, so it is no part of the tick."""
    for part in (alarms.tell, heartbeat.tell):
        guarded(part, timezone.now())


def keep_watch(now: datetime, plans: list[planning.Plan]) -> None:
    """Count, close and raise alarms. Whatever fails here stops neither planning nor sending, nor the other parts."""
    guarded(promise.tick, now, plans)
    guarded(alarms.tick, now)
    if promise.round_due(now):
        guarded(promise.go_round, now)
        guarded(alarms.go_round, now)
    if any(plan.rows for plan in plans):
        guarded(alarms.look_at_limits, now)
        heartbeat.planned(now)
    if alarms.to_tell(now).exists() or heartbeat.waits():
        send(tell)


def guarded(part: Callable[..., object], *facts: Any) -> None:
    try:
        part(*facts)
    except Exception:
        log.exception("%s.%s failed", part.__module__, part.__name__)


@shared_task
def drain(others: int = 0) -> None:
    """Send what is due for a minute, then make room and come back for the rest; first wake so many others."""
    if others and sending.waiting(timezone.now()):
        _wake(others - 1)
    with unhurried() as stopping:
        done = sending.drain(stopping=stopping)
        # Where nothing but delays came of it, the next tick is early enough.
        if sum(done.values()) > done[State.RETRY] and sending.waiting(timezone.now()):
            _wake()


def wake() -> None:
    """Wake the senders once the rows are committed. Without broker the next tick does it."""
    transaction.on_commit(_wake)


def _wake(others: int = 0) -> None:
    """Wake a sender, which wakes so many others."""
    send(drain, others)


def send(task: Any, *facts: Any) -> None:
    """Queue a task. A broker that is full or away keeps nobody from their work: the next tick tries again."""
    try:
        task.delay(*facts)
    except (OperationalError, OSError) as error:
        log.warning("The broker did not take a wake-up: %s", error)
