"""Wake-ups. Any of them may be lost or doubled: the rows say what is due."""

import logging
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any

from celery import shared_task
from celery.signals import worker_shutting_down
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from kombu.exceptions import OperationalError

from newsletters import alarms, heartbeat, notices, planning, promise, rehearsal, sending, stuck
from newsletters.bounces import mailbox
from newsletters.models import Heartbeat

log = logging.getLogger(__name__)

_stopping = threading.Event()


@worker_shutting_down.connect
def stop(**signal: Any) -> None:
    """Let the senders finish the message they are at, and no more."""
    _stopping.set()


@shared_task
def tick() -> None:
    """Plan what has struck, tidy up, and wake the senders where something waits; then see how the promise stands."""
    now = timezone.now()
    Heartbeat.objects.update_or_create(name="tick", defaults={"at": now})
    guarded(notices.tick, now)
    plans = planning.tick(now)
    sending.sweep(now)
    guarded(stuck.by_choice, now)
    if sending.waiting(now):
        drain.delay()
    keep_watch(now, plans)


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
        heartbeat.planned(now)
    if alarms.to_tell(now).exists() or heartbeat.waits():
        tell.delay()


def guarded(part: Callable[..., object], *facts: Any) -> None:
    try:
        part(*facts)
    except Exception:
        log.exception("%s.%s failed", part.__module__, part.__name__)


@shared_task
def drain() -> None:
    """Send what is due for a minute, then make room and come back for the rest."""
    if sending.drain(stopping=_stopping.is_set) and sending.waiting(timezone.now()):
        drain.delay()


def wake() -> None:
    """Wake the senders once the rows are committed. Without broker the next tick does it."""
    transaction.on_commit(_wake)


def _wake() -> None:
    try:
        drain.delay()
    except (OperationalError, OSError) as error:
        log.warning("The broker did not take a wake-up: %s", error)
