"""A sign of life for a machine elsewhere, so that a dead server is noticed too (the ping protocol of healthchecks).

It hears `/start` when emails are planned, the bare address when all of them have left, and `/fail` where less than 95%
were accepted. A ping that fails is tried again at the next tick.
"""

import logging
from datetime import UTC, datetime
from http.client import HTTPException
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from django.conf import settings

from newsletters import alarms
from newsletters.models import Heartbeat, Tally
from newsletters.models.promise import MOVING

log = logging.getLogger(__name__)

SECONDS = 5
# What each Heartbeat row remembers
PLANNED, TOLD_START, TOLD_END = "sending planned", "start told", "end told"


EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


def planned(now: datetime) -> None:
    """Remember that emails were planned."""
    mark(PLANNED, now)


def waits() -> bool:
    """Tell whether there may be something to say."""
    return bool(settings.HEARTBEAT_URL) and at(PLANNED) > at(TOLD_END)


def tell(now: datetime) -> None:
    """Send the pings that are due. Never called where mail is sent: it may take some seconds."""
    if not waits():
        return
    if at(TOLD_START) < at(PLANNED):
        if not ping("/start"):
            return
        mark(TOLD_START, now)
    moving = Tally.objects.filter(state__in=MOVING, due_at__lte=now, until__gt=now)
    if not moving.exists() and ping(ending(now)):
        mark(TOLD_END, now)


def ending(now: datetime) -> str:
    """Return the path that tells how the latest sendings ended."""
    counts = alarms.due(now - alarms.LASTS, now).values()
    return "/fail" if any(alarms.falls_short(states) for states in counts) else ""


def at(name: str) -> datetime:
    return Heartbeat.objects.filter(name=name).values_list("at", flat=True).first() or EPOCH


def mark(name: str, now: datetime) -> None:
    Heartbeat.objects.update_or_create(name=name, defaults={"at": now})


def ping(path: str) -> bool:
    """Call HEARTBEAT_URL with a path behind it; return whether it answered."""
    parts = urlsplit(settings.HEARTBEAT_URL)
    url = parts._replace(path=parts.path.rstrip("/") + path).geturl()
    try:
        with urlopen(Request(url, method="POST"), timeout=SECONDS):  # noqa: S310 -- the settings refuse all but HTTP
            return True
    except (URLError, OSError, ValueError, HTTPException) as error:
        log.warning("HEARTBEAT_URL did not answer: %s", error)
        return False
