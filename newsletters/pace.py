"""How often one reader is mailed: on every promised day, on days of their own, or once a week."""

from datetime import date, datetime, timedelta

from newsletters.models import Break, Publication, Subscriber

FAR = timedelta(days=400)


def next_date(reader: Subscriber, now: datetime) -> date:
    """Return the local date of a reader's next email, as far as the promise, the breaks and their own pace say."""
    publication = reader.publication
    day, at = first, _at = publication.next_promise(now, reader.zone)
    silences = list(publication.breaks.filter(kind=Break.Kind.SILENCE, last__gte=first))
    while day < first + FAR:
        if asked(reader, day) and not any(rest.first <= day <= rest.last for rest in silences):
            return day
        day, at = publication.next_promise(at, reader.zone)
    return first


def asked(reader: Subscriber, day: date) -> bool:
    """Tell whether a promised date is one of this reader's."""
    weekday = day.isoweekday()
    if reader.digest_on:
        return weekday == reader.digest_on
    return not reader.weekdays or str(weekday) in reader.weekdays


def fit(publication: Publication) -> None:
    """After the promise changed, move digests to the next promised weekday, and end days of one's own that are none."""
    promised = [int(digit) for digit in publication.weekdays]
    for weekday in set(range(1, 8)) - set(promised):
        following = min(promised, key=lambda day: (day - weekday) % 7)
        publication.subscribers.filter(digest_on=weekday).update(digest_on=following)
    for own in publication.subscribers.exclude(weekdays="").values_list("weekdays", flat=True).distinct():
        if not set(own) & set(publication.weekdays):
            publication.subscribers.filter(weekdays=own).update(weekdays="")
