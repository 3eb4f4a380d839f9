"""Stopping a send from the desk, seeing who has the issue and who has not, and deciding."""

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from desk.walls import room
from newsletters import halt, tasks
from newsletters.bounces import breaker
from newsletters.models import Halt, Issue

SHOWN = 50
OFFERED = 100


@room
@require_POST
def stop(request: HttpRequest, publication: Any) -> HttpResponse:
    number = request.POST.get("issue", "")
    key = int(number) if number.isdecimal() and len(number) < 19 else 0
    issue = get_object_or_404(Issue, publication=publication, pk=key)
    halt.stop(issue, timezone.now(), request.user)
    messages.success(request, _("“%(subject)s” is stopped. Decide when you have looked.") % {"subject": issue.subject})
    return redirect("desk:decide", publication.slug, issue.pk)


@room
@require_POST
def go_on(request: HttpRequest, publication: Any) -> HttpResponse:
    """Let the emails go on that were held because of what came back."""
    if breaker.go_on(publication, timezone.now()):
        tasks.wake()
        messages.success(request, _("Your emails go on."))
    return redirect("desk:today", publication.slug)


@room
@require_http_methods(["GET", "POST"])
def decide(request: HttpRequest, publication: Any, pk: int) -> HttpResponse:
    """Show how a stopped issue stands; go on, send another instead, or leave it."""
    found = Halt.objects.filter(issue=pk, issue__publication=publication).select_related("issue").order_by("-at")
    standing = get_object_or_404(found[:1])
    if request.method == "POST":
        return act(request, publication, standing)
    others = publication.issues.filter(kind=Issue.Kind.DAILY, days=None).exclude(pk=pk).order_by("-updated_at")
    without = request.GET.get("list") != "have"
    rows, more = page(request, halt.have_not(standing.issue) if without else halt.have(standing.issue))
    context = {
        "publication": publication,
        "halt": standing,
        "figures": halt.figures(standing.issue),
        "others": others.defer("body")[:OFFERED],
        "without": without,
        "rows": rows,
        "more": more,
    }
    return render(request, "desk/stopped.html", context)


def act(request: HttpRequest, publication: Any, standing: Halt) -> HttpResponse:
    subject, now = {"subject": standing.issue.subject}, timezone.now()
    if "go_on" in request.POST and halt.go_on(standing, now):
        messages.success(request, _("“%(subject)s” goes on.") % subject)
    elif "leave" in request.POST and halt.leave(standing, now):
        messages.success(request, _("“%(subject)s” goes to nobody more; it is a draft again.") % subject)
    elif "instead" in request.POST:
        number = request.POST["instead"]
        other = get_object_or_404(publication.issues, pk=int(number) if number.isdecimal() and len(number) < 19 else 0)
        try:
            if halt.instead(standing, other, now):
                messages.success(request, _("“%(subject)s” goes out instead.") % {"subject": other.subject})
        except halt.CannotDecide as error:
            messages.error(request, str(error))
            return redirect("desk:decide", publication.slug, standing.issue_id)
    else:
        return redirect("desk:decide", publication.slug, standing.issue_id)
    return redirect("desk:today", publication.slug)


def page(request: HttpRequest, rows: Any) -> tuple[list[Any], int | None]:
    """Return some deliveries after a reader's number, and the number to go on from; nothing is counted."""
    after = request.GET.get("after", "")
    if after.isdecimal() and len(after) < 19:
        rows = rows.filter(subscriber_id__gt=int(after))
    found = list(rows[: SHOWN + 1])
    return found[:SHOWN], found[SHOWN - 1].subscriber_id if len(found) > SHOWN else None
