"""Promise hour and zone -> instant; instant -> local date. Pure: no database, no present moment."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

ONE_DAY = timedelta(days=1)


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


def next_promise(after: datetime, hour: time, weekdays: str, zone: str) -> tuple[date, datetime]:
    """Return the first promised local date whose instant lies after a moment, with that instant in UTC.

    `weekdays` holds the ISO digits of the promised days, "1234567" for all. Raises ValueError without any.
    """
    day = local_date(after, zone) - ONE_DAY
    for _ in range(10):
        if str(day.isoweekday()) in weekdays and exists(day, hour, zone) and instant(day, hour, zone) > after:
            return day, instant(day, hour, zone)
        day += ONE_DAY
    raise ValueError(f"{weekdays!r} promises no day")
