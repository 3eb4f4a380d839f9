"""How many messages a worker may send by which relay: taken in bites from what all workers share, and given back.

A bite counts from the moment it is taken until its messages have left the relay's windows. What a worker that died had
taken counts as sent when its lease ran out: the limit holds whoever dies.
"""

import logging
import math
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import F, Max, Q, Sum

from newsletters import headers, limits
from newsletters.limits import Window
from newsletters.models import Allowance, Delivery, Halt, Letter, Line, Relay, Rest
from newsletters.models.outgoing import LEASE, OutgoingQuerySet, State
from newsletters.models.relay import HERE

log = logging.getLogger(__name__)

# Of what may go in a second or a few, one worker takes a part at a time.
BITES = 4
SHORT = 10
# A letter waits so long for the next look where its recipient's domain takes no more.
SOON = timedelta(seconds=5)
FIRST_REST, LONGEST_REST = timedelta(seconds=15), timedelta(minutes=10)
# Slower than this after another, since several workers hear of the same trouble.
APART = timedelta(seconds=10)
# This many put off, and this share, are the server's mood and no single mailbox's.
MANY, SHARE = 10, 0.2
# The line to a domain moves a little slower than its limit, so that few stand in it twice.
PACE = 0.9
REMEMBERED = timedelta(hours=25)
LATELY = timedelta(hours=1)


Lanes = Sequence[Callable[[], OutgoingQuerySet]]


@dataclass(frozen=True, slots=True)
class Route:
    """The relays that some publications' mail takes, the first that is free before the others."""

    relays: list[Relay]
    publications: Q

    def of(self, lane: OutgoingQuerySet) -> OutgoingQuerySet:
        return lane.filter(self.publications)

    def fresh(self) -> "Route":
        """Return it with what other workers have learned of its relays."""
        now = Relay.objects.seen_from_here().in_bulk([relay.pk for relay in self.relays])
        return Route([now[relay.pk] for relay in self.relays if relay.pk in now], self.publications)


def routes() -> list[Route]:
    """Return the instance's own way, for all publications without one, and the way of each that has one."""
    own: dict[int, list[Relay]] = defaultdict(list)
    shared: list[Relay] = []
    for relay in Relay.objects.seen_from_here().order_by("rank", "pk"):
        (own[relay.publication_id] if relay.publication_id else shared).append(relay)
    others = ~Q(publication__in=list(own)) if own else Q()
    return [
        Route(shared or [Relay.objects.create(name="MAIL_URL")], others),
        *(Route(relays, Q(publication=publication)) for publication, relays in own.items()),
    ]


def route_of(publication: int) -> list[Relay]:
    """Return the relays of one publication."""
    found = next((route for route in routes() if route.publications == Q(publication=publication)), routes()[0])
    return found.relays


def capped(relays: list[Relay]) -> set[str]:
    """Return the recipients' domains that none of these relays takes without limit."""
    return set.intersection(*(set(relay.domain_caps) for relay in relays))


def is_letters(lane: OutgoingQuerySet) -> bool:
    return issubclass(lane.model, Letter)


def is_turn(route: Route, relay: Relay, now: datetime) -> bool:
    """Tell whether a relay may send now: it is awake, and so is none before it that has room."""
    for other in free(route, now):
        if other.pk == relay.pk:
            return True
        # What only the next second has room for is worth waiting for, not a reason to leave the first relay.
        if room(other, [window for window in limits.windows(other, now) if window.seconds > SHORT], now) > 0:
            return False
    return False


def free(route: Route, now: datetime) -> list[Relay]:
    return [relay for relay in route.relays if not relay.is_resting(now)]


def take(relay: Relay, wanted: int, now: datetime, letters: bool = False, domain: str = "") -> Allowance | None:
    """Take up to `wanted` messages of what may go by a relay, or to a domain that it caps; None where nothing may."""
    with transaction.atomic():
        # Workers take one after another: each reads what those before it took.
        relay = Relay.objects.select_for_update().get(pk=relay.pk)
        windows = limits.domain_windows(relay, domain) if domain else limits.windows(relay, now)
        number = min([wanted, room(relay, windows, now, letters, domain), *map(largest, windows)])
        if number <= 0:
            return None
        return Allowance.objects.create(
            relay=relay, domain=domain, letters=letters, number=number, until=now + LEASE + timedelta(seconds=10)
        )


