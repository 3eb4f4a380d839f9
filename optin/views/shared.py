"""What the opt-in pages share: the publication's language and words, its colour, its pictures."""

from typing import Any
from urllib.parse import urljoin

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase, HttpResponseRedirectBase
from django.shortcuts import render
from django.utils import translation
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe
from django.views.static import serve

from optin.guard import Asker
from optin.models import OptInPage

AGES = 365 * 24 * 3600


class SeeOther(HttpResponseRedirectBase):
    """The answer to a POST stands elsewhere, for a GET (RFC 9110 section 15.4.4)."""

    status_code = 303


def show(request: HttpRequest, template: str, page: OptInPage, status: int = 200, **context: Any) -> HttpResponse:
    """Answer with a page of a publication, in its language."""
    publication = page.publication
    with translation.override(publication.language):
        context |= {"publication": publication, "page": page}
        response = render(request, template, context, status=status)
    response["Content-Language"] = publication.language
    return response


def see(request: HttpRequest, address: str) -> HttpResponse:
    """Answer a POST with the path to look at next, given from this one's.

    A publication's own host leaves its name out of its paths, and form-action forbids another host.
    """
    return SeeOther(urljoin(request.path, address))


def asker(request: HttpRequest) -> Asker:
    return Asker.of(request.META.get("REMOTE_ADDR", ""), request.META.get("HTTP_USER_AGENT", ""))


@require_safe
@cache_control(public=True, max_age=AGES, immutable=True)
def accent(request: HttpRequest, colour: str) -> HttpResponse:
    """Set a publication's colour: an inline style would need a hole in the content security policy."""
    return HttpResponse(f":root {{ --accent: #{colour}; }}\n", content_type="text/css")


@require_safe
@cache_control(public=True, max_age=AGES)
def image(request: HttpRequest, name: str) -> HttpResponseBase:
    """Serve a picture of an opt-in page."""
    return serve(request, name, document_root=str(settings.MEDIA_ROOT))
