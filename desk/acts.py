"""What the buttons of the desk do. Each is one transaction, and twice is once."""

from collections.abc import Iterable
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.db import transaction
from django.db.models import Max
from django.utils import translation
from django.utils.text import get_valid_filename
from django.utils.translation import gettext as _

from newsletters import clock, composing
from newsletters.articles import ReadError
from newsletters.articles.fetch import Guard
from newsletters.articles.importing import Report, import_articles
from newsletters.models import Break, Delivery, Issue, Publication, Series
from newsletters.models.outgoing import OPEN, State

# The first date and the last
Span = tuple[date, date]


@transaction.atomic
def place(publication: Publication, keys: Iterable[int]) -> tuple[list[Issue], list[str]]:
    """Queue these drafts and ready issues; one that stands in no series goes to the end of the daily queue.

    Return what is queued now, and a sentence for each that could not be.
    """
    waiting = publication.issues.select_for_update().filter(
        pk__in=list(keys), kind=Issue.Kind.DAILY, state__in=[Issue.State.READY, Issue.State.DRAFT]
    )
    placed: list[Issue] = []
    refused: list[str] = []
    for issue in waiting.order_by("pk"):
        issue.state = Issue.State.QUEUED
        try:
            issue.full_clean()
        except ValidationError as error:
            name = _("“%(text)s”") % {"text": issue.subject}
            refused.append(_("%(name)s: %(what)s") % {"name": name, "what": " ".join(error.messages)})
            continue
        issue.save(update_fields=["state", "updated_at"])
        if not issue.entries.exists():
            composing.daily_queue(publication).append(issue)
        placed.append(issue)
    return placed, refused


@transaction.atomic
def cover(publication: Publication, first: date, last: date) -> list[Span]:
    """Let the reserve cover these dates, but for those that are fixed or that an announced break takes.

    Return what it covers of them then. Raises ValidationError.
    """
    Publication.objects.select_for_update().get(pk=publication.pk)
    Break(publication=publication, kind=Break.Kind.RESERVE, first=first, last=last).full_clean()
    fixed = (date.min, fixed_until(publication))
    covered = without([(first, last)], fixed, *spans(publication, Break.Kind.SILENCE))
    for begin, end in without(covered, *spans(publication, Break.Kind.RESERVE)):
        Break.objects.create(publication=publication, kind=Break.Kind.RESERVE, first=begin, last=end)
    return covered


def spans(publication: Publication, kind: str) -> list[Span]:
    return list(publication.breaks.filter(kind=kind).values_list("first", "last"))


def without(dates: list[Span], *others: Span) -> list[Span]:
    """Return spans of dates without those that others hold."""
    for begin, end in others:
        before = [(first, min(last, begin - clock.ONE_DAY)) for first, last in dates if first < begin]
        dates = before + [(max(first, end + clock.ONE_DAY), last) for first, last in dates if last > end]
    return sorted(dates)


@transaction.atomic
def announce(rest: Break) -> None:
    """Promise nothing on the dates of a break, and tell the readers, once."""
    Publication.objects.select_for_update().get(pk=rest.publication_id)
    same = Break.objects.filter(publication=rest.publication, kind=rest.kind, first=rest.first, last=rest.last)
    if not same.exists():
        rest.save()


@transaction.atomic
def take_back(publication: Publication, pk: int, now: datetime) -> date | None:
    """End a break; dates that have begun in some zone stay at rest. Return the first date promised again, or None.

    Readers who have not been told of it yet never will be.
    """
    Publication.objects.select_for_update().get(pk=publication.pk)
    rest = publication.breaks.filter(pk=pk).first()
    begun = begun_until(publication)
    if rest is None or rest.last <= begun:
        return None
    if rest.announcement_id and begun < rest.first:
        waiting = Delivery.objects.filter(issue=rest.announcement_id, state__in=OPEN)
        waiting.update(state=State.SKIPPED, reason="withdrawn", settled_at=now, owner=None, leased_until=None)
    again = max(rest.first, begun + clock.ONE_DAY)
    if begun < rest.first:
        rest.delete()
    else:
        rest.last = begun
        rest.save(update_fields=["last"])
    return again


def begun_until(publication: Publication) -> date:
    """Return the latest date that is fixed, or that some zone's clock has struck."""
    return max(fixed_until(publication), publication.clocks.aggregate(last=Max("last_date"))["last"] or date.min)


def fixed_until(publication: Publication) -> date:
    return publication.days.aggregate(last=Max("date"))["last"] or date.min


def bring_in(publication: Publication, cleaned: dict[str, Any], guard: Guard | None = None) -> tuple[Report, int]:
    """Import articles and queue the issues made of them; return the report and how many are queued.

    Raises ReadError. Only a web address or an uploaded file is read: never a path of this machine.
    """
    with uploaded(publication, cleaned["file"]) as path:
        report = import_articles(publication, path or cleaned["address"], guard=guard)
    issues = composing.compose_into(target(publication, cleaned["place"]), report.articles, cleaned["way"])
    return report, len(issues)


def target(publication: Publication, place: str) -> Series:
    if place == "daily":
        return composing.daily_queue(publication)
    first = publication.series.filter(kind=Series.Kind.SEQUENCE).order_by("-welcome", "pk").first()
    with translation.override(publication.language):
        return first or composing.sequence(publication, _("welcome"))


@contextmanager
def uploaded(publication: Publication, file: "UploadedFile[Any] | None") -> Any:
    """Lay an uploaded file where the importer can read it, under the same name each time, and take it away again.

    An article without address is known again by its source, which is the file's name.
    """
    if file is None:
        yield ""
        return
    folder = settings.DATA_DIR / "imports" / str(publication.pk)
    folder.mkdir(parents=True, exist_ok=True)
    path: Path = folder / get_valid_filename(Path(file.name or "file").name)
    with path.open("wb") as copy:
        copy.writelines(file.chunks())
    try:
        yield str(path)
    except ReadError as error:
        text = _("This file is neither a feed, nor a WordPress export, nor a text. Choose another.")
        raise ReadError(text) from error
    finally:
        path.unlink(missing_ok=True)
