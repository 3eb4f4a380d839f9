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


def newcomers(publication: Publication, first: date) -> QuerySet[Subscriber]:
    """Return all whose wave is `first` or later, or not fixed, whoever gave a sign of life last first."""
    to_come = Q(member_since=None)
    for zone in publication.clocks.values_list("zone", flat=True):
        to_come |= Q(zone=zone, member_since__gte=clock.instant(first, time.min, zone))
    rows = publication.subscribers.filter(to_come, status=Subscriber.Status.ACTIVE)
    return rows.order_by(Coalesce(F("seen_at"), F("created_at")).desc(), "pk")


def planned(publication: Publication, now: datetime) -> tuple[list[tuple[date, list[int]]], int]:
    """Return the calendar, (date, keys of the readers), for all who are to enter, and how many find no place in it."""
    rows = newcomers(publication, first_date(publication, now))
    relays = allowances.route_of(publication.pk)
    domains = allowances.capped(relays)
    keys, order = [], []
    for pk, address in rows.values_list("pk", "address_key").iterator(CHUNK):
        domain = address.rpartition("@")[2]
        keys.append(pk)
        order.append(domain if domain in domains else "")
    whole = room(publication, relays, now)
    capped = {domain: room(publication, relays, now, domain) for domain in domains & set(order)}
    found = [(day, [keys[place] for place in wave]) for day, wave in limits.calendar(order, whole, capped)]
    return found, len(keys) - sum(len(wave) for _day, wave in found)


def room(publication: Publication, relays: list[Relay], now: datetime, domain: str = "") -> dict[date, float]:
    """Return how many readers more than today's each promised date could carry, at all or at a domain."""
    there = readers(relays, publication, now, domain)
    found: dict[date, float] = {}
    most, seconds = -math.inf, WITHIN.total_seconds()
    for day in islice(dates(publication, now), HORIZON):
        each = (
            limits.carries_to(relay, domain, seconds) if domain else limits.carries(relay, day, seconds)
            for relay in relays
        )
        # Who has entered stays, also where the limits shrink on a later date.
        most = max(most, sum(each) * (1 - LEFT_FREE) - there)
        found[day] = most
    return found


def dates(publication: Publication, now: datetime) -> Iterator[date]:
    """Yield the promised dates on which a wave may begin."""
    for day, _issue, rest in queue.forecast(publication, first_date(publication, now) - clock.ONE_DAY):
        if rest != Break.Kind.SILENCE:
            yield day


def readers(relays: list[Relay], publication: Publication, now: datetime, domain: str) -> int:
    """Count the readers whom the same relays carry or are to carry, of all publications, but for those to enter."""
    own = any(relay.publication_id for relay in relays)
    sharing = Q(publication=publication) if own else Q(publication__relays=None)
    at = Q(address_key__endswith=f"@{domain}") if domain else Q()
    moved = newcomers(publication, first_date(publication, now)).exclude(member_since=None).filter(at)
    there = Subscriber.objects.mailable().filter(sharing, at).exclude(member_since=None)
    return there.count() - moved.count()


def enter(publication: Publication, now: datetime) -> list[tuple[date, int]]:
    """Give each reader who is to enter the date of their wave; return the calendar. Doing it again plans anew."""
    with transaction.atomic():
        # No hour strikes meanwhile.
        publication = Publication.objects.select_for_update().get(pk=publication.pk)
        calendar, _without = planned(publication, now)
        first = first_date(publication, now)
        newcomers(publication, first).order_by().update(member_since=None)
        for zone in set(to_enter(publication).values_list("zone", flat=True).distinct()) if calendar else ():
            Clock.objects.ensure(publication, zone, now)
        for day, keys in calendar:
            begin(day, keys)
        publication.waves.filter(date__gte=first).delete()
        sizes = [(day, len(keys)) for day, keys in calendar]
        Wave.objects.bulk_create(Wave(publication=publication, date=day, readers=number) for day, number in sizes)
    return sizes


def begin(day: date, keys: list[int]) -> None:
    """Let readers in with a date: from its first minute where each lives."""
    for at in range(0, len(keys), CHUNK):
        by_zone: dict[str, list[int]] = defaultdict(list)
        for pk, zone in Subscriber.objects.filter(pk__in=keys[at : at + CHUNK]).values_list("pk", "zone"):
            by_zone[zone].append(pk)
        for zone, some in by_zone.items():
            Subscriber.objects.filter(pk__in=some).update(member_since=clock.instant(day, time.min, zone))


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
