"""Who may enter which room: every view behind the desk's login starts here, and no query leaves its publication."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Exists, F, OuterRef, Prefetch, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.cache import never_cache

from newsletters.models import Alarm, Article, Break, Entry, Issue, Member, PromiseChange, Publication, Series

Room = Callable[..., HttpResponse]


def publications(request: HttpRequest) -> QuerySet[Publication]:
    """Return what a user may enter. Superusers too need a membership, which the admin gives them."""
    own = Publication.objects.for_user(request.user)
    return own.annotate(role=F("members__role")).order_by("name")


def room(view: Room) -> Room:
    """Open a room to the members of its publication; to anyone else it does not exist. A viewer changes nothing."""

    @never_cache
    @login_required
    @wraps(view)
    def answer(request: HttpRequest, slug: str, **path: Any) -> HttpResponse:
        publication: Any = get_object_or_404(described(publications(request)), slug=slug)
        publication.editable = publication.role != Member.Role.VIEWER
        if request.method == "POST" and not publication.editable:
            raise PermissionDenied
        response = view(request, publication, **path)
        response["X-Robots-Tag"] = "noindex, nofollow"
        return response

    return answer


def described(own: QuerySet[Publication]) -> QuerySet[Publication]:
    """Add what every room tells of its publication: three queries in all, however long its list is."""
    reserve = Entry.objects.filter(
        series__publication=OuterRef("pk"), series__kind=Series.Kind.RESERVE, issue__state=Issue.State.QUEUED
    )
    low = Alarm.objects.filter(publication=OuterRef("pk"), cause__startswith="runway", cleared_at=None)
    counted = reserve.order_by().values("series__publication").annotate(number=Count("*")).values("number")
    return own.annotate(
        has_articles=Exists(Article.objects.filter(publication=OuterRef("pk"))),
        has_issues=Exists(Issue.objects.filter(publication=OuterRef("pk"))),
        reserve=Subquery(counted),
        alarm=Subquery(low.order_by("-raised_at").values("text")[:1]),
    ).prefetch_related(
        Prefetch("promise_changes", PromiseChange.objects.order_by("first")),
        Prefetch("breaks", Break.objects.order_by("first")),
    )
