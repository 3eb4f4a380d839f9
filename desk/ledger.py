"""The days kept and the days ahead: the picture, the same in words day by day, and what the last miss was."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import groupby, islice
from typing import Any

from django.db.models import F, OuterRef, QuerySet, Subquery
from django.utils.dates import MONTHS
from django.utils.translation import get_language, gettext_lazy, ngettext
from django.utils.translation import gettext as _

from newsletters import personal, promise, queue, runway, strokes
from newsletters.models import Break, Correction, Day, Issue, Publication
from newsletters.promise import Record
from newsletters.strokes import Stroke

Coming = tuple[date, Issue | None, str]

# What a stroke says to who cannot see it
OUTCOMES = {
    "kept": gettext_lazy("kept"),
    "late": gettext_lazy("kept, late"),
    "missed": gettext_lazy("missed"),
    "today": gettext_lazy("under way"),
    "ahead": gettext_lazy("covered"),
    "open": gettext_lazy("to write"),
    "rest": gettext_lazy("nothing promised"),
}
# A ledger of many years is read whole: no more of each day than is told.
COLUMNS = ["date", "issue_id", "rest", "hour", "closed_at", "expected", "on_time", "late", "failed", "missed", "kept"]
# Beyond a week, a miss is history: the picture has it.
RECENT = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Month:
    """A month day by day: its name, what its days became, and (date, subject, outcome) for each."""

    name: str
    summary: str
    is_now: bool
    days: list[tuple[date, str, str]]


@dataclass(frozen=True, slots=True)
class Ledger:
    """What is behind and what is ahead.

    `dry_on` is the first date without an email, `free_on` the first that the queue could still fill; `spare` are the
    reserve's issues that no break counts on.
    """

    record: Record
    days: list[Stroke]
    covered: int
    dry_on: date | None
    free_on: date | None
    spare: int
    missed: Day | None
    last: Day | None
    today: date

    @property
    def months(self) -> list[strokes.Month]:
        return strokes.months(self.days)

    @property
    def by_month(self) -> list[Month]:
        parts = groupby(self.days, key=lambda stroke: stroke.date.replace(day=1))
        return [month(first, list(part), self.today) for first, part in parts]

    @property
    def caption(self) -> str:
        """Say in one sentence what the picture shows; the list beneath it has every day."""
        past = [stroke for stroke in self.days if stroke.date < self.today]
        text = strokes.caption(past, get_language() or "en") if past else ""
        days = ngettext("%(number)d day ahead is covered.", "%(number)d days ahead are covered.", self.covered)
        return f"{text} {days % {'number': self.covered}}".strip()


def month(first: date, days: list[Stroke], today: date) -> Month:
    summary = [
        _("%(outcome)s: %(days)d") % {"outcome": OUTCOMES[state], "days": len(run)} for state, run in by_state(days)
    ]
    listed = [(stroke.date, stroke.subject, str(OUTCOMES[stroke.state])) for stroke in days]
    name = f"{MONTHS[first.month]} {first.year}"
    return Month(name, ", ".join(summary), first == today.replace(day=1), listed)


def by_state(days: list[Stroke]) -> Iterable[tuple[str, list[Stroke]]]:
    for state in OUTCOMES:
        if state != "rest" and (those := [stroke for stroke in days if stroke.state == state]):
            yield state, those


def fixed_days(publication: Publication) -> list[Any]:
    """Return every fixed day, the oldest first, each with its issue's `subject` and its `verdict`; one query.

    The verdict is the ledger's last word: that of the close, or of the latest correction.
    """
    corrected = Correction.objects.filter(day=OuterRef("pk"), changes__has_key="kept").order_by("-pk")
    days: QuerySet[Any] = Day.objects.filter(publication=publication).only(*COLUMNS).order_by("date")
    subject = {"subject": F("issue__subject")}
    rows = list(days.annotate(**subject, correction=Subquery(corrected.values("changes")[:1])))
    for day in rows:
        day.verdict = day.correction["kept"] if day.correction else day.kept
    return rows


def forecast(publication: Publication, days: list[Any], today: date) -> list[Coming]:
    """Return what each promised date of the coming year gets, from the first that is not fixed yet; one query."""
    after = max([today - timedelta(days=1), *(day.date for day in days[-1:])])
    return list(islice(queue.forecast(publication, after), runway.HORIZON))


def read(days: list[Any], coming: list[Coming], reserve: int, today: date) -> Ledger:
    closed = [day for day in days if day.closed_at and day.date <= today]
    record = promise.add_up((day.date, day.verdict) for day in closed)
    first, last = span(today)
    fixed = {
        day.date: Stroke(day.date, strokes.verdict(day, day.verdict), personal.spoken(day.subject or "", {}))
        for day in days
        if first <= day.date <= last
    }
    number, dry_on = reach(coming, reserve)
    recent = [day for day in closed if day.verdict is False and day.date > today - RECENT]
    return Ledger(
        record=record,
        days=strokes.drawn(fixed, coming, last, today),
        covered=number,
        dry_on=dry_on,
        free_on=next((day for day, issue, rest in coming if not issue and not rest), None),
        spare=max(0, reserve - sum(rest == Break.Kind.RESERVE for _day, _issue, rest in coming)),
        missed=recent[-1] if recent else None,
        last=closed[-1] if closed else None,
        today=today,
    )


def reach(coming: list[Coming], reserve: int, more: int = 0) -> tuple[int, date | None]:
    """Return how many dates in a row are covered, and the first that is not, if so many more issues are queued."""
    dates = runway.covered(coming, reserve)
    free = {day for day, issue, rest in coming if not issue and not rest}
    for number, (day, has) in enumerate(dates):
        if not has and (day not in free or not more):
            return number, day
        more -= not has
    return len(dates), None


def span(today: date) -> tuple[date, date]:
    """Return the first and the last date of twelve whole months, the last of them the month after this one."""
    end = today.year * 12 + today.month
    first, after = (date(number // 12, number % 12 + 1, 1) for number in (end - 11, end + 1))
    return first, after - timedelta(days=1)


def rests(publication: Publication, today: date) -> list[Break]:
    """Return the break that holds today and those to come, the first to begin first."""
    return [rest for rest in publication.breaks.all() if rest.last >= today]


def reasons(day: Day) -> list[str]:
    """Say why a date was missed, in numbers of readers."""
    causes = {
        "dry": _("nothing was queued, and the reserve held nothing new for them"),
        "late": _("the emails could not be sent in time"),
        "outage": _("the machine was down all day"),
        "limit": _("the mail server’s limits let no more go"),
        "stopped": _("you stopped the sending"),
        "deferred": _("the reader’s own mail server put the email off until it was too late"),
    }
    told = [f"{causes.get(reason, reason)} ({number})" for reason, number in day.missed.items() if number]
    if day.failed:
        words = ngettext("%(number)d email was refused", "%(number)d emails were refused", day.failed)
        told.append(words % {"number": day.failed})
    return told
