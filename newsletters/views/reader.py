"""A reader's own page. The link may have been forwarded with a mail, so it only ever takes less."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta

from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from newsletters import clock, letters, notices, personal, tasks
from newsletters.forms import PaceForm
from newsletters.links import Purpose
from newsletters.models import Delivery, Issue, Letter, Subscriber
from newsletters.models.outgoing import HAD, OPEN, State
from newsletters.views.pages import MEMBER, facts, gone, reader_of, show, token_page, undoable

MORNINGS = 30


@token_page
def reader(request: HttpRequest, token: str) -> HttpResponse:
    reader = reader_of(Purpose.READER, token)
    if reader is None:
        return gone(request)
    now = timezone.now()
    if "leave" in request.POST:
        reader.leave(now)
    elif "undo" in request.POST and undoable(reader, now):
        reader.undo_leave(now)
    elif "data" in request.POST:
        mail_access(reader, now)
    elif "keep" in request.POST and (offer := notices.offer(reader, clock.local_date(now, reader.zone))):
        reader.keep_pace(offer.before)
        return page(request, reader, now, saved=True)
    elif "save" in request.POST:
        return save(request, reader, now)
    return page(request, reader, now, mailed="data" in request.POST)


def save(request: HttpRequest, reader: Subscriber, now: datetime) -> HttpResponse:
    form = PaceForm(reader, now, request.POST)
    if reader.status not in MEMBER or not form.is_valid():
        return page(request, reader, now, form=form)
    if form.cleaned_data["zone"] != reader.zone:
        reader.move(form.cleaned_data["zone"], now)
    match form.cleaned_data["pace"]:
        case form.PAUSE:
            reader.pause(form.cleaned_data["until"], now)
        case form.WEEKLY:
            reader.receive_weekly(form.cleaned_data["weekday"])
        case form.DAILY:
            reader.receive_daily()
        case form.OWN:
            reader.resume()
    return page(request, reader, now, saved=True)


def page(
    request: HttpRequest, reader: Subscriber, now: datetime, form: PaceForm | None = None, **said: bool
) -> HttpResponse:
    days = mornings(reader, clock.local_date(now, reader.zone))
    context = facts(reader, now) | said
    context |= {"mornings": days, "had": [one for one in reversed(days) if one.kind == "had"]}
    return show(request, reader.publication, "reader", context | {"form": form or PaceForm(reader, now)})


def mail_access(reader: Subscriber, now: datetime) -> None:
    """Mail a link to one's data, at most one in an hour of the clock: it opens for an hour."""
    with transaction.atomic():
        letters.write(
            reader.publication,
            Letter.Kind.ACCESS,
            reader.address,
            f"{reader.pk} {now:%Y-%m-%dT%H}",
            language=reader.publication.language,
            subscriber=reader,
            context={"subscriber": reader.pk, "minute": letters.minute(now)},
            now=now,
        )
        tasks.wake()


@dataclass(frozen=True, slots=True)
class Morning:
    """One of the last mornings: `kind` is had, open (nothing came, or not yet) or miss."""

    date: date
    kind: str
    subject: str
    archived: str
    x: int


def mornings(reader: Subscriber, today: date) -> list[Morning]:
    """Return the last thirty local dates, the oldest first, each with what came."""
    days = [today - timedelta(days=back) for back in range(MORNINGS - 1, -1, -1)]
    # The key begins with the date, so this is one look-up a day however long the table grows.
    rows = Delivery.objects.filter(local_date__in=days, subscriber=reader, slot=0).select_related("issue")
    had = {row.local_date: row for row in rows}
    return [morning(day, had.get(day), 9 * number) for number, day in enumerate(days)]


def morning(day: date, row: Delivery | None, x: int) -> Morning:
    if row is None or row.state in OPEN or row.state == State.SKIPPED:
        return Morning(day, "open", "", "", x)
    if row.state not in HAD or row.issue is None:
        return Morning(day, "miss", "", "", x)
    archived = row.issue.public_id if row.issue.state in {Issue.State.QUEUED, Issue.State.SENT} else ""
    return Morning(day, "had", personal.spoken(row.issue.subject, {}), archived, x)