def largest(window: Window) -> float:
    """Return the largest bite of a window: whoever holds one of a short window keeps the others waiting."""
    return math.ceil(window.number / BITES) if window.seconds <= SHORT else math.inf


def room(relay: Relay, windows: list[Window], now: datetime, letters: bool = False, domain: str = "") -> float:
    """Return how many more messages may go; one query."""
    if not windows:
        return math.inf
    sums: dict[str, Any] = {}
    for place, window in enumerate(windows):
        within = Q(until__gt=now - window.length)
        sums |= {f"all{place}": Sum("number", filter=within, default=0)}
        sums |= {f"daily{place}": Sum("number", filter=within & Q(letters=False), default=0)}
    longest = max(window.length for window in windows)
    taken = Allowance.objects.filter(relay=relay, domain=domain, until__gt=now - longest).aggregate(**sums)
    pairs = [(taken[f"all{place}"], taken[f"daily{place}"]) for place in range(len(windows))]
    return min(window.room(*pair, letters) for window, pair in zip(windows, pairs, strict=True))


def opens_in(route: Route, relay: Relay, lanes: Lanes, now: datetime) -> float | None:
    """Return the seconds after which a look is worth while, or None where only the next tick's is.

    That is where something waits for no more than the next second's share, or for its relay's turn.
    """
    if not is_turn(route, relay, now):
        return None
    windows = limits.windows(relay, now)
    short = [window.seconds for window in windows if window.seconds <= SHORT]
    if not short and not relay.domain_caps and relay.pk == route.relays[0].pk:
        return None
    if not any(route.of(lane()).due(now).exists() for lane in lanes):
        return None
    if room(relay, [window for window in windows if window.seconds > SHORT], now) <= 0:
        return None
    return max(short, default=0.1) / BITES


def tidy(now: datetime) -> None:
    """Forget what has left every window."""
    Allowance.objects.filter(until__lt=now - REMEMBERED).delete()


def overdue(now: datetime) -> None:
    """Close what the limits let nobody send in time, where a relay had no room left or was at work to the last."""
    for route in routes():
        if all(kept_back(relay, now) for relay in route.relays):
            untried = Delivery.objects.filter(route.publications, state=State.PLANNED, attempts=0, late_until__lte=now)
            untried = untried.exclude(issue__in=Halt.objects.standing().values("issue"))
            if count := untried.update(state=State.MISSED, reason="limit", settled_at=now):
                log.warning("%d emails missed, because the limits let no more go", count)


def kept_back(relay: Relay, now: datetime) -> bool:
    windows = limits.windows(relay, now)
    if not windows and not relay.domain_caps:
        return False
    return room(relay, windows, now) <= 0 or relay.allowances.filter(until__gt=now - LATELY).exists()


# Recipients' domains


def admit(
    relay: Relay, lane: OutgoingQuerySet, rows: list[Any], owner: uuid.UUID, now: datetime
) -> tuple[list[Any], list[Allowance]]:
    """Return the leased rows whose recipients' domains take them now; the others go to the end of the domain's line."""
    if not relay.domain_caps:
        return rows, []
    by_domain: dict[str, list[Any]] = defaultdict(list)
    for row in rows:
        by_domain[domain_of(row)].append(row)
    admitted: list[Any] = []
    taken: list[Allowance] = []
    for domain, share in by_domain.items():
        number = len(share)
        if domain in relay.domain_caps:
            bite = take(relay, number, now, is_letters(lane), domain)
            taken += [bite] if bite else []
            number = bite.number if bite else 0
        admitted += share[:number]
        put_in_line(relay, domain, lane, [row.pk for row in share[number:]], owner, now)
    return admitted, taken


