"""How often one reader is mailed: on every promised day, on days of their own, or once a week."""

from datetime import date, datetime, timedelta
from typing import NamedTuple

from django.db.models import QuerySet

from newsletters.models import Break, Subscriber

FAR = timedelta(days=400)


class Own(NamedTuple):
    """The days that a reader chose: a weekday for the digest, some of the promised ones, or neither."""

    digest_on: int | None
    weekdays: str

    def asks(self, day: date) -> bool:
        """Tell whether a promised date is one of this reader's."""
        weekday = day.isoweekday()
        return weekday == self.digest_on if self.digest_on else not self.weekdays or str(weekday) in self.weekdays

    def fit(self, promised: str) -> "Own":
        """Return what becomes of this where other days are promised: never more emails a week than were chosen.

        A digest moves to the next promised weekday. Own days of which none is left become as many others, the latest.
        """
        digest_on, weekdays = self
        if (chosen := digest_on) and str(digest_on) not in promised:
            digest_on = min(map(int, promised), key=lambda day: (day - chosen) % 7)
        if weekdays and not set(weekdays) & set(promised):
            weekdays = promised[-len(weekdays) :]
        return Own(digest_on, weekdays)


def next_date(reader: Subscriber, now: datetime) -> date:
    """Return the local date of a reader's next email, as far as the promise, the breaks and their own pace say."""
    publication = reader.publication
    day, at = first, _at = publication.next_promise(now, reader.zone)
    silences = list(publication.breaks.filter(kind=Break.Kind.SILENCE, last__gte=first))
    while day < first + FAR:
        if fitted(reader, day).asks(day) and not any(rest.first <= day <= rest.last for rest in silences):
            return day
        day, at = publication.next_promise(at, reader.zone)
    return first


def fitted(reader: Subscriber, day: date) -> Own:
    """Return a reader's own pace as it will be on a date, after the changes of the promise that come until then."""
    own = Own(reader.digest_on, reader.weekdays)
    for promise in reader.publication.coming:
        if promise.first <= day:
            own = own.fit(promise.weekdays)
    return own


def fit(readers: QuerySet[Subscriber], promised: str) -> None:
    """Fit readers' own days to other promised days."""
    # The few of them are found first: on most days of most promises there is nothing to fit.
    for digest_on, weekdays in readers.exclude(digest_on=None, weekdays="").values_list(*Own._fields).distinct():
        own = Own(digest_on, weekdays)
        if (fitting := own.fit(promised)) != own:
            readers.filter(**own._asdict()).update(**fitting._asdict())
