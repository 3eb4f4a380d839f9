"""The pages that state the promise and take an address. No cookie is read or set."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast

from csp.decorators import csp_replace
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.clickjacking import xframe_options_exempt
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_safe

from newsletters import clock, markup, notices
from newsletters.addresses import Address, mailbox_key
from newsletters.links import Purpose, seal
from newsletters.models import Publication
from newsletters.models.subscriber import keyed_hash
from optin import confirmation, guard, wording
from optin.forms import JoinForm
from optin.models import OptInPage
from optin.views.shared import asker, see, show

PageView = Callable[[HttpRequest, str, str], HttpResponse]

# Whoever tricks a visitor into pressing the button of a frame gets no address by it.
frameable = cast("Callable[[PageView], PageView]", csp_replace({"frame-ancestors": ["*"]}))
pages = OptInPage.objects.select_related("publication", "sample")


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """List what is published here, or go straight to the only publication."""
    publications = Publication.objects.filter(pages__isnull=False).distinct().order_by("name")
    if len(publications) == 1:
        return redirect("main_page", publications[0].slug)
    return render(request, "optin/home.html", {"publications": publications})


@csrf_exempt
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def main_page(request: HttpRequest, slug: str) -> HttpResponse:
    page = pages.filter(publication__slug=slug).order_by("-main", "pk").first()
    if page is None:
        raise Http404
    return join(request, page, "optin/page.html", shown_at="/", thanks=f"join/{page.slug}/thanks/")


@csrf_exempt
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def page(request: HttpRequest, slug: str, name: str) -> HttpResponse:
    page = get_object_or_404(pages, publication__slug=slug, slug=name)
    return join(request, page, "optin/page.html", shown_at=f"/join/{page.slug}/", thanks="thanks/")


@csrf_exempt
@never_cache
@xframe_options_exempt
@frameable
@require_http_methods(["GET", "HEAD", "POST"])
def embed(request: HttpRequest, slug: str, name: str) -> HttpResponse:
    """Show the bare form, for a frame on any site."""
    page = get_object_or_404(pages, publication__slug=slug, slug=name)
    return join(request, page, "optin/embed.html", shown_at=f"/join/{page.slug}/embed/", thanks="../thanks/")


def join(request: HttpRequest, page: OptInPage, template: str, shown_at: str, thanks: str) -> HttpResponse:
    words = wording.consent(page)
    form = JoinForm(page, words, request.POST if request.method == "POST" else None)
    if not form.is_valid():
        return show(request, template, page, 422 if form.is_bound else 200, form=form, **texts(page, words))
    email, now = form.cleaned_data["email"], timezone.now()
    if (back := back_at(request, page, email)) is not None:
        return too_many(request, page, back)
    asked = confirmation.ask(
        page,
        email,
        words,
        page.publication.root + shown_at,
        asker(request),
        now,
        first_name=form.cleaned_data["first_name"],
        zone=form.cleaned_data["zone"],
    )
    return see(request, f"{thanks}{seal(Purpose.THANKS, asked.pk)}/")


def texts(page: OptInPage, words: str) -> dict[str, Any]:
    today = clock.local_date(timezone.now(), page.publication.zone)
    return {
        "promise": wording.promise(page),
        "silence": notices.silence(page.publication, today),
        "today": today,
        "consent": words,
        "button": wording.button(page),
        "introduction": markup.html(page.introduction),
        "finds": wording.finds(page),
        "sample": wording.sample(page.sample),
        "about": markup.html(page.about),
        "questions": wording.questions(page),
    }


def back_at(request: HttpRequest, page: OptInPage, email: Address) -> timedelta | None:
    """Return how long this visitor must wait, or None."""
    now = timezone.now()
    mailbox = keyed_hash(mailbox_key(email.address))
    back = guard.back_at(page, mailbox, asker(request).network_hash, now)
    return back - now if back else None


def too_many(request: HttpRequest, page: OptInPage, wait: timedelta) -> HttpResponse:
    """Say when to come back (RFC 6585 section 4)."""
    response = show(request, "429.html", page, 429, minutes=wait.seconds // 60 + 1)
    response["Retry-After"] = str(wait.seconds + 1)
    return response
