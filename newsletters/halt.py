"""Stopping one issue's sending, and what the author decides then: go on, send another issue instead, or leave it.

While a halt stands, no worker takes an email of the issue, and the hand-off lets none pass; a worker in the middle of a
batch stops at its next group. Whatever was prepared is taken out of its hands, so that an issue that was corrected
meanwhile never goes out in its old words.
"""

from collections import Counter
from datetime import date, datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import Q, QuerySet, Sum
from django.utils.translation import gettext as _

from newsletters import cascade, clock, promise, tasks
from newsletters.models import Day, Delivery, Entry, Halt, Issue, Publication, Series, Tally
from newsletters.models.outgoing import HAD, OPEN, State
from newsletters.models.promise import MOVING

NOTICED = timedelta(seconds=10)

INSTEAD = f"""
    UPDATE newsletters_delivery
    SET issue_id = %(other)s, entry_id = NULL, revision_id = NULL, state = 'planned', attempts = 0,
        try_at = CASE WHEN due_at > %(now)s THEN due_at ELSE %(now)s END, reply = '', owner = NULL, leased_until = NULL
    WHERE issue_id = %(issue)s AND state IN ('planned', 'leased', 'retry') AND subscriber_id NOT IN (
        SELECT reader.id FROM newsletters_subscriber reader
        JOIN newsletters_delivery waits ON waits.subscriber_id = reader.id
        WHERE waits.issue_id = %(issue)s AND waits.state IN ('planned', 'leased', 'retry')
            AND {cascade.had("CAST(%(other)s AS bigint)")})
"""


class CannotDecide(Exception):
    """What was decided about a stopped sending cannot be done; the text says why and what to do."""


def going(publication: Publication, today: date) -> Issue | None:
    """Return the issue whose sending is meant where none is named: the stopped one, else the author's today's."""
    halt = standing(publication).order_by("-at").first()
    if halt:
        return halt.issue
    day = publication.days.filter(date__lte=today).order_by("-date").select_related("issue").first()
    return day.issue if day and day.date >= today - clock.ONE_DAY else None


def standing(publication: Publication) -> QuerySet[Halt]:
    return Halt.objects.standing().filter(issue__publication=publication).select_related("issue")


def stop(issue: Issue, now: datetime, by: Any = None) -> Halt:
    """Stop an issue's sending in all workers; twice is once."""
    halt, _new = Halt.objects.get_or_create(issue=issue, ended_at=None, defaults={"at": now, "by": by})
    # Once the halt has been committed nothing new is taken: what is held now is all there is.
    _rows(issue).fence()
    count(issue)
    return halt


def go_on(halt: Halt, now: datetime) -> bool:
    """Send the issue, as it reads now, to those who have not had it."""
    with transaction.atomic():
        if not _end(halt, Halt.Decision.GO_ON, now):
            return False
        _rows(halt.issue).fence()
        _let_go(halt, halt.issue, now)
        tasks.wake()
    count(halt.issue)
    return True


def instead(halt: Halt, other: Issue, now: datetime) -> bool:
    """Send another issue to those who have not had the stopped one, but for those who have had that one already.

    Raises CannotDecide.
    """
    with transaction.atomic():
        issue = _lock(halt)
        _refuse(issue, other)
        if not _end(halt, Halt.Decision.INSTEAD, now, instead=other):
            return False
        Issue.objects.filter(pk=other.pk).update(state=Issue.State.QUEUED)
        cascade.execute(INSTEAD, _values(issue, now) | {"other": other.pk})
        _close(issue, now)
        Day.objects.filter(issue=issue, closed_at=None).update(issue=other)
        _let_go(halt, other, now)
        tasks.wake()
    count(issue)
    count(other)
    return True


def leave(halt: Halt, now: datetime) -> bool:
    """Send the issue to nobody more today; it is a draft again."""
    with transaction.atomic():
        issue = _lock(halt)
        if not _end(halt, Halt.Decision.LEAVE, now):
            return False
        _close(issue, now)
    count(issue)
    return True


def _let_go(halt: Halt, issue: Issue, now: datetime) -> None:
    """Send nothing before every worker has noticed the stop and thrown away what it had made."""
    if now < (noticed := halt.at + NOTICED):
        _rows(issue).filter(state__in=OPEN, try_at__lt=noticed).update(try_at=noticed)


def _rows(issue: Issue) -> Any:
    return Delivery.objects.filter(issue=issue)


def _values(issue: Issue, now: datetime) -> dict[str, Any]:
    at = connection.ops.adapt_datetimefield_value(now)
    return {"publication": issue.publication_id, "issue": issue.pk, "now": at}


def _lock(halt: Halt) -> Issue:
    """Let no planning come between: it would add emails of an issue that is being put aside."""
    issue = Issue.objects.select_related("publication").get(pk=halt.issue_id)
    Publication.objects.select_for_update().get(pk=issue.publication_id)
    return issue


def _end(halt: Halt, decision: str, now: datetime, **columns: Any) -> bool:
    ended = Halt.objects.standing().filter(pk=halt.pk).update(ended_at=now, decision=decision, **columns)
    return bool(ended)


def _refuse(issue: Issue, other: Issue) -> None:
    if issue.kind == Issue.Kind.ANNOUNCEMENT:
        raise CannotDecide(_("An announcement has no other in its place. Correct it and go on, or leave it."))
    if other.publication_id != issue.publication_id or other.kind != Issue.Kind.DAILY or other.pk == issue.pk:
        raise CannotDecide(_("Choose another daily issue of the same publication."))
    if other.days.exists():
        raise CannotDecide(_("“%(subject)s” has had its own date. Choose another issue.") % {"subject": other.subject})


def _close(issue: Issue, now: datetime) -> None:
    """End what is still to go of an issue, and put the issue aside: where the hour is to come, it counts as absent."""
    waiting = _rows(issue).filter(state__in=OPEN)
    waiting.update(state=State.MISSED, reason="stopped", settled_at=now, owner=None, leased_until=None)
    # Whatever stands in the reserve is queued.
    Entry.objects.filter(issue=issue, series__kind=Series.Kind.RESERVE).delete()
    Issue.objects.filter(pk=issue.pk).update(state=Issue.State.DRAFT)


def count(issue: Issue) -> None:
    """Count an issue's dates anew, so that the figures are those of this moment."""
    moving = Q(state__in=MOVING) | Q(state=State.MISSED, reason="stopped")
    for day in _rows(issue).filter(moving).values_list("local_date", flat=True).distinct():
        with promise.ledger():
            promise.count(day, {issue.publication_id})


def figures(issue: Issue) -> Counter[str]:
    """Return how many readers have an issue, may have it, wait for it, or do without: as last counted."""
    names = dict.fromkeys(OPEN, "waiting") | {State.SENT: "have", State.HANDOFF: "unknown", State.UNCERTAIN: "unknown"}
    found: Counter[str] = Counter()
    rows = Tally.objects.filter(issue=issue).exclude(state=State.SKIPPED).values_list("state")
    for state, number in rows.annotate(number=Sum("count")):
        found[names.get(state, "without")] += number
    return found


def have(issue: Issue) -> QuerySet[Any]:
    """Return the deliveries of the readers who have an issue, or may have it."""
    return _named(issue).filter(state__in=HAD)


def have_not(issue: Issue) -> QuerySet[Any]:
    return _named(issue).exclude(state__in=[*HAD, State.SKIPPED])


def _named(issue: Issue) -> QuerySet[Any]:
    rows: QuerySet[Any] = _rows(issue).select_related("subscriber").order_by("subscriber_id", "local_date")
    return rows
