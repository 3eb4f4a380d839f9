"""What must hold of the tables, whatever happened: asked by the simulation and by the tests.

Each function tells what is broken, one line each, beginning with the number that docs/promise.md gives the rule.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from django.db import connection
from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet

from newsletters import cascade, clock, digests, promise
from newsletters.models import (
    Break,
    Clock,
    Day,
    Delivery,
    Entry,
    Issue,
    IssueText,
    Publication,
    Series,
    Subscriber,
    Walk,
)
from newsletters.models.outgoing import HAD, OPEN, State

DAILY = Delivery.objects.filter(slot=0)
EVERYONE = Q()
REASONED = (State.FAILED, State.SKIPPED, State.MISSED)

# SQLite joins in this order, by the indexes; of itself it would make an index of the whole history for each question.
JOIN = "CROSS JOIN" if connection.vendor == "sqlite" else "JOIN"

TWICE = f"""
    SELECT DISTINCT later.subscriber_id, later.local_date FROM newsletters_delivery later
    JOIN newsletters_subscriber reader ON reader.id = later.subscriber_id AND later.due_at >= reader.member_since
    JOIN newsletters_issuetext mine ON mine.issue_id = later.issue_id
    {JOIN} newsletters_issuetext same ON same.text_id = mine.text_id
    {JOIN} newsletters_delivery sooner ON sooner.issue_id = same.issue_id AND sooner.subscriber_id = later.subscriber_id
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
    # What is past its end goes to nobody; it waits for a sweep alone.
    waiting = rows.filter(slot=0, state__in=OPEN, late_until__gt=now)
    yield from told("I4 waits for a reader who is not active", waiting.filter(~Exists(wanted)))
    yield from told("I5 ended without a reason", rows.filter(state__in=REASONED, reason=""))
    yield from told("I5 sent without a hand-off", rows.filter(state__in=HAD, handoff_at=None))
    yield from told("I5 waits past its end", rows.filter(state__in=(State.PLANNED, State.RETRY), late_until__lte=now))
    yield from told("I7 before its hour", rows.filter(handoff_at__lt=F("due_at")))
    yield from told("I7 too late", rows.filter(handoff_at__gte=F("late_until")))
    yield from told("I7 twelve hours", rows.filter(Exists(moved()), Exists(too_soon()), state__in=HAD, slot=0))


def told(what: str, rows: QuerySet[Delivery]) -> Iterator[str]:
    return (f"{what}: {row}" for row in rows)


def moved() -> QuerySet[Subscriber]:
    """Return the reader of a row, if they changed zone in the two days before it fell due."""
    due_at = OuterRef("due_at")
    return Subscriber.objects.filter(
        pk=OuterRef("subscriber_id"), moved_at__lt=due_at, moved_at__gt=due_at - timedelta(days=2)
    )


def too_soon() -> QuerySet[Delivery]:
    """Return the daily emails of a row's reader that were handed off in the 12 hours before it fell due, or since."""
    return DAILY.filter(
        subscriber_id=OuterRef("subscriber_id"),
        state__in=HAD,
        # Date by date, so that the key finds each of them.
        local_date__in=[OuterRef("local_date") + timedelta(days=days) for days in (-2, -1, 1, 2)],
        handoff_at__gt=OuterRef("due_at") - cascade.TOO_SOON,
        handoff_at__lte=OuterRef("handoff_at"),
    )


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


def last_struck(publication: Publication) -> list[Struck]:
    """Return the last promise that each clock has struck."""
    clocks = Clock.objects.filter(publication=publication).exclude(last_date=None)
    return [Struck(publication, row.zone, row.last_date) for row in clocks if row.last_date]


def between(last: date, struck: Struck) -> list[Struck]:
    """Return the promises of a zone between a date and the one that has just been struck."""
    publication, zone = struck.publication, struck.zone
    dates = [last + timedelta(days=days) for days in range(1, (struck.date - last).days)]
    return [Struck(publication, zone, day) for day in dates if publication.promise_from(day, zone)[0] == day]


def none_forgotten(struck: Struck, among: Q = EVERYONE) -> Iterator[str]:
    """Tell who was promised an email of a date that has just been planned, and has no row of it."""
    if Break.on(struck.publication, struck.date) == Break.Kind.SILENCE:
        return
    weekday = struck.date.isoweekday()
    readers = struck.publication.subscribers.filter(
        among,
        Q(weekdays="") | Q(weekdays__contains=str(weekday)),
        Q(digest_on=None) | Q(digest_on=weekday),
        status=Subscriber.Status.ACTIVE,
        zone=struck.zone,
        member_since__lte=struck.due_at,
    )
    forgotten = readers.filter(~Q(has_row(struck.date)))
    yield from (f"I2 nothing for {reader.pk} on {struck.date}" for reader in forgotten)
    shown = struck.due_at.astimezone(ZoneInfo(struck.zone))
    if (shown.date(), shown.time()) != (struck.date, struck.hour) and clock_has(struck):
        yield f"I7 {struck.zone} strikes at {shown}"


