"""The promise ledger: what was expected on each date, what became of it, and whether the promise was kept.

While anything of a date moves, its deliveries are counted anew each tick (`Tally`). Once nobody is left to plan and the
last reader's `late_until` has passed, the date closes: its figures are written into its `Day` and never change. What
becomes known later is appended as a `Correction`, so that close + corrections equals a recount of the deliveries.
"""

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import BooleanField, Case, Count, Exists, F, Max, OuterRef, Q, QuerySet, Sum, Value, When

from newsletters import figures as arithmetic
from newsletters.figures import Figures
from newsletters.models import Bounce, Break, Clock, Correction, Day, Delivery, Heartbeat, Publication, Tally
from newsletters.models.outgoing import State
from newsletters.models.promise import MOVING
from newsletters.planning import Plan

log = logging.getLogger(__name__)

ON_TIME = timedelta(minutes=15)
ROUND = timedelta(minutes=10)
# For so many days a closed date is compared with its deliveries; bounces seldom come later than after five.
MEMORY = 35
# Below this the public line is hidden; from a year without a miss, older ones are no longer told.
SHOWN_FROM, A_YEAR = 14, 365


def tick(now: datetime, plans: Iterable[Plan] = ()) -> None:
    """Count anew the dates that were just planned and those that still move; an idle tick asks one question."""
    dates: dict[date, set[int]] = defaultdict(set)
    for day, publication in Tally.objects.filter(state__in=MOVING).values_list("date", "publication_id").distinct():
        dates[day].add(publication)
    if slugs := {plan.publication for plan in plans}:
        numbers = dict(Publication.objects.filter(slug__in=slugs).values_list("slug", "pk"))
        for plan in plans:
            dates[plan.date].add(numbers[plan.publication])
    for day, publications in dates.items():
        with ledger():
            count(day, publications)


def round_due(now: datetime) -> bool:
    """Claim the round of these ten minutes: of any number of beats, one gets it. A clock set back claims at once."""
    last = Heartbeat.objects.filter(name="ledger")
    if last.filter(at__gt=now - ROUND, at__lte=now).exists():
        return False
    stale = last.exclude(at__gt=now - ROUND, at__lte=now)
    return bool(stale.update(at=now)) or Heartbeat.objects.get_or_create(name="ledger", defaults={"at": now})[1]


def go_round(now: datetime) -> None:
    """Count every open date, close what is over, and compare some closed dates with their deliveries."""
    for day, publications in open_dates(now).items():
        with ledger():
            count(day, publications)
    add_missing_days(now)
    close(now)
    correct(now, in_turn(now))
    Tally.objects.filter(date__lt=now.date() - timedelta(days=MEMORY + 5)).delete()


@contextmanager
def ledger() -> Iterator[None]:
    """Let one process at a time count: two at once would each delete the old figures and add the new ones twice."""
    with transaction.atomic():
        Heartbeat.objects.get_or_create(name="ledger", defaults={"at": datetime(2000, 1, 1, tzinfo=UTC)})
        Heartbeat.objects.select_for_update().get(name="ledger")
        yield


def count(day: date, publications: Collection[int]) -> None:
    """Count a date's deliveries of these publications anew, with one DELETE and one INSERT … SELECT … GROUP BY."""
    if not publications:
        return
    counted = (
        deliveries(day, publications)
        .values_list("publication_id", "local_date", "due_at", "issue_id", "way", "state", "reason", "on_time")
        .annotate(count=Count("*"), until=Max("late_until"))
    )
    select, parameters = counted.query.sql_with_params()
    columns = "publication_id, date, due_at, issue_id, way, state, reason, on_time, count, until"
    Tally.objects.filter(date=day, publication__in=publications).delete()
    with connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO newsletters_tally ({columns}) {select}", parameters)


def deliveries(day: date, publications: Collection[int]) -> QuerySet[Any]:
    """Return a date's deliveries, each with whether it was on time."""
    in_time = Q(state=State.SENT, settled_at__lte=F("due_at") + ON_TIME)
    on_time = Case(When(in_time, then=Value(True)), default=Value(False), output_field=BooleanField())
    rows: QuerySet[Any] = Delivery.objects.filter(local_date=day, publication__in=publications)
    with_it: QuerySet[Any] = rows.annotate(on_time=on_time)
    return with_it


