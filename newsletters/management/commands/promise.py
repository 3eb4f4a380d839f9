from argparse import ArgumentParser
from collections.abc import Iterable
from datetime import date, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, override

from newsletters import clock, costs, promise, runway, strokes
from newsletters.figures import Figures
from newsletters.models import Day, Publication

DAYS = 30


class Command(BaseCommand):
    help = "Print how a publication's promise was kept, how far it is covered, and what each promise would cost."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("publication", help="its short name in addresses")

    def handle(self, *args: Any, publication: str, **options: Any) -> None:
        found = Publication.objects.filter(slug=publication).first()
        if found is None:
            raise CommandError(f"There is no publication {publication}. Give its short name, as in its addresses.")
        now = timezone.now()
        today = clock.local_date(now, found.zone)
        with override(found.language):
            self.stdout.write("\n".join(aligned(ledger(found, today))))
            self.stdout.write("\n" + "\n".join(standing(found, today)) + "\n")
            stock = costs.stock(found, now)
            self.stdout.write("\n".join(aligned(reaches(stock, found.language))))
            self.stdout.write(costs.advice(stock, found.language))


def ledger(publication: Publication, today: date) -> Iterable[list[str]]:
    """Yield a line a date, the latest last, under a line of names."""
    yield [
        _("Date"), _("Kept"), _("Expected"), _("On time"), _("Late"), _("Failed"), _("Uncertain"), _("Skipped"),
        _("Missed"), _("Issue"),
    ]  # fmt: skip
    days = Day.objects.filter(publication=publication, date__gt=today - timedelta(days=DAYS)).order_by("date")
    for day in days.select_related("issue").prefetch_related("corrections"):
        known = promise.figures(day)
        figures = [known.expected, known.on_time, known.late, known.failed, known.uncertain]
        words = [str(figure) for figure in figures] if day.closed_at else ["" for figure in figures]
        reasons = [by_reason(known.skipped), by_reason(known.missed)]
        yield [day.date.isoformat(), verdict(day, known), *words, *reasons, strokes.subject(day)]


def verdict(day: Day, known: Figures) -> str:
    if day.closed_at is None:
        return _("under way")
    return {True: _("yes"), False: _("no"), None: "–"}[known.kept]


def by_reason(figures: dict[str, int]) -> str:
    return ", ".join(f"{number} {reason}" for reason, number in sorted(figures.items()))


def standing(publication: Publication, today: date) -> Iterable[str]:
    """Yield the streak, the shares on time and the runway, a sentence each."""
    known, language = promise.record(publication, today), publication.language
    values = {"streak": known.streak, "best": known.best, "kept": known.kept, "days": known.days}
    yield _("%(streak)d days in a row; %(best)d at best; %(kept)d of %(days)d kept.") % values
    if known.on_time_30 is not None and known.on_time_365 is not None:
        shares = {"month": f"{known.on_time_30:.1f}", "year": f"{known.on_time_365:.1f}"}
        yield _("On time: %(month)s %% over 30 days, %(year)s %% over 365.") % shares
    covered = runway.ahead(publication, today)
    days = {"days": covered.days, "reserve": covered.reserve}
    yield ngettext("%(days)d day ahead is covered.", "%(days)d days ahead are covered.", covered.days) % days
    yield (
        ngettext("The reserve holds %(reserve)d issue.", "The reserve holds %(reserve)d issues.", covered.reserve)
        % days
    )
    for cohort in runway.cohorts(publication, today, covered.reserve):
        yield runway.told(cohort, language)


def reaches(stock: costs.Stock, language: str) -> Iterable[list[str]]:
    yield [_("Promise"), _("Emails"), _("Lasts")]
    for one in costs.reaches(stock):
        yield [costs.rhythm(one, language), str(one.emails), costs.span(one.days)]


def aligned(rows: Iterable[list[str]]) -> Iterable[str]:
    """Put the columns below one another."""
    lines = list(rows)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
