"""The way out: one click from the mail client, or one button on the page."""

from datetime import datetime

from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from newsletters.forms import DigestForm, PauseForm
from newsletters.links import Purpose
from newsletters.models import Subscriber
from newsletters.views.pages import ENDED, MEMBER, facts, gone, reader_of, show, token_page, undoable


@token_page
def leave(request: HttpRequest, token: str) -> HttpResponse:
    reader = reader_of(Purpose.LEAVE, token)
    if reader is None:
        return gone(request)
    now = timezone.now()
    # Scanners fetch every link, and link checkers post too: only a person's button, or the exact body that mail
    # clients send (RFC 8058 section 3.2), counts.
    if "leave" in request.POST or request.POST.get("List-Unsubscribe") == "One-Click":
        reader.leave(now)
    elif "undo" in request.POST and undoable(reader, now) and reader.undo_leave(now):
        return staying(request, reader, now)
    elif "pause" in request.POST:
        return pause(request, reader, now)
    elif "digest" in request.POST:
        return digest(request, reader, now)
    elif "daily" in request.POST and reader.status in MEMBER:
        reader.receive_daily()
        return staying(request, reader, now)
    elif "resume" in request.POST:
        reader.resume()
        return staying(request, reader, now)
    return ask(request, reader, now)


def pause(request: HttpRequest, reader: Subscriber, now: datetime) -> HttpResponse:
    form = PauseForm(reader, now, request.POST)
    if reader.status not in MEMBER or not form.is_valid():
        return ask(request, reader, now, form)
    reader.pause(form.cleaned_data["until"], now)
    return show(request, reader.publication, "paused", facts(reader, now))


def digest(request: HttpRequest, reader: Subscriber, now: datetime) -> HttpResponse:
    form = DigestForm(reader, request.POST)
    if reader.status not in MEMBER or not form.is_valid():
        return ask(request, reader, now)
    reader.receive_weekly(form.cleaned_data["weekday"])
    return staying(request, reader, now)


def ask(request: HttpRequest, reader: Subscriber, now: datetime, form: PauseForm | None = None) -> HttpResponse:
    """Show what this link may do, and do nothing."""
    template = "left" if reader.status in ENDED else "leave"
    context = facts(reader, now) | {"form": form or PauseForm(reader, now), "digest": DigestForm(reader)}
    return show(request, reader.publication, template, context)


def staying(request: HttpRequest, reader: Subscriber, now: datetime) -> HttpResponse:
    return show(request, reader.publication, "left" if reader.status in ENDED else "staying", facts(reader, now))
