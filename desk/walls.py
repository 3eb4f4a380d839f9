"""Who may enter which room: every view behind the desk's login starts here, and no query leaves its publication."""

from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import Any

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Exists, F, OuterRef, Prefetch, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.utils import timezone
from django.views.decorators.cache import never_cache

from newsletters.models import (
    Alarm,
    Article,
    Break,
    Entry,
    Halt,
    Issue,
    Member,
    PromiseChange,
    Publication,
    Series,
    StepsAhead,
    Stop,
    Subscriber,
    Wave,
)

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
    short = Alarm.objects.filter(publication=OuterRef("pk"), cause="limit", cleared_at=None)
    short = short.filter(date__gte=timezone.now().date() - timedelta(days=1))
    held = Alarm.objects.filter(publication=OuterRef("pk"), cause__startswith="stop_", cleared_at=None)
    halted = Halt.objects.standing().filter(issue__publication=OuterRef("pk"))
    counted = reserve.order_by().values("series__publication").annotate(number=Count("*")).values("number")
    ahead = StepsAhead.objects.filter(publication=OuterRef("pk"))
    return own.annotate(
        has_articles=Exists(Article.objects.filter(publication=OuterRef("pk"))),
        has_issues=Exists(Issue.objects.filter(publication=OuterRef("pk"))),
        reserve=Subquery(counted),
        ahead=Subquery(ahead.values("counts")),
        short=Subquery(short.order_by("-raised_at").values("text")[:1]),
        held=Exists(Stop.objects.standing().filter(publication=OuterRef("pk"))),
        held_for=Subquery(held.order_by("-raised_at").values("text")[:1]),
        halted=Subquery(halted.order_by("-at").values("issue")[:1]),
        to_enter=Exists(Subscriber.objects.filter(publication=OuterRef("pk"), status="active", member_since=None)),
        in_waves=Exists(Wave.objects.filter(publication=OuterRef("pk"), date__gte=timezone.now().date())),
    ).prefetch_related(
        Prefetch("promise_changes", PromiseChange.objects.order_by("first")),
        Prefetch("breaks", Break.objects.order_by("first")),
    )
