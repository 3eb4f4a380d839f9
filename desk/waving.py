"""The calendar of the readers who enter in waves."""

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods

from desk.walls import room
from newsletters import clock, waves

WIDTH, HEIGHT = 640, 160


@room
@require_http_methods(["GET", "POST"])
def calendar(request: HttpRequest, publication: Any) -> HttpResponse:
    now = timezone.now()
    if request.method == "POST":
        number = sum(wave for _day, wave in waves.enter(publication, now))
        text = ngettext("%(number)d reader has a date.", "%(number)d readers have a date.", number)
        messages.success(request, text % {"number": number})
        return redirect("desk:waves", publication.slug)
    rows = waves.shown(publication, clock.local_date(now, publication.zone))
    context = {
        "publication": publication,
        "waves": rows,
        "total": sum(wave.readers for wave in rows),
        "waiting": waves.to_enter(publication).count(),
        "stair": waves.stair(rows, WIDTH, HEIGHT),
    }
    return render(request, "desk/waves.html", context)