def domain_of(row: Any) -> str:
    """Return the domain a row's mail goes to, lower-cased, in its ASCII form."""
    address: str = row.address
    return headers.addr_spec(address).rpartition("@")[2].lower()


def put_in_line(
    relay: Relay, domain: str, lane: OutgoingQuerySet, keys: list[Any], owner: uuid.UUID, now: datetime
) -> None:
    """Give leased rows back, each with its own place in time."""
    if not keys:
        return
    mine = lane.select_related(None).filter(owner=owner, state=State.LEASED)
    if is_letters(lane):
        _wait(mine.filter(pk__in=keys), now + SOON)
        return
    window = limits.domain_windows(relay, domain)[0]
    each = window.length / ((window.number - window.kept) * PACE)
    last = mine.filter(pk__in=keys).aggregate(last=Max("late_until"))["last"] or now
    start = _places(relay, domain, len(keys) * each, now, last)
    # A second's rows share a place.
    together = max(1, int(timedelta(seconds=1) / each))
    for place in range(0, len(keys), together):
        _wait(mine.filter(pk__in=keys[place : place + together]), start + place * each)


def _places(relay: Relay, domain: str, span: timedelta, now: datetime, last: datetime) -> datetime:
    """Lengthen a domain's line and return where it ended before.

    It is never longer than to `last`, when it is too late for all of these: they keep no place before tomorrow's.
    """
    with transaction.atomic():
        line, _new = Line.objects.get_or_create(relay=relay, domain=domain, defaults={"until": now})
        line = Line.objects.select_for_update().get(pk=line.pk)
        start = max(line.until, now)
        Line.objects.filter(pk=line.pk).update(until=max(line.until, min(start + span, last)))
    return start


def _wait(rows: Any, try_at: datetime) -> None:
    rows.update(state=State.PLANNED, try_at=try_at, owner=None, leased_until=None)


# The server's mood


def rest(relay: Relay, now: datetime, seconds: float | None = None, everywhere: bool = False) -> None:
    """Leave a relay alone for as long as it asked, or longer each time: this host, which cannot reach it, or all."""
    # Hosts that are no more tell nobody so.
    Rest.objects.filter(until__lt=now - REMEMBERED).delete()
    host = "" if seconds or everywhere else HERE
    known, _new = Rest.objects.get_or_create(relay=relay, host=host, defaults={"until": now})
    pause = timedelta(seconds=seconds) if seconds else min(FIRST_REST * 2.0 ** min(known.failures, 10), LONGEST_REST)
    # Several workers hear of the same trouble, and one of them that it will last.
    before = now + pause if seconds else now
    Rest.objects.filter(pk=known.pk, until__lte=before).update(until=now + pause, failures=F("failures") + 1)


def wake(relay: Relay, now: datetime) -> None:
    """Believe a relay that has just taken a message from this host; but what it asked of all it has not taken back."""
    if relay.rests_until is not None:
        Rest.objects.filter(Q(host=HERE) | Q(host="", until__lte=now), relay=relay).delete()
        relay.rests_until = None


def heard(relay: Relay, done: Counter[str], seconds: float, now: datetime) -> None:
    """Take what a relay answered to a share of messages: perhaps it takes them too fast."""
    answered = done[State.SENT] + done[State.RETRY] + done[State.FAILED]
    if done[State.RETRY] >= max(MANY, SHARE * answered):
        slow_down(relay, answered / max(seconds, 0.001), now)


def slow_down(relay: Relay, rate: float, now: datetime) -> None:
    """Halve the speed of a relay, `rate` messages a second so far; it recovers by itself."""
    known = limits.speed(relay, now)
    before = min(rate, known) if known else rate
    whole = max(before, relay.slowed_from if known else 0)
    slower = Relay.objects.filter(Q(slowed_at=None) | Q(slowed_at__lte=now - APART), pk=relay.pk)
    slower.update(slowed_at=now, slowed_from=whole, slowed_to=max(before / 2, limits.SLOWEST))
