"""What the public pages share: the publication's language, and the manners of a page behind a token."""

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import translation
from django.views.decorators.csrf import csrf_exempt

from newsletters import clock, notices, pace
from newsletters.addresses import masked
from newsletters.links import BadToken, Purpose, seal, unseal
from newsletters.models import Publication, Subscriber
from newsletters.models.subscriber import UNDO_WINDOW

TokenView = Callable[[HttpRequest, str], HttpResponse]

Status = Subscriber.Status
MEMBER = {Status.ACTIVE, Status.PAUSED}
ENDED = {Status.UNSUBSCRIBED, Status.BOUNCED, Status.COMPLAINED}


def show(
    request: HttpRequest, publication: Publication, template: str, context: Mapping[str, Any], status: int = 200
) -> HttpResponse:
    """Answer with a page of a publication, in its language."""
    with translation.override(publication.language):
        everything = {"publication": publication, **context}
        response = render(request, f"newsletters/{template}.html", everything, status=status)
    response["Content-Language"] = publication.language
    return response


def token_page(view: TokenView) -> TokenView:
    """Guard a page whose only key is the token in its address.

    No cookie is read or set: the token is what another site cannot know, so there is nothing for it to forge.
    """

    @csrf_exempt
    @unlisted
    @wraps(view)
    def answer(request: HttpRequest, token: str) -> HttpResponse:
        try:
            # Whatever language a view speaks, it speaks it no longer than that.
            with translation.override(translation.get_language()):
                response = view(request, token)
        except BadToken:
            response = render(request, "newsletters/bad_link.html", status=404)
        return response

    return answer


def unlisted(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Keep a page behind a token out of indexes, caches and other sites' logs."""

    @wraps(view)
    def answer(*args: Any, **kwargs: Any) -> HttpResponse:
        response = view(*args, **kwargs)
        response["X-Robots-Tag"] = "noindex, nofollow"
        response["Referrer-Policy"] = "no-referrer"
        response["Cache-Control"] = "no-store"
        return response

    return answer


def reader_of(purpose: Purpose, token: str) -> Subscriber | None:
    """Return the reader a token was made for, or None after an erasure, and speak their publication's language.

    Raises BadToken.
    """
    reader = Subscriber.objects.select_related("publication").filter(pk=unseal(purpose, token).number).first()
    if reader:
        translation.activate(reader.publication.language)
    return reader


def gone(request: HttpRequest) -> HttpResponse:
    """Say that nothing is left to leave or to set: a link from a mail that outlived its reader's erasure."""
    return render(request, "newsletters/gone.html")


def facts(reader: Subscriber, now: datetime) -> dict[str, Any]:
    """Return what the pages say of a reader: masked address, local date, next promise, what can be undone."""
    today = clock.local_date(now, reader.zone)
    return {
        "reader": reader,
        "masked": masked(reader.address),
        "member": reader.status in MEMBER,
        "today": today,
        "next_date": pace.next_date(reader, now),
        "silence": notices.silence(reader.publication, today),
        "offer": notices.offer(reader, today),
        "undoable": undoable(reader, now),
        "preferences": f"/reader/{seal(Purpose.READER, reader.pk)}/",
    }


def undoable(reader: Subscriber, now: datetime) -> bool:
    """Tell whether a departure can be taken back: within the hour, and by someone who had confirmed."""
    left_at = reader.left_at if reader.status == Status.UNSUBSCRIBED and reader.member_since else None
    return left_at is not None and left_at > now - UNDO_WINDOW
