"""The daily queue: which issue each date gets, fixed when the publication's own hour strikes; and what is to come."""

from collections.abc import Iterator
from datetime import date, datetime, timedelta

from django.db.models import Q, QuerySet

from newsletters import clock
from newsletters.models import Break, Day, Entry, Issue, Publication, Series

# In the westernmost zone a date ends last.
LAST_ZONE = "Etc/GMT+12"


def issue_at(publication: Publication, at: datetime) -> int | None:
    """Return the issue of the publication's last promised date whose own hour has struck, or None where it is dry.

    An announced break promises nothing: the issue before it is still to come where the break ends earlier.
    """
    days = publication.days.filter(fixed_at__lte=at).exclude(rest=Break.Kind.SILENCE).order_by("-date")
    issue, state = days.values_list("issue", "issue__state").first() or (None, None)
    return issue if state == Issue.State.QUEUED else None


def open_from(publication: Publication, until: datetime) -> date:
    """Return the first date that has not been fixed yet. Before the first day of all, nothing was promised."""
    last = publication.days.order_by("-date").values_list("date", flat=True).first()
    if last:
        return last + clock.ONE_DAY
    day = clock.local_date(until - clock.ONE_DAY, publication.zone)
    struck = clock.instant(day, publication.promise_on(day).hour, publication.zone) <= until - clock.ONE_DAY
    return day + clock.ONE_DAY if struck else day


def fix_days(publication: Publication, until: datetime, now: datetime) -> None:
    """Fix the daily issue of each of the publication's dates whose own hour has struck, the same for everyone."""
    first = open_from(publication, until)
    while True:
        day, at = publication.promise_from(first, publication.zone)
        if at > until:
            return
        fix(publication, day, at, now)
        first = day + clock.ONE_DAY


def fix(publication: Publication, day: date, at: datetime, now: datetime) -> Day:
    """Give a date its issue. One that rests takes none, nor one that is over: an outage before it costs no issue."""
    rest = Break.on(publication, day)
    issue = None if rest or over(publication, at, now) else next_issue(publication, day)
    return Day.objects.create(
        publication=publication,
        date=day,
        issue=issue,
        fixed_at=at,
        rest=rest,
        hour=publication.promise_on(day).hour,
        weekdays=publication.promise_on(day).weekdays,
    )


def over(publication: Publication, at: datetime, now: datetime) -> bool:
    """Tell whether what is fixed for an instant would come too late in every zone that has a clock."""
    just_before = at - timedelta(microseconds=1)
    for zone in publication.clocks.values_list("zone", flat=True):
        day, _at = publication.next_promise(just_before, zone)
        if now < publication.window(day, zone)[1]:
            return False
    return True


def untaken(publication: Publication) -> QuerySet[Entry]:
    """Return the queued entries of the daily queue that no date has taken, in order."""
    queue = Entry.objects.filter(
        series__publication=publication, series__kind=Series.Kind.DAILY, issue__state=Issue.State.QUEUED
    )
    return queue.exclude(issue__days__publication=publication).order_by("rank", "pk").select_related("issue")


def next_issue(publication: Publication, day: date) -> Issue | None:
    """Return the queued issue pinned to a date, else the first of the daily queue that no date has taken."""
    free = Q(pinned_date=None) | Q(pinned_date__lt=day)
    entry = untaken(publication).filter(pinned_date=day).first() or untaken(publication).filter(free).first()
    return entry.issue if entry else None


def skip(entry: Entry, now: datetime) -> Entry:
    """Let the issue of the daily queue that has a date coming have the date after; the others keep their order.

    One that has no date coming, because it was sent or taken out of the queue meanwhile, stays where it is.
    """
    series = entry.series
    with series.editing():
        entry = series.entries.get(pk=entry.pk)
        if not untaken(series.publication).filter(pk=entry.pk).exists():
            return entry
        rows = untaken(series.publication).filter(pinned_date=None)
        behind = next((row for row in rows if (row.rank, row.pk) > (entry.rank, entry.pk)), None)
        if behind and entry.pinned_date is None:
            return series.move_after(entry, behind)
        entry.pinned_date = _date_after(series.publication, entry, now)
        entry.save(update_fields=["pinned_date"])
        return entry


def _date_after(publication: Publication, entry: Entry, now: datetime) -> date:
    """Return the next date that is no other issue's own after the one this issue would have."""
    pinned = set(untaken(publication).exclude(pk=entry.pk).values_list("pinned_date", flat=True))
    first, _at = publication.next_promise(now, publication.zone)
    had_turn = False
    for day, issue, rest in forecast(publication, first - clock.ONE_DAY):
        if had_turn and day not in pinned and not rest:
            return day
        had_turn |= bool(issue and issue.pk == entry.issue_id)
    raise AssertionError("a forecast has no end")


def forecast(publication: Publication, after: date) -> Iterator[tuple[date, Issue | None, str]]:
    """Yield (date, issue, kind of break) for each promised date after one, without end, as the queue stands now."""
    entries, breaks, day = list(untaken(publication)), list(publication.breaks.all()), after
    while True:
        day, _ = publication.promise_from(day + clock.ONE_DAY, publication.zone)
        rest = max((one.kind for one in breaks if one.first <= day <= one.last), default="")
        pinned = [entry for entry in entries if entry.pinned_date == day]
        free = [entry for entry in entries if entry.pinned_date is None or entry.pinned_date < day]
        taken = None if rest else next(iter(pinned + free), None)
        if taken:
            entries.remove(taken)
        yield day, taken.issue if taken else None, rest
