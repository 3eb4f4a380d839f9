"""How much a relay may send: its windows, the ramp of a warm-up, a slow-down and its recovery. Pure: no database.

A window holds for every span of its length, not from one full hour to the next: a provider may count as it likes.
"""

import math
import re
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from typing import Any, Protocol

from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

SECOND, MINUTE, HOUR, DAY = 1, 60, 3600, 86400
UNITS = {"s": SECOND, "min": MINUTE, "h": HOUR, "d": DAY}
CAP = re.compile(r"([1-9]\d{0,8})/(s|min|h|d)\Z")
DOMAIN = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+\Z")

# So many letters a day are kept from the daily sending, whatever the share.
LETTERS_A_DAY = 50
# What a warm-up grows by from day to day where no day's limit says where it leads.
GROWTH = 1.12
# A relay that was slowed down is twice as fast after this.
RECOVERY = timedelta(minutes=5)
SLOWEST = 0.1


class Limited(Protocol):
    """What this module reads of a Relay."""

    per_second: int | None
    per_hour: int | None
    per_day: int | None
    warm_up_from: date | None
    warm_up_volume: int
    warm_up_days: int
    letters_share: int
    domain_caps: dict[str, str]
    slowed_at: datetime | None
    slowed_from: float
    slowed_to: float


@dataclass(frozen=True, slots=True)
class Window:
    """In any `seconds`, at most `number` messages; `kept` of them are for letters alone."""

    seconds: float
    number: int
    kept: int = 0

    @property
    def length(self) -> timedelta:
        return timedelta(seconds=self.seconds)

    def room(self, sent: int, daily: int, letters: bool) -> int:
        """Return how many more may go, where `sent` went within the window and `daily` of them were no letters."""
        free = self.number - sent
        return max(free if letters else min(free, self.number - self.kept - daily), 0)


def windows(relay: Limited, now: datetime) -> list[Window]:
    """Return the windows of a relay; none where nothing limits it."""
    found = [_paced(rate, relay.letters_share)] if (rate := speed(relay, now)) else []
    if relay.per_hour:
        found.append(_window(HOUR, relay.per_hour, relay.letters_share))
    if day := day_limit(relay, now.astimezone(UTC).date()):
        found.append(_window(DAY, day, relay.letters_share))
    return found


def domain_windows(relay: Limited, domain: str) -> list[Window]:
    """Return a domain's limits, of which there are none where no cap names it."""
    if domain not in relay.domain_caps:
        return []
    number, seconds = cap(relay.domain_caps[domain])
    return [_window(seconds, number, relay.letters_share)]


def cap(text: str) -> tuple[int, int]:
    """Take "20/s" apart: 20 in 1 second. Raises ValueError."""
    parts = CAP.match(text) if isinstance(text, str) else None
    if parts is None:
        raise ValueError(f"{text!r} is no limit")
    return int(parts[1]), UNITS[parts[2]]


