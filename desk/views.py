"""The rooms of the desk. A page only shows; every change is a form that posts, and leads back to the page."""

from datetime import date
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone, translation
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from desk import acts, today, walls
from desk.forms import BreakForm, ImportForm
from desk.walls import room
from newsletters import dates, drift, rendering
from newsletters.articles import ReadError
from newsletters.models import Issue
from newsletters.views.frame import SANDBOX, framed


@never_cache
@login_required
@require_GET
def rooms(request: HttpRequest) -> HttpResponse:
    """List the user's publications, or go straight to the only one."""
    own = list(walls.publications(request))
    if len(own) == 1:
        return redirect("desk:today", own[0].slug)
    return render(request, "desk/rooms.html", {"publications": own})


@room
@require_GET
def show_today(request: HttpRequest, publication: Any) -> HttpResponse:
    if not publication.has_articles and not publication.has_issues:
        return render(request, "desk/first.html", {"publication": publication, "form": ImportForm(), "room": "today"})
    context = today.facts(publication, timezone.now())
    free_on = context["ledger"].free_on
    context["break_form"] = BreakForm(publication, initial={"first": free_on, "last": free_on})
    return render(request, "desk/today.html", context)


@room
@require_POST
def place(request: HttpRequest, publication: Any) -> HttpResponse:
    keys = [int(key) for key in request.POST.getlist("issue") if key.isdecimal() and len(key) < 19]
    placed, refused = acts.place(publication, keys)
    for sentence in refused:
        messages.error(request, sentence)
    if len(placed) == 1:
        messages.success(request, _("“%(subject)s” is queued.") % {"subject": placed[0].subject})
    elif placed:
        text = ngettext("%(number)d issue is queued.", "%(number)d issues are queued.", len(placed))
        messages.success(request, text % {"number": len(placed)})
    elif not refused:
        messages.success(request, _("There was nothing left to queue."))
    return redirect("desk:today", publication.slug)


@room
@require_POST
def cover(request: HttpRequest, publication: Any) -> HttpResponse:
    try:
        first, last = (date.fromisoformat(request.POST.get(name, "")) for name in ("first", "last"))
        spans = acts.cover(publication, first, last)
    except ValidationError as error:
        messages.error(request, " ".join(error.messages))
    except ValueError:
        messages.error(request, _("These dates cannot be read. Load the page anew and press the button again."))
    else:
        for span in spans:
            messages.success(request, _("The reserve covers %(first)s to %(last)s.") % spoken(*span))
        if not spans:
            messages.success(request, _("There was nothing left to cover."))
    return redirect("desk:today", publication.slug)


@room
@require_http_methods(["GET", "POST"])
def announce(request: HttpRequest, publication: Any) -> HttpResponse:
    form = BreakForm(publication, request.POST or None)
    if not form.is_valid():
        context = {"publication": publication, "form": form}
        return render(request, "desk/break.html", context, status=422 if form.is_bound else 200)
    acts.announce(form.rest)
    eve = dates.day(form.rest.eve, translation.get_language() or "en")
    words = spoken(form.rest.first, form.rest.last) | {"eve": eve}
    text = _("No email from %(first)s to %(last)s. Your readers are told with the email of %(eve)s.")
    messages.success(request, text % words)
    return redirect("desk:today", publication.slug)


@room
@require_POST
def take_back(request: HttpRequest, publication: Any, pk: int) -> HttpResponse:
    """End a break, or take it back before it begins."""
    told = publication.breaks.filter(pk=pk).exclude(announced_at=None).exists()
    again = acts.take_back(publication, pk, timezone.now())
    if again:
        day = dates.day(again, translation.get_language() or "en")
        messages.success(request, _("The break is over: the queue goes on from %(day)s.") % {"day": day})
        if told:
            messages.warning(request, _("Readers had been told of it. Say in your next email that you are back."))
    return redirect("desk:today", publication.slug)


@room
@require_http_methods(["GET", "POST"])
def bring_in(request: HttpRequest, publication: Any) -> HttpResponse:
    form = ImportForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid():
        try:
            report, queued = acts.bring_in(publication, form.cleaned_data)
        except ReadError as error:
            form.add_error("file" if form.cleaned_data["file"] else "address", str(error))
        else:
            for note in report.notes[:20]:
                messages.warning(request, note)
            messages.success(request, brought_in(len(report.articles), queued))
            return redirect("desk:today", publication.slug)
    context = {"publication": publication, "form": form, "room": "import"}
    return render(request, "desk/import.html", context, status=422 if form.is_bound else 200)


def brought_in(articles: int, queued: int) -> str:
    read = ngettext("%(number)d article read", "%(number)d articles read", articles) % {"number": articles}
    emails = ngettext("%(number)d email queued", "%(number)d emails queued", queued) % {"number": queued}
    return _("%(read)s, %(queued)s.") % {"read": read, "queued": emails}


@room
@require_http_methods(["GET", "POST"])
def compare(request: HttpRequest, publication: Any, pk: int) -> HttpResponse:
    """Show an issue beside what its article says now; take the new text, or keep the old."""
    issue = get_object_or_404(drift.flagged(publication).distinct(), pk=pk)
    if request.method == "POST":
        if "take" in request.POST:
            drift.take_new(issue)
            messages.success(request, _("“%(subject)s” has the article’s new text.") % {"subject": issue.subject})
        elif "keep" in request.POST:
            drift.keep_old(issue)
            messages.success(request, _("“%(subject)s” stays as it was.") % {"subject": issue.subject})
        return redirect("desk:today", publication.slug)
    context = {"publication": publication, "issue": issue, "drift": drift.of(issue)}
    return render(request, "desk/compare.html", context)


@room
@require_GET
def issue(request: HttpRequest, publication: Any, pk: int) -> HttpResponse:
    """Show an issue as a reader without a name gets it."""
    issue = issue_or_404(publication, pk)
    _html, text, warnings = rendering.preview(issue)
    context = {"publication": publication, "issue": issue, "text": text, "warnings": warnings, "sandbox": SANDBOX}
    return render(request, "desk/issue.html", context)


@room
@require_GET
def issue_html(request: HttpRequest, publication: Any, pk: int) -> HttpResponse:
    return framed(rendering.preview(issue_or_404(publication, pk))[0])


def issue_or_404(publication: Any, pk: int) -> Issue:
    return get_object_or_404(Issue.objects.select_related("publication"), publication=publication, pk=pk)


def spoken(first: date, last: date) -> dict[str, str]:
    language = translation.get_language() or "en"
    return {"first": dates.day(first, language), "last": dates.day(last, language)}
