"""Whether a date's issue is going out: its figures as last counted, and the zones where its hour is still to come."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import groupby
from typing import Any
from zoneinfo import ZoneInfo

from django.db.models import Case, Count, OuterRef, QuerySet, Subquery, Value, When

from newsletters import clock, zones
from newsletters.models import Break, Clock, Day, Delivery, Publication, Subscriber, Tally
from newsletters.models.outgoing import State

# After so long without a single email handed over, something is wrong.
SLOW = timedelta(minutes=10)
# A sentence names so many places; the table has all.
NAMED = 3


@dataclass(frozen=True, slots=True)
class Stop:
    """Zones where the hour strikes at one instant: told by the author's clock, with as many readers as last time."""

    at: datetime
    places: list[str]
    readers: int

    @property
    def named(self) -> str:
        """Return the places that a sentence has room for."""
        more = " …" if len(self.places) > NAMED else ""
        return ", ".join(self.places[:NAMED]) + more


@dataclass(slots=True)
class Going:
    """How a date stands, in numbers of readers. `state` chooses the headline."""

    date: date
    state: str
    day: Day | None = None
    number: int = 0
    states: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    stops: list[Stop] = field(default_factory=list)

    @property
    def sent(self) -> int:
        return self.states[State.SENT]

    @property
    def moving(self) -> int:
        return sum(self.states[state] for state in (State.PLANNED, State.LEASED, State.HANDOFF))

    @property
    def later(self) -> int:
        return sum(stop.readers for stop in self.stops)

    @property
    def to_come(self) -> int:
        return self.moving + self.later

    @property
    def stoppable(self) -> bool:
        open_ = self.to_come or self.states[State.RETRY]
        return self.day is not None and bool(self.day.issue_id and open_) and self.state != "rest"

    @property
    def expected(self) -> int:
        """All readers but those skipped: they left or paused."""
        return sum(self.states.values()) - self.states[State.SKIPPED] + self.later

    @property
    def ended(self) -> int:
        return self.expected - self.to_come - self.states[State.RETRY]

    @property
    def refused(self) -> int:
        """The failures that no dead address caused."""
        return self.states[State.FAILED] - self.failed["address"]

    @property
    def late(self) -> int:
        """The readers missed for another reason than that there was nothing for them."""
        return self.states[State.MISSED] - self.missed["dry"]

    @property
    def is_reserve(self) -> bool:
        return self.day is not None and self.day.rest == Break.Kind.RESERVE


def clocks(publication: Publication) -> QuerySet[Any]:
    """Return the clocks of a publication; those that never struck with a count of their few first readers."""
    active = Subscriber.objects.mailable().filter(publication=OuterRef("publication"), zone=OuterRef("zone"))
    number = active.order_by().values("zone").annotate(number=Count("*")).values("number")
    first = Case(When(last_date=None, then=Subquery(number)), default=Value(0))
    rows: QuerySet[Any] = Clock.objects.filter(publication=publication).annotate(first_readers=first)
    return rows.order_by("next_at", "zone")


def tallies(publication: Publication, today: date, struck: Iterable[Clock]) -> list[Tally]:
    """Return the counts of the dates around today, and of those when each clock last struck."""
    dates = {today + timedelta(days=days) for days in (-1, 0, 1)} | {row.last_date for row in struck if row.last_date}
    rows = Tally.objects.filter(publication=publication, date__in=dates)
    return list(rows.exclude(way=Delivery.Way.ANNOUNCEMENT))


def stops(publication: Publication, day: date, struck: Iterable[Any], counted: Iterable[Tally]) -> list[Stop]:
    """Return where a date's hour is still to come, the soonest first.

    No list is counted: a zone's readers are those that its last date was planned for.
    """
    known: Counter[tuple[date, datetime]] = Counter()
    for row in counted:
        if row.state != State.SKIPPED:
            known[row.date, row.due_at] += row.count
    found = []
    for at, rows in groupby((row for row in struck if row.next_date <= day), key=lambda row: row.next_at):
        together = list(rows)
        # Zones that share an instant share a count, told once.
        readers = sum(known.pop(key, 0) for key in {last_instant(publication, row) for row in together} if key)
        readers += sum(row.first_readers or 0 for row in together)
        if readers:
            places = [zones.place(row.zone) for row in together]
            found.append(Stop(at.astimezone(ZoneInfo(publication.zone)), places, readers))
    return found


def last_instant(publication: Publication, row: Clock) -> tuple[date, datetime] | None:
    """Return the date and the instant at which a clock last struck."""
    if row.last_date is None:
        return None
    return row.last_date, publication.window(row.last_date, row.zone)[0]


def today(publication: Any, now: datetime, days: list[Day], struck: list[Any], counted: list[Tally]) -> Going:
    """Return how today stands, on the author's calendar; `days` are all fixed days, the oldest first."""
    date_ = clock.local_date(now, publication.zone)
    day = next((day for day in reversed(days) if day.date == date_), None)
    going = Going(date_, "", day, sum(1 for one in days if one.issue_id and one.date <= date_))
    for row in counted:
        if row.date == date_:
            going.states[row.state] += row.count
            going.failed[row.reason] += row.count if row.state == State.FAILED else 0
            going.missed[row.reason] += row.count if row.state == State.MISSED else 0
    going.stops = stops(publication, date_, struck, counted) if day else []
    going.state = state(publication, going, now, struck)
    return going


def state(publication: Any, going: Going, now: datetime, struck: list[Any]) -> str:
    """Return the word for how a date stands, from "rest" to "done"."""
    if word := standing_still(publication, going):
        return word
    due_at = publication.window(going.date, publication.zone)[0]
    if going.day is None:
        return unplanned(publication, going.date, now <= due_at + SLOW) if struck else "alone"
    if not going.expected:
        return "alone"
    if going.missed["dry"] and not going.sent and not going.to_come:
        return "dry"
    if going.moving and not going.ended and now > due_at + SLOW:
        return "late"
    if going.moving:
        return "going"
    return "waiting" if going.later else "done"


def standing_still(publication: Any, going: Going) -> str:
    """Return the word for what keeps every email back: a break, the author, or what came back; else nothing."""
    if resting(publication, going.date, Break.Kind.SILENCE):
        return "rest"
    if going.day and publication.halted and publication.halted == going.day.issue_id:
        return "stopped"
    return "held" if publication.held else ""


def resting(publication: Publication, day: date, kind: Break.Kind) -> list[Break]:
    return [rest for rest in publication.breaks.all() if rest.kind == kind and rest.first <= day <= rest.last]


def unplanned(publication: Any, day: date, early: bool) -> str:
    """Return the word for a date that no clock has struck: nothing was promised, it is early, or nobody works."""
    if publication.promise_from(day, publication.zone)[0] != day:
        return "none"
    return "before" if early else "late"
