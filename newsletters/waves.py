"""Readers who come in numbers enter in waves, so that no promise is made that the limits cannot carry.

Whoever gave a sign of life last comes first. A reader's promise begins on the date of their wave: before it they are
neither expected nor missed.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from datetime import date, datetime, time, timedelta
from itertools import islice

from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Coalesce

from newsletters import allowances, clock, limits, queue
from newsletters.models import Break, Clock, Publication, Relay, Subscriber, Wave

# A wave is what can be sent within an hour after the promised one: later would break the promise all the same.
WITHIN = timedelta(hours=1)
# Of what a date carries, this is left to those who come by themselves.
LEFT_FREE = 0.1
# Whoever has no place after so many promised dates gets none before the limits grow.
HORIZON = 366
CHUNK = 1000


def first_date(publication: Publication, now: datetime) -> date:
    """Return the first date that has not begun anywhere: the second from today."""
    return clock.local_date(now, publication.zone) + 2 * clock.ONE_DAY


def to_enter(publication: Publication) -> QuerySet[Subscriber]:
    """Return the readers who have come in numbers and have no date yet."""
    return publication.subscribers.filter(status=Subscriber.Status.ACTIVE, member_since=None)


def still_to_come(publication: Publication, first: date) -> Iterator[QuerySet[Subscriber]]:
    """Yield, zone by zone, the readers whose wave begins on a date or later."""
    for zone in publication.clocks.values_list("zone", flat=True):
        yield publication.subscribers.filter(zone=zone, member_since__gte=clock.instant(first, time.min, zone))


def planned(publication: Publication, now: datetime) -> tuple[list[tuple[date, int]], int]:
    """Return the calendar, (date, number), for all who are to enter, and how many find no place in it."""
    moved = sum(rows.count() for rows in still_to_come(publication, first_date(publication, now)))
    number = to_enter(publication).count() + moved
    found = limits.calendar(number, room(publication, moved, now))
    return found, number - sum(wave for _day, wave in found)


def room(publication: Publication, moved: int, now: datetime) -> dict[date, float]:
    """Return how many readers more than today's each promised date could carry; those `moved` give up their place."""
    relays = allowances.route_of(publication.pk)
    there = readers(relays, publication) - moved
    found: dict[date, float] = {}
    most = -math.inf
    for day in islice(dates(publication, now), HORIZON):
        carried = sum(limits.carries(relay, day, WITHIN.total_seconds()) for relay in relays)
        # Who has entered stays, also where the limits shrink on a later date.
        most = max(most, carried * (1 - LEFT_FREE) - there)
        found[day] = most
        if carried == math.inf:
            break
    return found


def dates(publication: Publication, now: datetime) -> Iterator[date]:
    """Yield the promised dates on which a wave may begin."""
    for day, _issue, rest in queue.forecast(publication, first_date(publication, now) - clock.ONE_DAY):
        if rest != Break.Kind.SILENCE:
            yield day


def readers(relays: list[Relay], publication: Publication) -> int:
    """Return how many readers the same relays carry or are to carry, of all publications."""
    own = any(relay.publication_id for relay in relays)
    sharing = Q(publication=publication) if own else Q(publication__relays=None)
    return Subscriber.objects.mailable().filter(sharing).exclude(member_since=None).count()


def enter(publication: Publication, now: datetime) -> list[tuple[date, int]]:
    """Give each reader who is to enter the date of their wave; return the calendar. Doing it again plans anew."""
    with transaction.atomic():
        # No hour strikes meanwhile.
        publication = Publication.objects.select_for_update().get(pk=publication.pk)
        calendar, _without = planned(publication, now)
        first = first_date(publication, now)
        for rows in still_to_come(publication, first):
            rows.update(member_since=None)
        for zone in set(to_enter(publication).values_list("zone", flat=True).distinct()) if calendar else ():
            Clock.objects.ensure(publication, zone, now)
        for day, number in calendar:
            begin(publication, day, number)
        publication.waves.filter(date__gte=first).delete()
        Wave.objects.bulk_create(Wave(publication=publication, date=day, readers=number) for day, number in calendar)
    return calendar


def begin(publication: Publication, day: date, number: int) -> None:
    """Let the next readers in with a date: from its first minute where each lives."""
    alive = Coalesce(F("seen_at"), F("created_at")).desc()
    in_order = to_enter(publication).order_by(alive, "pk").values_list("pk", "zone")
    while number:
        by_zone: dict[str, list[int]] = defaultdict(list)
        for pk, zone in in_order[: min(number, CHUNK)]:
            by_zone[zone].append(pk)
        for zone, keys in by_zone.items():
            since = clock.instant(day, time.min, zone)
            number -= Subscriber.objects.filter(pk__in=keys).update(member_since=since)
        if not by_zone:
            return


def shown(publication: Publication, today: date) -> list[Wave]:
    """Return the waves of a calendar that is not over, its past ones included."""
    rows = list(publication.waves.all())
    return rows if any(wave.date >= today for wave in rows) else []


def stair(waves: Iterable[Wave], width: int, height: int) -> str:
    """Return the path of a picture: the readers there are after each wave, as a stair from the lower left."""
    sizes = Counter({wave.date: wave.readers for wave in waves})
    if not sizes:
        return ""
    first, days, total = min(sizes), (max(sizes) - min(sizes)).days + 1, sum(sizes.values())
    step, entered, path = width / days, 0, [f"M0 {height}"]
    for day in sorted(sizes):
        entered += sizes[day]
        path += [f"H{round((day - first).days * step)}", f"V{round(height - entered * height / total)}"]
    return "".join([*path, f"H{width}V{height}Z"])
