"""Promise hour and zone -> instant; instant -> local date. Pure: no database, no present moment."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

ONE_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Promise:
    """What is promised from a local date on; `weekdays` are ISO digits."""

    hour: time
    weekdays: str
    late_until: time
    first: date = date.min


def instant(day: date, hour: time, zone: str) -> datetime:
    """Return when the clocks of a zone show an hour on a date, in UTC.

    An hour that a spring change skips is shifted by the length of the gap; of an hour that an autumn change repeats,
    the first counts (zoneinfo's fold=0, Temporal's "compatible").
    """
    return datetime.combine(day, hour, tzinfo=ZoneInfo(zone)).astimezone(UTC)


def exists(day: date, hour: time, zone: str) -> bool:
    """Tell whether a zone has this date at all: Apia went from 29 to 31 December 2011."""
    return instant(day, hour, zone) != instant(day + ONE_DAY, hour, zone)


def local_date(moment: datetime, zone: str) -> date:
    return moment.astimezone(ZoneInfo(zone)).date()


def window(day: date, hour: time, late_until: time, zone: str) -> tuple[datetime, datetime]:
    """Return when a promise falls due on a date, and when it is too late for it, in UTC.

    Where a gap pushes the promised hour towards or past `late_until`, an hour is left; on no other day, or a promise
    late in the evening would reach into the next date.
    """
    due_at, over_at = instant(day, hour, zone), instant(day, late_until, zone)
    pushed = due_at.astimezone(ZoneInfo(zone)).time() != hour
    return due_at, max(over_at, due_at + timedelta(hours=1)) if pushed else over_at


def next_promise(after: datetime, hour: time, weekdays: str, zone: str) -> tuple[date, datetime]:
    """Return the first promised local date whose instant lies after a moment, with that instant in UTC.

    `weekdays` holds the ISO digits of the promised days, "1234567" for all. Raises ValueError without any.
    """
    day, at = promise_from(local_date(after, zone) - ONE_DAY, hour, weekdays, zone)
    while at <= after:
        day, at = promise_from(day + ONE_DAY, hour, weekdays, zone)
    return day, at


def promise_from(first: date, hour: time, weekdays: str, zone: str) -> tuple[date, datetime]:
    """Return the first promised local date from `first` on, with its instant in UTC. Raises ValueError without any."""
    for days in range(15):
        day = first + days * ONE_DAY
        if str(day.isoweekday()) in weekdays and exists(day, hour, zone):
            return day, instant(day, hour, zone)
    raise ValueError(f"{weekdays!r} promises no day")


def promise_on(day: date, promises: Sequence[Promise]) -> Promise:
    """Return which of several promises, each in force from a later date on, holds on a date."""
    return next(promise for promise in reversed(promises) if promise.first <= day)


def promised_from(first: date, promises: Sequence[Promise], zone: str) -> tuple[date, datetime]:
    """Return the first promised local date from `first` on, with its instant in UTC, where the promise changes."""
    for promise, following in zip(promises, [*promises[1:], None], strict=True):
        day, at = promise_from(max(first, promise.first), promise.hour, promise.weekdays, zone)
        if following is None or day < following.first:
            break
    return day, at