def _window(seconds: int, number: int, share: int) -> Window:
    # Letters come first in each second anyway: a share that is no whole message is not kept.
    kept = number * share // 100 if seconds == SECOND else math.ceil(number * share / 100)
    at_least = LETTERS_A_DAY if seconds == DAY else 0
    return Window(seconds, number, min(max(kept, at_least), number // 2))


def _paced(rate: float, share: int) -> Window:
    """Return the window of a speed in messages a second; below 1 it is one message in a longer time."""
    return _window(SECOND, int(rate), share) if rate >= 1 else Window(1 / rate, 1)


def speed(relay: Limited, now: datetime) -> float | None:
    """Return how many messages a second a relay takes at most, or None where only its own pace limits it."""
    rates = [float(relay.per_second)] if relay.per_second else []
    if relay.slowed_at is not None:
        recovered = relay.slowed_to * 2.0 ** min((now - relay.slowed_at) / RECOVERY, 60)
        if recovered < relay.slowed_from:
            rates.append(max(recovered, SLOWEST))
    return min(rates, default=None)


def day_limit(relay: Limited, day: date) -> int | None:
    """Return how many messages a relay may send on a date of its warm-up, else its day's limit."""
    if relay.warm_up_from is None or day >= relay.warm_up_from + timedelta(days=relay.warm_up_days):
        return relay.per_day
    first = min(relay.warm_up_volume, relay.per_day or relay.warm_up_volume)
    growth = (relay.per_day / first) ** (1 / relay.warm_up_days) if relay.per_day else GROWTH
    return int(round(first * growth ** max((day - relay.warm_up_from).days, 0), 6))


def carries(relay: Limited, day: date, seconds: float) -> float:
    """Return how many daily emails a relay can send on a date within so many seconds; inf without limits."""
    found = [float(relay.per_second * (100 - relay.letters_share) // 100 * seconds)] if relay.per_second else []
    if relay.per_hour:
        hour = _window(HOUR, relay.per_hour, relay.letters_share)
        found.append(float((hour.number - hour.kept) * math.ceil(seconds / HOUR)))
    if number := day_limit(relay, day):
        whole = _window(DAY, number, relay.letters_share)
        found.append(float(whole.number - whole.kept))
    return min(found, default=math.inf)


def carries_to(relay: Limited, domain: str, seconds: float) -> float:
    """Return how many daily emails a relay can send to a domain within so many seconds; inf where it has no cap."""
    if domain not in relay.domain_caps:
        return math.inf
    (window,) = domain_windows(relay, domain)
    return (window.number - window.kept) * max(seconds // window.seconds, 1)


def known_caps(value: Any) -> None:
    """Refuse limits by domain that cannot be read."""
    if not isinstance(value, dict):
        raise ValidationError(_('Give limits by domain, such as {"gmail.com": "20/s"}.'))
    for domain, text in value.items():
        if not DOMAIN.match(domain):
            raise ValidationError(_("“%(domain)s” is no domain, in small letters."), params={"domain": domain})
        try:
            cap(text)
        except ValueError:
            words = _("The limit of %(domain)s cannot be read. Write it as 20/s, 300/min, 500/h or 2000/d.")
            raise ValidationError(words, params={"domain": domain}) from None


# Whether a day can be carried


@dataclass(slots=True)
class Meter:
    """What a relay has sent and may send, to a domain that it caps or at all, minute by minute on an assumed clock."""

    relay: Limited
    domain: str = ""
    sent: deque[tuple[datetime, int, bool]] = field(default_factory=deque)

    def room(self, now: datetime) -> float:
        """Return how many daily emails may go in the minute that begins now."""
        while self.sent and self.sent[0][0] <= now - timedelta(seconds=DAY):
            self.sent.popleft()
        known = domain_windows(self.relay, self.domain) if self.domain else windows(self.relay, now)
        rooms = [self._room(window, now) for window in known]
        return min(rooms, default=math.inf)

    def _room(self, window: Window, now: datetime) -> float:
        if window.seconds < MINUTE:
            return (window.number - window.kept) * MINUTE / window.seconds
        within = [(number, letters) for at, number, letters in self.sent if at > now - window.length]
        daily = sum(number for number, letters in within if not letters)
        return window.room(sum(number for number, _letters in within), daily, letters=False)

    def send(self, number: int, now: datetime) -> None:
        if number:
            self.sent.append((now, number, False))


@dataclass(slots=True)
class Demand:
    """So many emails of a publication that fall due at an instant and are too late at another."""

    publication: int
    at: datetime
    until: datetime
    number: int
    short: int = 0


def foresee(meters: Sequence[Meter], demands: Iterable[Demand], now: datetime) -> list[Demand]:
    """Send demands on an assumed clock, the longest due first, a minute a step; tell of each how many came too late."""
    coming, waiting = deque(sorted(demands, key=lambda demand: demand.at)), list[Demand]()
    told: list[Demand] = []
    while coming or waiting:
        if not waiting and coming:
            now = max(now, coming[0].at)
        while coming and coming[0].at <= now:
            waiting.append(coming.popleft())
        for demand in [one for one in waiting if one.until <= now or not one.number]:
            demand.short = demand.number
            waiting.remove(demand)
            told.append(demand)
        for demand in waiting:
            _serve(demand, meters, now)
        now += timedelta(minutes=1)
    return told


def _serve(demand: Demand, meters: Sequence[Meter], now: datetime) -> None:
    for meter in meters:
        number = int(min(demand.number, meter.room(now)))
        meter.send(number, now)
        demand.number -= number


# Readers in waves


def calendar(
    order: Sequence[str], room: Mapping[date, float], capped: Mapping[str, Mapping[date, float]]
) -> Iterator[tuple[date, list[int]]]:
    """Share readers out to dates, the first of them first; yield each date with their places in the order.

    `order` says in which capped domain each reader is, "" for none; `room` and `capped` say, date by date, how many
    more than today's could be carried, at all and to a domain. Who has entered stays: a date takes only what it
    carries beyond those before it.
    """
    waiting: dict[str, deque[int]] = defaultdict(deque)
    for place, domain in enumerate(order):
        waiting[domain].append(place)
    entered = Counter[str]()
    for day, carried in room.items():
        most = {domain: own[day] - entered[domain] for domain, own in capped.items()}
        wave = list(islice(_wave(waiting, most), max(int(min(carried, len(order))) - entered.total(), 0)))
        entered.update(order[place] for place in wave)
        if wave:
            yield day, wave


def _wave(waiting: Mapping[str, deque[int]], most: Mapping[str, float]) -> Iterator[int]:
    """Take places out, the first first, passing over the domains that have no room left."""
    left = {domain: most.get(domain, math.inf) for domain in waiting}
    while open_ := [(places[0], domain) for domain, places in waiting.items() if places and left[domain] >= 1]:
        place, domain = min(open_)
        left[domain] -= 1
        waiting[domain].popleft()
        yield place