def has_row(day: date) -> Exists:
    return Exists(DAILY.filter(local_date=day, subscriber_id=OuterRef("pk")))


def standing_clocks(publication: Publication, now: datetime) -> Iterator[str]:
    """Tell which clocks should have struck by now."""
    late = Clock.objects.filter(publication=publication, next_at__lte=now)
    yield from (f"I2 has not struck: {row}" for row in late)


def clock_has(struck: Struck) -> bool:
    """Tell whether the clocks of a zone show the promised hour on this date at all."""
    wall = datetime.combine(struck.date, struck.hour, tzinfo=ZoneInfo(struck.zone))
    return wall.astimezone(ZoneInfo("UTC")).astimezone(ZoneInfo(struck.zone)).replace(tzinfo=None) == wall.replace(
        tzinfo=None
    )


def as_the_cascade_says(struck: Struck) -> Iterator[str]:
    """Compare each row that has just been planned with what a plain reading of the rules gives (I2, I3, I12, I13)."""
    rows = DAILY.filter(publication=struck.publication, local_date=struck.date, due_at=struck.due_at)
    rows = rows.filter(subscriber__zone=struck.zone).select_related("subscriber", "issue")
    shelf = Shelf(struck, [row.subscriber for row in rows])
    for row in rows:
        reader = row.subscriber
        # Whoever came back to daily was asked first what the week owes; it is noted no longer where that was nothing.
        weekly = row.way == Delivery.Way.DIGEST or reader.digest_on is not None
        gathered = ",".join(map(str, shelf.digest(reader))) if weekly else ""
        expected = (Delivery.Way.DIGEST, gathered) if gathered else shelf.choice(reader)
        found = (row.way, row.issue.digest_of if row.issue and row.way == Delivery.Way.DIGEST else row.issue_id)
        if found != expected and not (row.reason == "moved" and gathered):
            yield f"I12 {row.subscriber_id} on {row.local_date}: {found}, and not {expected}"


