"""What anyone may read: the issues that went out to everyone, one issue, and what becomes of one's address."""

from datetime import date

from django.db import models
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.utils import timezone
from django.utils.dateparse import parse_date

from newsletters import markup, personal
from newsletters.models import Day, Issue, Publication
from newsletters.views.pages import show

A_PAGE = 30
PUBLIC = (Issue.State.QUEUED, Issue.State.SENT)


def archive(request: HttpRequest, slug: str) -> HttpResponse:
    """List the daily issues of past dates, the newest first; ?before=DATE goes on from there."""
    publication = get_object_or_404(Publication, slug=slug)
    days = went_out(publication)
    if before := day_of(request.GET.get("before", "")):
        days = days.filter(date__lt=before)
    some = list(days.order_by("-date").select_related("issue")[: A_PAGE + 1])
    listed = [(day, personal.spoken(day.issue.subject, {}), day.issue.public_id) for day in some[:A_PAGE] if day.issue]
    older = some[A_PAGE - 1].date if some[A_PAGE:] else None
    return show(request, publication, "archive", {"days": listed, "older": older})


def went_out(publication: Publication) -> "models.QuerySet[Day]":
    return Day.objects.filter(publication=publication, issue__state__in=PUBLIC, fixed_at__lte=timezone.now())


def day_of(text: str) -> date | None:
    try:
        return parse_date(text)
    except ValueError:
        return None


def issue(request: HttpRequest, slug: str, public_id: str) -> HttpResponse:
    """Show one issue as its next reader would get it, without any name."""
    publication = get_object_or_404(Publication, slug=slug)
    issue = get_object_or_404(Issue, publication=publication, public_id=public_id, state__in=PUBLIC)
    day = went_out(publication).filter(issue=issue).first()
    words = {"subject": personal.spoken(issue.subject, {}), "html": markup.html(issue.body, issue.canonical_url)}
    response = show(request, publication, "issue", {"issue": issue, "day": day} | words)
    if day is None:
        # A step of a sequence, or an issue whose day is still to come, is for its readers and their friends.
        response["X-Robots-Tag"] = "noindex"
    return response


def privacy(request: HttpRequest, slug: str) -> HttpResponse:
    """Show the publication's own words, or the standard ones, on what becomes of an address."""
    publication = get_object_or_404(Publication, slug=slug)
    own = markup.html(publication.privacy) if publication.privacy else ""
    return show(request, publication, "privacy", {"own": own})
