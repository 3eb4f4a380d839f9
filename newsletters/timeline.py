"""What one reader will get, and why: the planner's own SELECT, asked for days to come as if all went well."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property
from itertools import takewhile
from typing import Any
from zoneinfo import ZoneInfo

from django.db import connection

from newsletters import cascade, clock, digests, pace, queue
from newsletters.models import Break, Clock, Delivery, Entry, Issue, Subscriber
from newsletters.models.outgoing import OPEN

DRY, PAUSED, REST, MOVED, NOT_ASKED = "dry", "paused", "rest", "moved", "not asked"

# This reader with the pace of the day asked for: a change of the promise may have moved it by then.
MAILABLE = """(
    SELECT id, member_since, moved_at, CAST(%(digest_on)s AS integer) AS digest_on, %(weekdays)s AS weekdays
    FROM newsletters_subscriber WHERE status IN ('active', 'paused')) fitted WHERE true"""
# The way to one reader's rows leads over the issues: no index begins with the subscriber.
LIVED = """
    SELECT subscriber_id, issue_id, local_date, slot, way, due_at, late_until,
        CASE WHEN state IN ('planned', 'leased', 'retry') THEN 'sent' ELSE state END AS state,
        COALESCE(handoff_at, try_at) AS handoff_at
    FROM newsletters_delivery WHERE subscriber_id = %(subscriber)s
        AND issue_id IN (SELECT id FROM newsletters_issue WHERE publication_id = %(publication)s)"""
ASSUMED = """
    SELECT %(subscriber)s, {issue}, %(date{n})s, 0, '{way}', %(due_at{n})s, %(due_at{n})s, 'sent', %(due_at{n})s"""

# What comes on a day: the issues, each with the entry it stands in.
Coming = list[tuple[int, int | None]]


@dataclass(frozen=True, slots=True)
class Ahead:
    """One day to come: its local date, the promised instant in UTC, what comes then, and why.

    `why` is a way (sequence, daily, reserve, digest), or dry (nothing is left to send), paused, rest (an announced
    break), moved (too soon after a change of zone), not asked (a day this reader does without). `number` of `total`
    is the place in a sequence. A digest gathers several issues; where nothing comes there are none.
    """

    date: date
    at: datetime
    zone: str
    why: str
    issues: tuple[Issue, ...] = ()
    number: int = 0
    total: int = 0

    @property
    def local(self) -> datetime:
        """The promised instant, as the reader's clocks show it."""
        return self.at.astimezone(ZoneInfo(self.zone))

    @property
    def issue(self) -> Issue | None:
        return self.issues[0] if self.issues else None


def days(subscriber: Subscriber, now: datetime, n: int = 30) -> list[Ahead]:
    """Return a reader's next `n` promised days, or nothing for one who has left. Writes nothing."""
    if subscriber.status not in {Subscriber.Status.ACTIVE, Subscriber.Status.PAUSED}:
        return []
    return list(Timeline(subscriber, now, n).days())