class Shelf:
    """The rules once more, in plain Python and reader by reader: the other half of a comparison with the SELECT."""

    def __init__(self, struck: Struck, readers: list[Subscriber]) -> None:
        self.texts: dict[int, set[int]] = defaultdict(set)
        for issue, text in IssueText.objects.filter(issue__publication=struck.publication).values_list("issue", "text"):
            self.texts[issue].add(text)
        self.entries: dict[int, list[Entry]] = defaultdict(list)
        queued = Entry.objects.filter(series__publication=struck.publication, issue__state=Issue.State.QUEUED)
        for entry in queued.order_by("rank", "pk"):
            self.entries[entry.series_id].append(entry)
        self.reserve = struck.publication.series.filter(kind=Series.Kind.RESERVE).first()
        self.struck = struck
        days = struck.publication.days.exclude(rest=Break.Kind.SILENCE).select_related("issue").order_by("-date")
        # The last date comes first.
        self.dates = [
            (day.fixed_at, day.issue if day.issue and day.issue.state == Issue.State.QUEUED else None)
            for day in days.filter(fixed_at__lte=struck.due_at, fixed_at__gt=struck.due_at - digests.TWO_WEEKS)
        ]
        last = days.filter(fixed_at__lte=struck.due_at).first()
        self.daily = last.issue if last and last.issue and last.issue.state == Issue.State.QUEUED else None
        self.walks: dict[int, list[Walk]] = defaultdict(list)
        # Those that the plan has just ended were under way when it chose.
        under_way = Walk.objects.filter(Q(ended_at=None) | Q(ended_at=struck.due_at), subscriber__in=readers)
        for walk in under_way.order_by("position", "pk"):
            self.walks[walk.subscriber_id].append(walk)
        self.settled: dict[int, datetime] = {}
        self.had = self.read(readers)

    def read(self, readers: list[Subscriber]) -> dict[int, set[int]]:
        """Return the texts that each reader has had in this membership."""
        had: dict[int, set[int]] = defaultdict(set)
        since = {reader.pk: reader.member_since for reader in readers}
        # The issues are listed, so that the index finds each of them.
        past = Delivery.objects.filter(issue__in=list(self.texts), subscriber__in=readers, state__in=HAD)
        for number, issue, due_at, way in past.values_list("subscriber_id", "issue_id", "due_at", "way"):
            if due_at >= since[number]:
                had[number] |= self.texts[issue]
            if way in {Delivery.Way.DIGEST, Delivery.Way.SEQUENCE}:
                self.settled[number] = max(due_at, self.settled.get(number, due_at))
        return had

    def steps(self, reader: Subscriber) -> list[int]:
        """Return the issues that this reader's sequences still owe, in order."""
        owed = []
        for walk in self.walks[reader.pk]:
            for entry in self.entries[walk.series_id]:
                moved_behind = entry.added_at <= walk.started_at < entry.placed_at
                if (entry.rank > walk.reached or moved_behind) and self.new(entry.issue_id, reader):
                    owed.append(entry.issue_id)
        return owed

    def digest(self, reader: Subscriber) -> list[int]:
        """Return the issues that this reader's weekly digest gathers."""
        a_week = len(self.struck.publication.promise_on(self.struck.date).weekdays)
        steps = self.steps(reader)[:a_week]
        began, settled = reader.member_since or self.struck.due_at, self.settled.get(reader.pk)
        unsettled = [began <= at and (settled is None or settled < at) for at, _issue in self.dates]
        of_this_week = [at > self.struck.due_at - digests.WEEK for at, _issue in self.dates]
        owed = [
            issue.pk
            for number, (_at, issue) in enumerate(self.dates)
            if issue and (unsettled[number] or of_this_week[number]) and self.new(issue.pk, reader)
        ]
        if steps:
            dates = max(a_week, sum(unsettled)) - len(steps) if len(steps) < a_week else 0
            first = {issue.pk for _at, issue in self.dates[:dates] if issue}
            owed = [issue for issue in owed if issue in first]
        elif reader.digest_on is None and self.daily and owed == [self.daily.pk]:
            owed = []
        return steps + owed[::-1]

    def choice(self, reader: Subscriber) -> tuple[str, int | None]:
        """Return the way and the issue that this reader is owed."""
        if steps := self.steps(reader):
            return Delivery.Way.SEQUENCE, steps[0]
        if self.daily and self.new(self.daily.pk, reader):
            return Delivery.Way.DAILY, self.daily.pk
        for entry in self.entries[self.reserve.pk] if self.reserve else []:
            if self.new(entry.issue_id, reader):
                return Delivery.Way.RESERVE, entry.issue_id
        return Delivery.Way.NONE, None

    def new(self, issue: int, reader: Subscriber) -> bool:
        return not self.texts[issue] & self.had[reader.pk]


def fixed_days(publication: Publication) -> Iterator[str]:
    """Tell which dates share an issue: each takes its own from the queue."""
    shared = publication.days.exclude(issue=None).values("issue").annotate(count=Count("pk")).filter(count__gt=1)
    yield from (f"I13 issue {row['issue']} was fixed for {row['count']} dates" for row in shared)


def ledger(days: QuerySet[Day]) -> Iterator[str]:
    """Tell which closed days say otherwise than their rows, counted one by one."""
    for day in days.exclude(closed_at=None).prefetch_related("corrections"):
        says, rows = promise.figures(day), list(DAILY.filter(publication=day.publication_id, local_date=day.date))
        stated = Counter(says.skipped) + Counter({f"missed {reason}": number for reason, number in says.missed.items()})
        stated += Counter(on_time=says.on_time, late=says.late, failed=says.failed, uncertain=says.uncertain)
        counted, kept = Counter(end_of(row) for row in rows), kept_by(rows, day.rest)
        expected = sum(row.state != State.SKIPPED for row in rows)
        if (stated, says.expected, says.kept) != (counted, expected, kept):
            yield f"ledger: {day.date} says {dict(stated)} of {says.expected}, its rows {dict(counted)} of {expected}"


def kept_by(rows: list[Delivery], rest: str) -> bool | None:
    """Tell whether a date's rows kept the promise; None where nobody was promised anything."""
    expected = [row for row in rows if row.state != State.SKIPPED]
    if not expected or rest == Break.Kind.SILENCE:
        return None
    return not any(row.state == State.MISSED or (row.state == State.FAILED and row.reason != "address") for row in rows)


def end_of(row: Delivery) -> str:
    """Return the word under which a row's end stands in the ledger."""
    match row.state:
        case State.SENT:
            assert row.settled_at
            return "on_time" if row.settled_at - row.due_at <= timedelta(minutes=15) else "late"
        case State.SKIPPED:
            return row.reason
        case State.MISSED:
            return f"missed {row.reason}"
        case end:
            return end
