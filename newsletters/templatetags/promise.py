"""The days kept, on a public page."""

from django import template
from django.template import Context
from django.utils import timezone

from newsletters import clock, strokes
from newsletters.models import Publication

register = template.Library()


@register.simple_tag(takes_context=True)
def streak(context: Context, publication: Publication) -> strokes.Streak | None:
    """Return what newsletters/streak.html shows, or None: {% streak publication as streak %}. One page asks once."""
    known = context.render_context
    if "streak" not in known:
        known["streak"] = strokes.shown(publication, clock.local_date(timezone.now(), publication.zone))
    found: strokes.Streak | None = known["streak"]
    return found
