"""The days kept, as a picture for any site."""

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone, translation
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe

from newsletters import clock, colour, strokes
from newsletters.models import Publication

# How many days the picture shows
DAYS = 60
# Height of a stroke, and where its middle lies above the common foot; no stylesheet reaches into a picture.
SHAPES = {"": (24, 20.0), "late": (12, 26.0), "miss": (3, 30.5), "today": (28, 18.0)}
STOP, INK = "#a12a1d", "#161c19"


@require_safe
@cache_control(public=True, max_age=3600)
def badge(request: HttpRequest, slug: str) -> HttpResponse:
    """Draw the latest days with the streak beside them; 404 where the author hides it, or before 14 days."""
    publication = get_object_or_404(Publication, slug=slug)
    today = clock.local_date(timezone.now(), publication.zone)
    with translation.override(publication.language):
        streak = strokes.shown(publication, today)
        if streak is None:
            raise Http404
        last = streak.strokes[-DAYS:]
        ink = colour.ink(publication.accent, colour.ON_LIGHT)
        colours = {"today": ink, "miss": STOP}
        lines = [
            (x, width, *SHAPES[name], colours.get(name, INK)) for name, x, width in strokes.runs(last, last[0].date)
        ]
        text_at = 20 + len(last) * strokes.STEP
        # What a serif of 16 pixels takes at most, on average: the picture cannot measure its text.
        width = text_at + 8 * len(streak.line) + 10
        places = {"text_at": text_at, "width": width, "frame": width - 1}
        context = {"publication": publication, "streak": streak, "lines": lines} | places
        response = render(request, "newsletters/badge.svg", context, content_type="image/svg+xml")
    response["Content-Language"] = publication.language
    return response
