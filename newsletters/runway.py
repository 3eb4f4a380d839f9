"""How far ahead the promise is covered: by the daily queue, by the sequences of who walks them, by the reserve."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import islice

from django.db.models import Max
from django.utils.translation import ngettext

from newsletters import cascade, queue
from newsletters import dates as spoken
from newsletters.models import Break, Entry, Issue, Publication, Series, StepsAhead

# Nothing is looked at further ahead than a year.
HORIZON = 366

# How many steps each active reader has to come, and how many readers that is. Whoever gets a digest is left out.
STEPS = """
    WITH place AS (
        SELECT DISTINCT walk.series_id, walk.reached FROM newsletters_walk walk
        JOIN newsletters_series series ON series.id = walk.series_id
        WHERE series.publication_id = %(publication)s AND walk.ended_at IS NULL
    ), ahead AS (
        SELECT place.series_id, place.reached, COUNT(issue.id) AS steps FROM place
        LEFT JOIN newsletters_entry entry ON entry.series_id = place.series_id AND entry.rank > place.reached
        LEFT JOIN newsletters_issue issue ON issue.id = entry.issue_id AND issue.state = 'queued'
        GROUP BY place.series_id, place.reached
    ), walker AS (
        SELECT walk.subscriber_id, CAST(SUM(ahead.steps) AS bigint) AS steps FROM newsletters_walk walk
        JOIN ahead ON ahead.series_id = walk.series_id AND ahead.reached = walk.reached
        WHERE walk.ended_at IS NULL GROUP BY walk.subscriber_id
    )
    SELECT COALESCE(walker.steps, 0), COUNT(*) FROM newsletters_subscriber reader
    LEFT JOIN walker ON walker.subscriber_id = reader.id
    WHERE reader.publication_id = %(publication)s AND reader.status = 'active' AND reader.digest_on IS NULL
    GROUP BY COALESCE(walker.steps, 0)
"""


@dataclass(frozen=True, slots=True)
class Runway:
    """`days` promised dates in a row, from the next on, have their issue; `dry_on` is the first that has none.

    `dry_on` is None where a whole year is covered. `reserve` issues could each cover one dry day more.
    """

    days: int
    dry_on: date | None
    reserve: int


@dataclass(frozen=True, slots=True)
class Cohort:
    """So many readers get nothing new from `dry_on` on; before it lie `days` promised dates."""

    dry_on: date
    days: int
    readers: int


def ahead(publication: Publication, today: date) -> Runway:
    """Return the runway of the daily queue; it reads the queue and no reader."""
    reserve = Entry.objects.filter(
        series__publication=publication, series__kind=Series.Kind.RESERVE, issue__state=Issue.State.QUEUED
    ).count()
    coming = dates(publication, today, reserve)
    covered = next((number for number, (_day, has) in enumerate(coming) if not has), len(coming))
    return Runway(covered, coming[covered][0] if covered < len(coming) else None, reserve)


def dates(publication: Publication, today: date, reserve: int = 0) -> list[tuple[date, bool]]:
    """Return the promised dates of the coming year that are not fixed yet, each with whether it is covered.

    Announced breaks promise nothing. Dates that the author gave to the reserve are covered as far as it reaches.
    """
    yesterday = today - timedelta(days=1)
    last = publication.days.aggregate(last=Max("date"))["last"] or yesterday
    return covered(islice(queue.forecast(publication, max(last, yesterday)), HORIZON), reserve)


def covered(forecast: Iterable[tuple[date, Issue | None, str]], reserve: int) -> list[tuple[date, bool]]:
    """Return which dates of a forecast are covered, those of announced breaks left out."""
    found = []
    for day, issue, rest in forecast:
        if rest == Break.Kind.RESERVE:
            found.append((day, reserve > 0))
            reserve -= 1
        elif not rest:
            found.append((day, issue is not None))
    return found


def cohorts(publication: Publication, today: date, reserve: int = 0) -> list[Cohort]:
    """Return who runs dry when, the soonest first; one pass over the publication's readers."""
    return run_dry(dates(publication, today, reserve), steps(publication))


def steps(publication: Publication) -> dict[int, int]:
    """Return how many readers have so many steps to come; one pass over the publication's readers."""
    return dict(cascade.fetch(STEPS, {"publication": publication.pk}))


def note(publication: Publication, counted: dict[int, int]) -> None:
    """Write the counts down for whoever may not count: the desk."""
    StepsAhead.objects.update_or_create(publication=publication, defaults={"counts": sorted(counted.items())})


def run_dry(coming: list[tuple[date, bool]], counted: dict[int, int]) -> list[Cohort]:
    """Return the cohorts of so many readers with so many steps, the soonest first.

    A reader has the steps of their sequences first, then the daily queue. Whoever is covered for a year is left out.
    """
    dry = [number for number, (_day, has) in enumerate(coming) if not has]
    readers: Counter[int] = Counter()
    for steps, number in counted.items():
        first = next((place for place in dry if place >= steps), None)
        if first is not None:
            readers[first] += number
    return [Cohort(coming[place][0], place, number) for place, number in sorted(readers.items())]


def told(cohort: Cohort, language: str) -> str:
    """Return “38 readers run dry on Thursday 3 December.”"""
    values = {"readers": cohort.readers, "day": spoken.day(cohort.dry_on, language)}
    return (
        ngettext("%(readers)d reader runs dry on %(day)s.", "%(readers)d readers run dry on %(day)s.", cohort.readers)
        % values
    )
