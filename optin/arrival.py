"""What arrives when, for someone who has just confirmed."""

from dataclasses import dataclass
from datetime import date, datetime

from newsletters import clock, personal
from newsletters.models import Break, Entry, Issue, Publication, Subscriber


@dataclass(frozen=True, slots=True)
class Arrival:
    """The reader's first dates. `welcomes` issues of the sequence come first, the last of them on `last_welcome`;
    the issue that everyone receives comes from `daily_from` on. `subject` is the first issue's.
    """

    today: date
    first: date
    welcomes: int
    subject: str
    last_welcome: date
    daily_from: date

    @property
    def width(self) -> int:
        """Return how wide the strokes are drawn, nine units a morning and at most forty mornings."""
        return 9 * (min(max(self.welcomes, 1), 40) - 1) + 3

    @property
    def ahead(self) -> int:
        return self.width - 9


def first_dates(publication: Publication, zone: str, start: datetime, count: int) -> list[date]:
    """Return the next `count` promised dates after a moment, where a reader lives."""
    silences = list(publication.breaks.filter(kind=Break.Kind.SILENCE))
    dates: list[date] = []
    while len(dates) < count:
        day, start = publication.next_promise(start, zone)
        if not any(rest.first <= day <= rest.last for rest in silences):
            dates.append(day)
    return dates


def arrival(reader: Subscriber, since: datetime, now: datetime) -> Arrival:
    """Tell a reader who confirmed at `since` what comes."""
    walks = reader.walks.filter(ended_at=None).order_by("position", "pk")
    queued = Entry.objects.filter(series__in=walks.values("series")[:1], issue__state=Issue.State.QUEUED)
    welcomes, subject = queued.count(), queued.values_list("issue__subject", flat=True).first()
    promised = first_dates(reader.publication, reader.zone, since, welcomes + 1)
    return Arrival(
        today=clock.local_date(now, reader.zone),
        first=promised[0],
        welcomes=welcomes,
        subject=personal.spoken(subject or "", {"first_name": reader.first_name}),
        last_welcome=promised[max(welcomes - 1, 0)],
        daily_from=promised[welcomes],
    )
