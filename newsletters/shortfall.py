"""Whether the limits carry what today's readers are promised: foreseen from what waits and what is still to strike."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta

from django.db.models import Count, Q

from newsletters import allowances, clock, limits
from newsletters.allowances import Route
from newsletters.limits import Demand, Meter
from newsletters.models import Break, Clock, Delivery, Halt, Publication, Relay, Subscriber, Tally
from newsletters.models.outgoing import OPEN


def foreseen(now: datetime) -> dict[int, tuple[int, int]]:
    """Return (emails that would come too late, all that wait or are to come today) by publication, where any would.

    Where nothing is limited it asks one question.
    """
    short, whole = Counter[int](), Counter[int]()
    for route in allowances.routes():
        limited = all(limits.windows(relay, now) for relay in route.relays)
        domains = allowances.capped(route.relays)
        if not limited and not domains:
            continue
        for demand in coming(route, now):
            whole[demand.publication] += demand.number
        at_all = too_late(route, now) if limited else Counter[int]()
        # Who is too late for one reason may be so for the other.
        short |= at_all | sum((too_late(route, now, domain) for domain in domains), Counter[int]())
    return {publication: (number, whole[publication]) for publication, number in short.items() if number}


def too_late(route: Route, now: datetime, domain: str = "") -> Counter[int]:
    """Count what would come too late by publication: of all, or of what goes to a domain."""
    short = Counter[int]()
    meters = [meter(relay, now, domain) for relay in route.relays]
    for demand in limits.foresee(meters, coming(route, now, domain), now):
        short[demand.publication] += demand.short
    return short


def coming(route: Route, now: datetime, domain: str = "") -> list[Demand]:
    return [*(waiting_at(route, now, domain) if domain else waiting(route, now)), *to_strike(route, now, domain)]


def waiting(route: Route, now: datetime) -> Iterator[Demand]:
    rows = Tally.objects.filter(route.publications, state__in=OPEN, until__gt=now)
    rows = rows.exclude(issue__in=Halt.objects.standing().values("issue"))
    for publication, due_at, until, number in rows.values_list("publication", "due_at", "until", "count"):
        yield Demand(publication, max(due_at, now), until, number)


def waiting_at(route: Route, now: datetime, domain: str) -> Iterator[Demand]:
    """Yield what waits for readers at a domain: no tally is kept of these."""
    rows = Delivery.objects.filter(route.publications, state__in=OPEN, late_until__gt=now)
    rows = rows.filter(subscriber__address_key__endswith=f"@{domain}")
    rows = rows.exclude(issue__in=Halt.objects.standing().values("issue"))
    same = rows.values_list("publication", "due_at", "late_until").order_by()
    for publication, due_at, until, number in same.annotate(number=Count("subscriber_id")):
        yield Demand(publication, max(due_at, now), until, number)


def to_strike(route: Route, now: datetime, domain: str = "") -> Iterator[Demand]:
    """Yield what is still to be planned for the date that the author's calendar shows."""
    rows = Clock.objects.filter(
        route.publications, next_at__gt=now - clock.ONE_DAY, next_at__lt=now + 2 * clock.ONE_DAY
    )
    for row in rows.select_related("publication").prefetch_related("publication__promise_changes"):
        today = clock.local_date(now, row.publication.zone)
        if row.next_date <= today and Break.on(row.publication, row.next_date) != Break.Kind.SILENCE:
            at, until = row.publication.window(row.next_date, row.zone)
            yield Demand(row.publication_id, max(at, now), until, expected(row.publication, row, domain))


def expected(publication: Publication, row: Clock, domain: str = "") -> int:
    """Count a zone's readers who are promised an email on its next date; an index holds them together."""
    weekday = row.next_date.isoweekday()
    own = Q(weekdays="") | Q(weekdays__contains=str(weekday))
    digest = Q(digest_on=None) | Q(digest_on=weekday)
    active = Subscriber.objects.mailable().filter(own, digest, publication=publication, zone=row.zone)
    if domain:
        active = active.filter(address_key__endswith=f"@{domain}")
    return active.filter(member_since__lte=row.next_at).count()


def meter(relay: Relay, now: datetime, domain: str = "") -> Meter:
    """Return what a relay has sent in the last day, by the minute."""
    sent: dict[tuple[datetime, bool], int] = defaultdict(int)
    rows = relay.allowances.filter(domain=domain, until__gt=now - clock.ONE_DAY)
    for until, number, letters in rows.values_list("until", "number", "letters"):
        minute = min(until, now).replace(second=0, microsecond=0) + timedelta(minutes=1)
        sent[minute, letters] += number
    known = Meter(relay, domain)
    known.sent.extend((at, number, letters) for (at, letters), number in sorted(sent.items()))
    return known
