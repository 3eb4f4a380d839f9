"""The ledger as a ruler of strokes, one a day: the days as they are told, and the paths that draw them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from hashlib import sha256
from itertools import groupby
from typing import Literal

from django.core.cache import cache
from django.db.models import Count, Max
from django.utils.dates import MONTHS, MONTHS_AP
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from newsletters import dates, personal, queue
from newsletters.models import Break, Day, Issue, Publication
from newsletters.promise import SHOWN_FROM, Record, changed, record

State = Literal["kept", "late", "missed", "today", "ahead", "open", "rest"]

# What look.css calls them; a kept day is a plain stroke, and one of rest leaves a gap.
CLASSES = {"kept": "", "late": "late", "missed": "miss", "today": "today", "ahead": "ahead", "open": "open"}
# Pixels from one stroke to the next
STEP = 3
# Days of the small ruler
TALLY = 30
# Seconds
REMEMBERED = 3600
# A caption names so many days, and says how many more there are.
NAMED = 3


@dataclass(frozen=True, slots=True)
class Stroke:
    """One date. `today` is also a past date that is not closed yet; `rest` promised nothing, or to nobody."""

    date: date
    state: State
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Month:
    """A month's drawing: its name, and (class, path) for each run of like days, in a box 93 wide and 40 high."""

    name: str
    paths: list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Streak:
    """What a public page shows: the figure, what it counts, twelve months of strokes and the same in words."""

    record: Record
    mornings: bool
    line: str
    strokes: list[Stroke]
    months: list[Month]
    caption: str

    @property
    def tally(self) -> list[tuple[str, str]]:
        """The last days as a small ruler, (class, path) in a box 90 wide and 16 high; a missed one is a gap."""
        last = self.strokes[-TALLY:]
        names = {"": "", "late": "", "today": "today"}
        return [(names[name], f"M{x} 8h{width}") for name, x, width in runs(last, last[0].date) if name in names]


def shown(publication: Publication, today: date) -> Streak | None:
    """Return the public picture of a publication's ledger, or None where it is switched off or not yet worth it.

    It is remembered until the ledger or the date moves: an opt-in page asks one question for it.
    """
    if not publication.show_streak:
        return None
    closed = Day.objects.filter(publication=publication, closed_at__isnull=False)
    state = closed.aggregate(days=Count("pk", distinct=True), last=Max("closed_at"), correction=Max("corrections"))
    if state["days"] < SHOWN_FROM:
        return None
    promise = (publication.hour, publication.weekdays, publication.language)
    key = f"streak {publication.pk} {today} {promise} {state}".encode()
    return cache.get_or_set(sha256(key).hexdigest(), lambda: draw(publication, today), REMEMBERED)


def draw(publication: Publication, today: date) -> Streak | None:
    """Return the picture, in the language that is active."""
    known = record(publication, today)
    if not known.shown:
        return None
    past = [stroke for stroke in year(publication, today) if stroke.date <= today]
    mornings = publication.hour.hour < 12 and len(publication.weekdays) == 7
    return Streak(known, mornings, line(known, mornings), past, months(past), caption(past, publication.language))


def line(known: Record, mornings: bool) -> str:
    """Return “412 mornings in a row”, or after a miss “411 of 412 days”."""
    if not known.unbroken:
        return _("%(kept)d of %(days)d days") % {"kept": known.kept, "days": known.days}
    if mornings:
        return ngettext("%(days)d morning in a row", "%(days)d mornings in a row", known.streak) % {
            "days": known.streak
        }
    return ngettext("%(days)d day in a row", "%(days)d days in a row", known.streak) % {"days": known.streak}


