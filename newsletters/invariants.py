"""What must hold of the tables, whatever happened: asked by the simulation and by the tests.

Each function tells what is broken, one line each, beginning with the number that docs/promise.md gives the rule.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet

from newsletters import cascade, clock
from newsletters.models import Break, Clock, Delivery, Entry, Issue, IssueText, Publication, Series, Subscriber, Walk
from newsletters.models.delivery import HAD, OPEN, State

DAILY = Delivery.objects.filter(slot=0)
REASONED = (State.FAILED, State.SKIPPED, State.MISSED)

TWICE = """
    SELECT DISTINCT later.subscriber_id, later.local_date FROM newsletters_delivery later
    JOIN newsletters_subscriber reader ON reader.id = later.subscriber_id AND later.due_at >= reader.member_since
    JOIN newsletters_issuetext mine ON mine.issue_id = later.issue_id
    JOIN newsletters_issuetext same ON same.text_id = mine.text_id
    JOIN newsletters_delivery sooner ON sooner.issue_id = same.issue_id AND sooner.subscriber_id = later.subscriber_id
        AND sooner.due_at >= reader.member_since
        AND (sooner.local_date < later.local_date
             OR sooner.local_date = later.local_date AND sooner.slot < later.slot)
    WHERE later.publication_id = %(publication)s AND later.local_date >= %(since)s
        AND later.state IN ('handoff', 'sent', 'uncertain') AND sooner.state IN ('handoff', 'sent', 'uncertain')
"""


def standing(publication: Publication, since: date, now: datetime) -> Iterator[str]:
    """Tell what is broken of the rows from a date on, at any moment at which no sender is at work."""
    rows = Delivery.objects.filter(publication=publication, local_date__gte=since)
    daily = rows.filter(slot=0).values("local_date", "subscriber_id").annotate(count=Count("slot"))
    yield from (f"I1 {row['subscriber_id']} has two on {row['local_date']}" for row in daily.filter(count__gt=1))
    asked = cascade.values(publication.pk, since, now, None) | {"since": since.isoformat()}
    yield from (f"I3 {reader} had a text of {day} before" for reader, day in cascade.fetch(TWICE, asked))
    wanted = Subscriber.objects.mailable().filter(pk=OuterRef("subscriber_id"))
    yield from told("I4 waits for a reader who is not active", rows.filter(~Exists(wanted), slot=0, state__in=OPEN))
    yield from told("I5 ended without a reason", rows.filter(state__in=REASONED, reason=""))
    yield from told("I5 sent without a hand-off", rows.filter(state__in=HAD, handoff_at=None))
    yield from told("I5 waits past its end", rows.filter(state__in=(State.PLANNED, State.RETRY), late_until__lte=now))
    yield from told("I7 before its hour", rows.filter(handoff_at__lt=F("due_at")))
    yield from told("I7 too late", rows.filter(handoff_at__gte=F("late_until")))
    yield from told("I7 twelve hours", rows.filter(Exists(too_soon()), state__in=HAD, slot=0))


def told(what: str, rows: QuerySet[Delivery]) -> Iterator[str]:
    return (f"{what}: {row}" for row in rows)


def too_soon() -> QuerySet[Delivery]:
    """Return the daily emails handed off less than 12 hours before one that fell due after a change of zone."""
    due_at, of = OuterRef("due_at"), OuterRef("subscriber_id")
    moved = Subscriber.objects.filter(pk=of, moved_at__lt=due_at, moved_at__gt=due_at - timedelta(days=2))
    before = DAILY.filter(
        subscriber_id=OuterRef("subscriber_id"),
        state__in=HAD,
        local_date__lt=OuterRef("local_date"),
        local_date__gte=OuterRef("local_date") - timedelta(days=2),
        handoff_at__gt=OuterRef("due_at") - cascade.TOO_SOON,
    )
    return before.filter(Exists(moved))


@dataclass
class Struck:
    """A promise that has just been planned: one publication's date in one zone."""

    publication: Publication
    zone: str
    date: date

    @property
    def hour(self) -> time:
        return self.publication.promise_on(self.date).hour

    @property
    def due_at(self) -> datetime:
        return clock.instant(self.date, self.hour, self.zone)

    @classmethod
    def last(cls, publication: Publication) -> "list[Struck]":
        clocks = Clock.objects.filter(publication=publication).exclude(last_date=None)
        return [cls(publication, row.zone, row.last_date) for row in clocks if row.last_date]