def open_dates(now: datetime) -> dict[date, set[int]]:
    """Return the publications of each date that is not closed, or that a zone has struck before the author's own."""
    struck = Clock.objects.filter(last_date__gte=now.date() - timedelta(days=2))
    dates: dict[date, set[int]] = defaultdict(set)
    for day, publication in [
        *Day.objects.filter(closed_at=None).values_list("date", "publication"),
        *struck.values_list("last_date", "publication").distinct(),
    ]:
        if day:
            dates[day].add(publication)
    return dates


def add_missing_days(now: datetime) -> None:
    """Add the day of a date that only other zones had, because the author's calendar or promise passed it over.

    It takes no issue of the queue, and comes only once a later day is there: the next issue is fixed for the date
    after the last day.
    """
    days = Day.objects.filter(publication=OuterRef("publication"))
    same, later = days.filter(date=OuterRef("date")), days.filter(date__gt=OuterRef("date"))
    orphans = Tally.objects.filter(~Exists(same), Exists(later), date__gt=now.date() - timedelta(days=10))
    for pk, day in orphans.values_list("publication", "date").distinct():
        publication = Publication.objects.get(pk=pk)
        made = publication.promise_on(day)
        defaults = {
            "fixed_at": now,
            "rest": Break.on(publication, day),
            "hour": made.hour,
            "weekdays": made.weekdays,
        }
        Day.objects.get_or_create(publication=publication, date=day, defaults=defaults)


def closable(now: datetime) -> QuerySet[Day]:
    """Return the open days that no clock will strike any more and of which nothing is to come."""
    clocks = Clock.objects.filter(publication=OuterRef("publication"))
    rows = Tally.objects.filter(publication=OuterRef("publication"), date=OuterRef("date"))
    to_come = rows.filter(Q(state__in=MOVING) | Q(until__gt=now)).exclude(way=Delivery.Way.ANNOUNCEMENT)
    # Without clocks there are no readers: such a day ends with its date, everywhere.
    over = Exists(clocks) | Q(date__lt=now.date() - timedelta(days=2))
    to_strike = clocks.filter(next_date__lte=OuterRef("date"))
    return Day.objects.filter(over, ~Exists(to_strike), ~Exists(to_come), closed_at=None)


def close(now: datetime) -> list[Day]:
    """Write down the figures of each day that is over; return those days."""
    closed: list[Day] = []
    for date_ in sorted(set(closable(now).values_list("date", flat=True))):
        with ledger():
            count(date_, set(closable(now).filter(date=date_).values_list("publication", flat=True)))
            # Asked once more: what the figures of the last tick did not know may still be to come.
            days = list(closable(now).filter(date=date_))
            counted = tallied(date_, days)
            for day in days:
                day.closed_at = now
                for name in arithmetic.NAMES:
                    setattr(day, name, getattr(counted[day.publication_id], name))
            Day.objects.bulk_update(days, ["closed_at", *arithmetic.NAMES])
            closed += days
    return closed


def tallied(date_: date, days: Iterable[Day]) -> dict[int, Figures]:
    """Return the figures of a date as last counted, by publication."""
    rows = Tally.objects.filter(date=date_, publication__in={day.publication_id for day in days})
    groups: dict[int, list[Any]] = defaultdict(list)
    daily = rows.exclude(way=Delivery.Way.ANNOUNCEMENT).values_list("publication", "state", "reason", "on_time")
    for publication, *row in daily.annotate(number=Sum("count")):
        groups[publication].append(row)
    return {day.publication_id: arithmetic.read(groups[day.publication_id], day.rest) for day in days}


def recount(day: Day) -> Figures:
    """Return a day's figures from its deliveries, as they stand now."""
    rows = deliveries(day.date, [day.publication_id]).filter(slot=0)
    return arithmetic.read(rows.values_list("state", "reason", "on_time").annotate(number=Count("*")), day.rest)


def figures(day: Day) -> Figures:
    """Return what the ledger says of a closed day: the close, and all corrections since."""
    known = Figures(**{name: getattr(day, name) for name in arithmetic.NAMES})
    for correction in sorted(day.corrections.all(), key=lambda correction: correction.pk):
        known = arithmetic.plus(known, correction.changes)
    return known