def year(publication: Publication, today: date, ahead: int = 0) -> list[Stroke]:
    """Return the strokes of twelve whole months, the last of them `ahead` months after today's; four queries."""
    end = today.year * 12 + today.month - 1 + ahead
    first, after = (date(month // 12, month % 12 + 1, 1) for month in (end - 11, end + 1))
    return between(publication, first, after - timedelta(days=1), today)


def between(publication: Publication, first: date, last: date, today: date) -> list[Stroke]:
    """Return the strokes of these dates from the first promised one on, none left out."""
    days = Day.objects.filter(publication=publication, date__gte=first, date__lte=last).select_related("issue")
    verdicts = changed(publication)
    fixed = {day.date: Stroke(day.date, verdict(day, verdicts.get(day.pk, day.kept)), subject(day)) for day in days}
    # Before its hour, today has no day yet: the forecast has it.
    return drawn(fixed, queue.forecast(publication, max([today - timedelta(days=1), *fixed])), last, today)


def drawn(
    fixed: Mapping[date, Stroke], forecast: Iterable[tuple[date, Issue | None, str]], last: date, today: date
) -> list[Stroke]:
    """Return the strokes of the fixed dates and of those to come, and of each date between them."""
    coming = dict(fixed)
    for day, issue, rest in forecast:
        if day > last:
            break
        state: State = "rest" if rest == Break.Kind.SILENCE else "ahead" if issue or rest else "open"
        coming[day] = Stroke(day, "today" if day == today else state, _spoken(issue.subject) if issue else "")
    begin = min([*coming, today])
    span = [begin + timedelta(days=number) for number in range((last - begin).days + 1)]
    return [coming.get(day, Stroke(day, "rest")) for day in span]


def verdict(day: Day, kept: bool | None) -> State:
    """Return how a fixed day is drawn. It counts as late where more than half of what came was late."""
    if day.closed_at is None:
        return "rest" if day.rest == Break.Kind.SILENCE else "today"
    if kept is None:
        return "rest"
    if not kept:
        return "missed"
    return "late" if day.late > day.on_time else "kept"


def subject(day: Day) -> str:
    return _spoken(day.issue.subject) if day.issue else ""


def _spoken(text: str) -> str:
    return personal.spoken(text, {})


def months(strokes: Iterable[Stroke]) -> list[Month]:
    """Draw each month, its first day at the left."""
    parts = groupby(strokes, key=lambda stroke: stroke.date.replace(day=1))
    return [
        Month(str(MONTHS_AP[first.month]), [(name, f"M{x} 20h{width}") for name, x, width in runs(part, first)])
        for first, part in parts
    ]


def runs(strokes: Iterable[Stroke], first: date) -> list[tuple[str, int, int]]:
    """Return (class, left edge, width) for each run of days of the same state, `first` standing at 0."""
    drawn = []
    for state, run in groupby(strokes, key=lambda stroke: stroke.state):
        days = [stroke.date for stroke in run]
        if state != "rest":
            drawn.append((CLASSES[state], (days[0] - first).days * STEP, len(days) * STEP))
    return drawn


def caption(strokes: list[Stroke], language: str) -> str:
    """Say in words what the strokes show: from when to when, what is missing, what was late."""
    first, last = strokes[0].date, strokes[-1].date
    missed = [stroke.date for stroke in strokes if stroke.state == "missed"]
    late = [stroke.date for stroke in strokes if stroke.state == "late"]
    sentences = [
        _("One stroke a day, from %(first)s to %(last)s.") % {"first": _month(first), "last": _month(last)},
        _("Missed: %(days)s.") % {"days": _listed(missed, language)} if missed else _("No day is missing."),
        _("Late: %(days)s.") % {"days": _listed(late, language)} if late else "",
    ]
    return " ".join(filter(None, sentences))


def _month(day: date) -> str:
    return f"{MONTHS[day.month]} {day.year}"


def _listed(days: list[date], language: str) -> str:
    names = [dates.full_date(day, language) for day in days[-NAMED:]]
    more = len(days) - len(names)
    if more:
        names.append(ngettext("%(number)d other day", "%(number)d other days", more) % {"number": more})
    return ", ".join(names)