def none_forgotten(struck: Struck) -> Iterator[str]:
    """Tell who was promised an email of a date that has just been planned, and has no row of it."""
    if Break.on(struck.publication, struck.date) == Break.Kind.SILENCE:
        return
    weekday = struck.date.isoweekday()
    readers = struck.publication.subscribers.filter(
        Q(weekdays="") | Q(weekdays__contains=str(weekday)),
        Q(digest_on=None) | Q(digest_on=weekday),
        status=Subscriber.Status.ACTIVE,
        zone=struck.zone,
        member_since__lte=struck.due_at,
    )
    rows = DAILY.filter(local_date=struck.date, subscriber_id=OuterRef("pk"))
    yield from (f"I2 nothing for {reader.pk} on {struck.date}" for reader in readers.filter(~Exists(rows)))
    shown = struck.due_at.astimezone(ZoneInfo(struck.zone))
    if (shown.date(), shown.time()) != (struck.date, struck.hour) and clock_has(struck):
        yield f"I7 {struck.zone} strikes at {shown}"


def clock_has(struck: Struck) -> bool:
    """Tell whether the clocks of a zone show the promised hour on this date at all."""
    wall = datetime.combine(struck.date, struck.hour, tzinfo=ZoneInfo(struck.zone))
    return wall.astimezone(ZoneInfo("UTC")).astimezone(ZoneInfo(struck.zone)).replace(tzinfo=None) == wall.replace(
        tzinfo=None
    )


def as_the_cascade_says(struck: Struck) -> Iterator[str]:
    """Compare each row that has just been planned with what a plain reading of the rules gives (I2, I3, I12, I13)."""
    rows = DAILY.filter(publication=struck.publication, local_date=struck.date, due_at=struck.due_at)
    rows = rows.filter(subscriber__zone=struck.zone).select_related("subscriber")
    shelf = Shelf(struck)
    for row in rows.exclude(way=Delivery.Way.DIGEST):
        way, issue = shelf.choice(row.subscriber)
        if (row.way, row.issue_id) != (way, issue):
            yield f"I12 {row.subscriber_id} on {row.local_date}: {row.way} {row.issue_id}, and not {way} {issue}"


class Shelf:
    """The rules once more, in plain Python and reader by reader: the other half of a comparison with the SELECT."""

    def __init__(self, struck: Struck) -> None:
        self.struck = struck
        self.texts: dict[int, set[int]] = {}
        for issue, text in IssueText.objects.filter(issue__publication=struck.publication).values_list("issue", "text"):
            self.texts.setdefault(issue, set()).add(text)
        self.entries: dict[int, list[Entry]] = {}
        queued = Entry.objects.filter(series__publication=struck.publication, issue__state=Issue.State.QUEUED)
        for entry in queued.order_by("rank", "pk"):
            self.entries.setdefault(entry.series_id, []).append(entry)
        self.reserve = struck.publication.series.filter(kind=Series.Kind.RESERVE).first()
        days = struck.publication.days.exclude(rest=Break.Kind.SILENCE).select_related("issue").order_by("-date")
        last = next((day for day in days if day.fixed_at <= struck.due_at), None)
        self.daily = last.issue if last and last.issue and last.issue.state == Issue.State.QUEUED else None

    def choice(self, reader: Subscriber) -> tuple[str, int | None]:
        """Return the way and the issue that this reader is owed."""
        had = self.had(reader)
        for walk in self.walks(reader):
            for entry in self.entries.get(walk.series_id, []):
                ahead = entry.rank > walk.reached or entry.added_at <= walk.started_at
                if ahead and not self.texts.get(entry.issue_id, set()) & had:
                    return Delivery.Way.SEQUENCE, entry.issue_id
        if self.daily and not self.texts.get(self.daily.pk, set()) & had:
            return Delivery.Way.DAILY, self.daily.pk
        for entry in self.entries.get(self.reserve.pk, []) if self.reserve else []:
            if not self.texts.get(entry.issue_id, set()) & had:
                return Delivery.Way.RESERVE, entry.issue_id
        return Delivery.Way.NONE, None

    def walks(self, reader: Subscriber) -> QuerySet[Walk]:
        # Those that the plan has just ended were under way when it chose.
        under_way = Q(ended_at=None) | Q(ended_at=self.struck.due_at)
        return reader.walks.filter(under_way).order_by("position", "pk")

    def had(self, reader: Subscriber) -> set[int]:
        assert reader.member_since
        rows = Delivery.objects.filter(issue__in=list(self.texts), subscriber=reader, state__in=HAD)
        issues: Any = rows.filter(due_at__gte=reader.member_since).values_list("issue_id", flat=True)
        return {text for issue in issues for text in self.texts[issue]}


def fixed_days(publication: Publication) -> Iterator[str]:
    """Tell which dates share an issue: each takes its own from the queue."""
    shared = publication.days.exclude(issue=None).values("issue").annotate(count=Count("pk")).filter(count__gt=1)
    yield from (f"I13 issue {row['issue']} was fixed for {row['count']} dates" for row in shared)
