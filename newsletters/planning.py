"""The transaction that turns a struck hour into a day's rows."""

import logging
from dataclasses import dataclass
from datetime import date, datetime

import tzdata
from django.db import OperationalError, connection, transaction
from django.db.models import QuerySet

from newsletters import cascade, clock, digests, pace, queue
from newsletters.models import Break, Clock, Publication, Subscriber

log = logging.getLogger(__name__)

PLAN = f"""
    INSERT INTO newsletters_delivery
        (local_date, subscriber_id, slot, publication_id, way, issue_id, entry_id, state, reason,
         due_at, try_at, late_until, attempts, reply, settled_at)
    SELECT %(date)s, chosen.subscriber_id, 0, %(publication)s, chosen.way, chosen.issue_id, chosen.entry_id,
        CASE WHEN chosen.moved = 1 THEN 'skipped' WHEN chosen.issue_id IS NULL OR %(late)s = 1 THEN 'missed'
             ELSE 'planned' END,
        CASE WHEN chosen.moved = 1 THEN 'moved' WHEN %(late)s = 1 THEN 'outage' WHEN chosen.issue_id IS NULL THEN 'dry'
             ELSE '' END,
        %(due_at)s, %(due_at)s, %(late_until)s, 0, '',
        CASE WHEN chosen.moved = 1 OR chosen.issue_id IS NULL OR %(late)s = 1 THEN %(now)s END
    FROM ({cascade.select(cascade.OF_A_ZONE)}) chosen WHERE true
    ON CONFLICT DO NOTHING
"""

# Readers whom the sequences had nothing more for: the daily queue has them now. A walk that began since, on the same
# date, is another membership's. The scalar subquery makes PostgreSQL ask the key for each walk; a join would be
# planned as if the date were empty, which it was when statistics were last taken.
END_WALKS = f"""
    UPDATE newsletters_walk SET ended_at = %(due_at)s
    WHERE ended_at IS NULL AND started_at <= %(due_at)s
      AND subscriber_id IN (SELECT id FROM newsletters_subscriber WHERE {cascade.OF_A_ZONE} AND {cascade.ACTIVE})
      AND (SELECT way FROM newsletters_delivery past
           WHERE past.local_date = %(date)s AND past.subscriber_id = newsletters_walk.subscriber_id AND past.slot = 0
             AND past.due_at = %(due_at)s) NOT IN ('sequence', 'digest')
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """What one claim of a clock planned."""

    publication: str
    zone: str
    date: date
    rows: int


def tick(now: datetime) -> list[Plan]:
    """Plan every day whose hour has struck, one after another. Doing it twice, or in two places, adds nothing."""
    follow_rules()
    return strike(Clock.objects.all(), now)


def strike(clocks: QuerySet[Clock], now: datetime) -> list[Plan]:
    """Plan what is due of these clocks."""
    plans: list[Plan] = []
    broken: set[int] = set()
    due = clocks.filter(next_at__lte=now).order_by("next_at")
    while batch := list(due.exclude(pk__in=broken).values_list("pk", flat=True)[:1000]):
        for pk in batch:
            try:
                if plan := claim(pk, now):
                    plans.append(plan)
            except OperationalError:
                raise
            except Exception:
                # Whatever is wrong with one publication must not keep the others waiting; the next tick tries again.
                log.exception("A day could not be planned")
                broken.add(pk)
    return plans


def follow_rules() -> None:
    """Set right the clocks whose zone rules have changed since: what is promised may come sooner, or later.

    Of several releases of tzdata at work, as in a rolling deployment, the newest has the last word.
    """
    right: list[int] = []
    rows = Clock.objects.outdated().select_related("publication")
    for row in rows.prefetch_related("publication__promise_changes"):
        try:
            aimed = row.publication.promise_from(row.next_date, row.zone)
        except Exception:
            log.exception("A clock could not be set right")
            continue
        if aimed == (row.next_date, row.next_at):
            right.append(row.pk)
        else:
            set_right(row.pk, row.next_date, *aimed)
    if right:
        Clock.objects.outdated().filter(pk__in=right).update(rules=tzdata.IANA_VERSION)


def set_right(pk: int, was: date, next_date: date, next_at: datetime) -> None:
    # Whoever has struck this date meanwhile has set the clock for another one.
    row = Clock.objects.filter(pk=pk, next_date=was)
    if row.update(next_date=next_date, next_at=next_at, rules=tzdata.IANA_VERSION):
        log.warning("Zone rules have changed: the next promise is due at %s", next_at)


def claim(pk: int, now: datetime) -> Plan | None:
    """Move one clock to its next promise and plan the day it struck for, both or neither."""
    with transaction.atomic():
        row = Clock.objects.filter(pk=pk).first()
        if row is None:
            return None
        # Planning is serialised for a publication: whoever comes second reads a clock that has moved on.
        publication = Publication.objects.select_for_update().get(pk=row.publication_id)
        row.refresh_from_db()
        # Other rules or another hour may have set it.
        if (at := clock.instant(row.next_date, publication.promise_on(row.next_date).hour, row.zone)) > row.next_at:
            row.aim(row.next_date, at)
        if row.next_at > now:
            return None
        queue.fix_days(publication, row.next_at, now)
        rows = plan(publication, row.zone, row.next_date, now)
        row.last_date = row.next_date
        row.aim(*publication.promise_from(row.next_date + clock.ONE_DAY, row.zone), "last_date")
    log.info("%s: %d emails for %s in %s", publication.slug, rows, row.last_date, row.zone)
    return Plan(publication.slug, row.zone, row.last_date, rows)


def plan(publication: Publication, zone: str, day: date, now: datetime) -> int:
    """Insert the daily delivery of every reader of a zone for a local date; return how many are new."""
    if Break.on(publication, day) == Break.Kind.SILENCE:
        return 0
    due_at, late_until = publication.window(day, zone)
    resume(publication, zone, day)
    if (promise := publication.promise_on(day)) in publication.coming:
        pace.fit(publication.subscribers.filter(zone=zone), promise.weekdays)
    values = cascade.values(publication.pk, day, due_at, queue.issue_at(publication, due_at))
    values |= {"zone": zone, "late": int(now >= late_until)}
    values |= {"late_until": connection.ops.adapt_datetimefield_value(late_until)}
    values |= {"now": connection.ops.adapt_datetimefield_value(now)}
    rows = digests.plan(publication, day, due_at, values) + cascade.execute(PLAN, values)
    cascade.execute(END_WALKS, values)
    digests.caught_up(publication, zone, day, due_at)
    return rows


def resume(publication: Publication, zone: str, day: date) -> None:
    """End the pauses that last until this date."""
    paused = Subscriber.objects.filter(publication=publication, zone=zone, status=Subscriber.Status.PAUSED)
    paused.filter(paused_until__lte=day).update(status=Subscriber.Status.ACTIVE, paused_until=None)