class Timeline:
    """The days of one reader, each asked upon the assumption that those before it came."""

    def __init__(self, subscriber: Subscriber, now: datetime, n: int) -> None:
        self.subscriber, self.publication, self.now, self.n = subscriber, subscriber.publication, now, n
        self.catching_up = subscriber.catching_up
        self.reached: dict[int, int] = {}
        self.assumed: list[str] = []
        self.values: dict[str, Any] = {"subscriber": subscriber.pk}
        for row in self.latest:
            if row.state in OPEN:
                self.advance(row.entry)

    @cached_property
    def latest(self) -> list[Delivery]:
        dates = [self.now.date() + timedelta(days=ahead) for ahead in (-2, -1, 0, 1, 2)]
        rows = Delivery.objects.filter(local_date__in=dates, subscriber=self.subscriber, slot=0)
        return list(rows.select_related("entry"))

    @property
    def settled(self) -> set[date]:
        """The dates that have their row: whoever has moved west comes to some of them a second time."""
        return {row.local_date for row in self.latest}

    def days(self) -> Iterator[Ahead]:
        for day, at in self.promises:
            why, rows = self.choose(day, at)
            issues = tuple(self.issues[pk] for pk, _entry in rows)
            steps = [self.entries[entry] for _issue, entry in rows if entry and why == Delivery.Way.SEQUENCE]
            number, total = self.place(steps[0]) if steps else (0, 0)
            yield Ahead(day, at, self.subscriber.zone, why, issues, number, total)
            if rows:
                self.assume(day, at, why, rows)

    @cached_property
    def promises(self) -> list[tuple[date, datetime]]:
        """The next promised dates where the reader lives, from the one that the planner will take next."""
        publication, zone = self.publication, self.subscriber.zone
        row = Clock.objects.filter(publication=publication, zone=zone).first()
        following, _at = publication.next_promise(self.now, zone)
        following = row.next_date if row else following
        found: list[tuple[date, datetime]] = []
        while len(found) < self.n:
            day, at = publication.promise_from(following, zone)
            if day not in self.settled:
                found.append((day, at))
            following = day + clock.ONE_DAY
        return found

    @cached_property
    def fixed(self) -> list[tuple[datetime, int | None]]:
        """The instants at which daily issues have been or will be fixed, with the issue; breaks fix nothing."""
        publication = self.publication
        known = publication.days.filter(fixed_at__gt=self.now - timedelta(days=60)).exclude(rest=Break.Kind.SILENCE)
        rows = known.order_by("date").values_list("fixed_at", "issue")
        fixed = [(at, issue if self.goes_out(issue) else None) for at, issue in rows]
        soonest = publication.clocks.order_by("next_at").values_list("next_at", flat=True).first()
        first = queue.open_from(publication, soonest or self.now)
        to_come = (
            (publication.window(day, publication.zone)[0], issue, rest)
            for day, issue, rest in queue.forecast(publication, first - clock.ONE_DAY)
        )
        until = self.promises[-1][1]
        return fixed + [
            (at, issue.pk if issue else None)
            for at, issue, rest in takewhile(lambda row: row[0] <= until, to_come)
            if rest != Break.Kind.SILENCE
        ]

    @cached_property
    def issues(self) -> dict[int, Issue]:
        return {issue.pk: issue for issue in self.publication.issues.defer("body")}

    @cached_property
    def entries(self) -> dict[int, Entry]:
        entries = Entry.objects.filter(series__publication=self.publication).order_by("rank", "pk")
        return {entry.pk: entry for entry in entries}

    @cached_property
    def breaks(self) -> list[Break]:
        return list(self.publication.breaks.filter(kind=Break.Kind.SILENCE))

    def goes_out(self, issue: int | None) -> bool:
        return issue is not None and self.issues[issue].state == Issue.State.QUEUED

    def place(self, entry: Entry) -> tuple[int, int]:
        """Return an entry's number in its series, and of how many."""
        series = [one for one in self.entries.values() if one.series_id == entry.series_id]
        queued = [one for one in series if self.goes_out(one.issue_id)]
        return queued.index(entry) + 1, len(queued)

    def choose(self, day: date, at: datetime) -> tuple[str, Coming]:
        """Return why, and the issues that come with their entries."""
        reader = self.subscriber
        if any(rest.first <= day <= rest.last for rest in self.breaks):
            return REST, []
        if reader.status == Subscriber.Status.PAUSED and (reader.paused_until is None or day < reader.paused_until):
            return PAUSED, []
        daily = next((issue for fixed_at, issue in reversed(self.fixed) if fixed_at <= at), None)
        values = self.values | cascade.values(self.publication.pk, day, at, daily)
        own = pace.fitted(reader, day)
        values |= own._asdict() | {"steps": len(self.publication.promise_on(day).weekdays)}
        return self.digest(at, values) or self.single(values)

    def digest(self, at: datetime, values: dict[str, Any]) -> tuple[str, Coming] | None:
        """Return the weekly digest, where this is its day and something is owed."""
        if not self.catching_up and values["digest_on"] != values["weekday"]:
            return None
        week = digests.dailies(self.week(at), at)
        owed = digests.contents(week, cascade.OF_ONE, "lived", self.progress, MAILABLE)
        rows = cascade.fetch(f"{self.past} SELECT content FROM ({owed}) owed", values)
        gathered = [int(pk) for pk in rows[0][0].split(",")] if rows and rows[0][0] else []
        return (Delivery.Way.DIGEST, [(pk, None) for pk in gathered]) if gathered else None

    def week(self, at: datetime) -> list[tuple[datetime, int | None]]:
        return [row for row in self.fixed if at - digests.TWO_WEEKS < row[0] <= at]

    def single(self, values: dict[str, Any]) -> tuple[str, Coming]:
        """Return what the cascade gives."""
        select = cascade.select(cascade.OF_ONE, "lived", self.progress, MAILABLE)
        rows = cascade.fetch(f"{self.past} SELECT way, issue_id, entry_id, moved FROM ({select}) chosen", values)
        if not rows:
            return NOT_ASKED, []
        way, issue, entry, moved = rows[0]
        if moved:
            return MOVED, []
        return (way, [(issue, entry)]) if issue else (DRY, [])

    @property
    def past(self) -> str:
        return f"WITH lived AS MATERIALIZED ({' UNION ALL '.join([LIVED, *self.assumed])})"

    @property
    def progress(self) -> str:
        whens = [f"WHEN walk.series_id = {series} THEN {rank}" for series, rank in self.reached.items()]
        return f"CASE {' '.join(whens)} ELSE walk.reached END" if whens else cascade.REACHED

    def assume(self, day: date, at: datetime, why: str, rows: Coming) -> None:
        """Put an email that has not been sent over the history, as sent in time."""
        n = day.toordinal()
        self.values |= {
            f"date{n}": connection.ops.adapt_datefield_value(day),
            f"due_at{n}": connection.ops.adapt_datetimefield_value(at),
        }
        self.assumed += [ASSUMED.format(issue=issue, n=n, way=why) for issue, _entry in rows]
        self.catching_up = False
        for _issue, entry in rows:
            self.advance(self.entries[entry] if entry else None)

    def advance(self, entry: Entry | None) -> None:
        if entry:
            self.reached[entry.series_id] = max(entry.rank, self.reached.get(entry.series_id, 0))