def in_turn(now: datetime) -> set[date]:
    """Return the closed dates to compare in this round: those that say ends are uncertain, those with new bounces,
    and one of the last 35 in turn.

    Nothing marks a delivery that changes after its day was closed, whoever changes it: a bounce, a settlement, a late
    reply. One date a round costs one pass over that date's rows, and comes to each of them four times a day.
    """
    number = int(now.timestamp() // ROUND.total_seconds())
    recent = Day.objects.filter(closed_at__isnull=False, date__gt=now.date() - timedelta(days=MEMORY))
    doubtful = recent.filter(uncertain__gt=0).prefetch_related("corrections")
    uncertain = {day.date for day in doubtful if figures(day).uncertain}
    bounced = Bounce.objects.filter(at__gt=now - 2 * ROUND, date__isnull=False).values_list("date", flat=True)
    return {now.date() - timedelta(days=number % MEMORY), *uncertain, *filter(None, bounced)}


def correct(now: datetime, dates: Iterable[date]) -> list[Correction]:
    """Append to each closed day of these dates what has changed since it was closed or last corrected."""
    written: list[Correction] = []
    for date_ in sorted(dates):
        with ledger():
            closed = Day.objects.filter(date=date_, closed_at__isnull=False).prefetch_related("corrections")
            days = list(closed)
            count(date_, {day.publication_id for day in days})
            counted = tallied(date_, days)
            changes = {day: arithmetic.difference(figures(day), counted[day.publication_id]) for day in days}
            new = [Correction(day=day, at=now, changes=change) for day, change in changes.items() if change]
            written += Correction.objects.bulk_create(new)
    return written


@dataclass(frozen=True, slots=True)
class Record:
    """What the ledger adds up to, of the days that readers expected. Shares are per cent, None without any day."""

    streak: int = 0
    best: int = 0
    kept: int = 0
    days: int = 0
    since: date | None = None  # the first day of the streak
    first: date | None = None  # the first day of all
    on_time_30: float | None = None
    on_time_365: float | None = None

    @property
    def shown(self) -> bool:
        return self.days >= SHOWN_FROM

    @property
    def unbroken(self) -> bool:
        """Tell whether the public line is the streak; otherwise it is the days kept out of all."""
        return self.streak == self.days or self.streak >= A_YEAR


def record(publication: Publication, today: date) -> Record:
    """Read the ledger of a publication; three queries however long it is."""
    closed = Day.objects.filter(publication=publication, closed_at__isnull=False, date__lte=today)
    changes = changed(publication)
    rows = closed.order_by("date").values_list("pk", "date", "kept")
    return add_up(((day, changes.get(pk, stands)) for pk, day, stands in rows), *on_time(closed, today))


def add_up(
    verdicts: Iterable[tuple[date, bool | None]], month: float | None = None, whole: float | None = None
) -> Record:
    """Add up the verdicts of closed days, the oldest first; the shares of what came on time are given."""
    streak, best, kept, days, since, first = 0, 0, 0, 0, None, None
    for day, stands in verdicts:
        if stands is None:
            continue
        days, first = days + 1, first or day
        kept, streak = kept + stands, streak + 1 if stands else 0
        since = (since or day) if stands else None
        best = max(best, streak)
    return Record(streak, best, kept, days, since, first, month, whole)


def changed(publication: Publication) -> dict[int, bool | None]:
    """Return the days whose verdict a correction has changed, each with the last one."""
    rows = Correction.objects.filter(day__publication=publication, changes__has_key="kept").order_by("pk")
    return {day: changes["kept"] for day, changes in rows.values_list("day", "changes")}


def on_time(closed: QuerySet[Day], today: date) -> tuple[float | None, float | None]:
    """Return how many per cent of what was expected in the last 30 and 365 days came within 15 minutes."""
    year = closed.filter(date__gt=today - timedelta(days=365)).exclude(rest=Break.Kind.SILENCE)
    sums: dict[int, list[int]] = {30: [0, 0], 365: [0, 0]}
    later = Correction.objects.filter(day__in=year).values_list("day__date", "changes")
    rows = list(year.values_list("date", "on_time", "expected"))
    rows += [(day, changes.get("on_time", 0), changes.get("expected", 0)) for day, changes in later]
    for day, came, expected in rows:
        for span, both in sums.items():
            if day > today - timedelta(days=span):
                both[0] += came
                both[1] += expected
    month, whole = (100 * came / expected if expected else None for came, expected in sums.values())
    return month, whole
