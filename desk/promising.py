"""What a promise costs, and making another: how far the texts at hand reach at each rhythm, drawn in weeks."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from desk.forms import PromiseForm
from desk.walls import room
from newsletters import clock, costs, dates, notices
from newsletters.models import PromiseChange, Publication

# One stroke a week, a year at most
WEEKS, STEP = 52, 3


@dataclass(frozen=True, slots=True)
class Row:
    """One promise: its rhythm and reach in words, and two paths of strokes, the weeks covered and the rest of a year.

    `is_best` marks the one to make, `is_ours` the one that holds.
    """

    weekdays: str
    rhythm: str
    emails: int
    lasts: str
    covered: str
    open: str
    is_best: bool
    is_ours: bool


def row(reach: costs.Reach, best: costs.Reach | None, ours: str) -> Row:
    weeks = WEEKS if reach.days is None else min(WEEKS, -(-reach.days // 7))
    edge = weeks * STEP
    return Row(
        weekdays=reach.weekdays,
        rhythm=costs.rhythm(reach, get_language() or "en"),
        emails=reach.emails,
        lasts=costs.span(reach.days),
        covered=f"M0 8h{edge}" if weeks else "",
        open=f"M{edge} 8h{WEEKS * STEP - edge}" if weeks < WEEKS else "",
        is_best=reach == best,
        is_ours="".join(sorted(reach.weekdays)) == "".join(sorted(ours)),
    )


@room
@require_http_methods(["GET", "POST"])
def promise(request: HttpRequest, publication: Publication) -> HttpResponse:
    """Show what each promise costs; a POST changes the promise from a date on."""
    now = timezone.now()
    change = PromiseChange(publication=publication)
    form = PromiseForm(request.POST or None, instance=change, initial=proposed(request, publication, now))
    if form.is_valid():
        notices.save_change(form.save(commit=False), now)
        messages.success(request, said(change))
        return redirect("desk:promise", publication.slug)
    stock = costs.stock(publication, now)
    best = costs.recommended(stock)
    today = clock.local_date(now, publication.zone)
    context = {
        "room": "promise",
        "publication": publication,
        "holds": publication.promise_on(today),
        "rows": [row(reach, best, publication.weekdays) for reach in costs.reaches(stock)] if stock.texts else [],
        "advice": costs.advice(stock, get_language() or "en"),
        "stock": stock,
        "best": best,
        "changes": [one for one in publication.promise_changes.all() if one.first > today and one.applied_at is None],
        "form": form,
    }
    return render(request, "desk/promise.html", context, status=422 if form.is_bound else 200)


def proposed(request: HttpRequest, publication: Publication, now: datetime) -> dict[str, Any]:
    """Return what the form holds at first: today's promise, on the days that a link proposes, from the soonest date."""
    asked = request.GET.get("days", "")
    days = asked if asked and set(asked) <= set("1234567") else publication.weekdays
    more = set(days) - set(publication.weekdays)
    first = clock.local_date(now, publication.zone) + (timedelta(days=8) if more else clock.ONE_DAY)
    return {"first": first, "hour": publication.hour, "late_until": publication.late_until, "weekdays": list(days)}


def said(change: PromiseChange) -> str:
    language = get_language() or "en"
    words = {
        "first": dates.day(change.first, language),
        "days": dates.weekdays(change.weekdays, language),
        "hour": dates.hour(change.hour, language),
    }
    text = _("From %(first)s on you promise an email %(days)s, at %(hour)s.") % words
    return f"{text} {_('Your readers are told a week ahead.')}" if change.adds_days else text


@room
@require_POST
def drop(request: HttpRequest, publication: Any, pk: int) -> HttpResponse:
    """Take back a change of the promise that does not hold yet."""
    today = clock.local_date(timezone.now(), publication.zone)
    change = PromiseChange.objects.filter(publication=publication, pk=pk, applied_at=None, first__gt=today).first()
    if change:
        notices.drop_change(change, timezone.now())
        messages.success(request, _("The promise stays as it is."))
    return redirect("desk:promise", publication.slug)
