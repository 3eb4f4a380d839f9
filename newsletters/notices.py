"""What readers are told ahead: announcements in general, a break, a promise of more days; and its coming into force."""

import logging
import secrets
from collections.abc import Callable
from datetime import date, datetime, timedelta

from django.db import OperationalError, connection, transaction
from django.utils import translation
from django.utils.translation import gettext as _

from newsletters import cascade, clock, dates, pace, queue
from newsletters.models import Break, Clock, Issue, PromiseChange, Publication, Subscriber, Text

log = logging.getLogger(__name__)

A_WEEK = timedelta(days=7)
# Where a date begins first
FIRST_ZONE = "Etc/GMT-14"
TOLD_ON_PAGES = timedelta(days=14)
# How long the reader page goes on offering to keep the pace from before a change
OFFERED = timedelta(days=60)

ANNOUNCE = f"""
    INSERT INTO newsletters_delivery
        (local_date, subscriber_id, slot, publication_id, way, issue_id, state, reason,
         due_at, try_at, late_until, attempts, reply)
    SELECT %(date)s, reader.id, %(issue)s, %(publication)s, 'announcement', %(issue)s, 'planned', '',
        %(due_at)s, %(due_at)s, %(late_until)s, 0, ''
    FROM newsletters_subscriber reader
    WHERE {cascade.OF_A_ZONE} AND reader.status = 'active'
      AND reader.member_since <= %(due_at)s AND NOT EXISTS (
        SELECT 1 FROM newsletters_delivery past
        WHERE past.issue_id = %(issue)s AND past.subscriber_id = reader.id)
      AND NOT {cascade.had("%(issue)s", awaited=">= 0")}
    ON CONFLICT DO NOTHING
"""


def tick(now: datetime) -> None:
    """Announce the breaks and the promises whose time has come, and bring into force the changes that are due."""
    soon = now.date() + timedelta(days=9)
    silences = Break.objects.filter(
        kind=Break.Kind.SILENCE, announced_at=None, first__lte=soon, last__gte=now.date()
    ).values_list("pk", flat=True)
    waiting = list(PromiseChange.objects.filter(applied_at=None, first__lte=soon))
    acts: list[tuple[Callable[[int, datetime], bool], int]] = [(announce_break, pk) for pk in silences]
    acts += [(announce_change, change.pk) for change in waiting if change.announced_at is None]
    acts += [(apply, change.pk) for change in waiting if change.first <= now.date() + clock.ONE_DAY]
    for act, pk in acts:
        try:
            act(pk, now)
        except OperationalError:
            raise
        except Exception:
            # Whatever is wrong with one publication must not keep the others waiting; the next tick tries again.
            log.exception("A notice could not be given")


def announce(issue: Issue, now: datetime, on: date | None = None, *, at_once: bool = False) -> int:
    """Plan an announcement for every active reader, beside the daily email; return how many are new.

    It comes at each reader's promised hour on the local date `on`, or the next one, or at once. Nobody ever gets it
    twice. Raises ValueError for an issue of another kind, or one that is not queued.
    """
    if issue.kind != Issue.Kind.ANNOUNCEMENT or issue.state != Issue.State.QUEUED:
        raise ValueError("Only a queued announcement is announced.")
    with transaction.atomic():
        publication = Publication.objects.select_for_update().get(pk=issue.publication_id)
        zones = list(publication.clocks.values_list("zone", flat=True))
        return sum(_plan(publication, issue, zone, *_when(publication, zone, now, on, at_once)) for zone in zones)


def _when(
    publication: Publication, zone: str, now: datetime, on: date | None, at_once: bool
) -> tuple[date, datetime, datetime]:
    """Return the local date, the instant, and when it is too late."""
    day = clock.local_date(now, zone) if at_once else on
    if day is not None:
        due_at, late_until = publication.window(day, zone)
        if at_once:
            return day, now, max(late_until, now + timedelta(hours=1))
        if late_until > now:
            return day, due_at, late_until
    day, _at = publication.next_promise(now, zone)
    return day, *publication.window(day, zone)


def _plan(publication: Publication, issue: Issue, zone: str, day: date, due_at: datetime, late_until: datetime) -> int:
    values = {
        "publication": publication.pk,
        "issue": issue.pk,
        "zone": zone,
        "date": connection.ops.adapt_datefield_value(day),
        "due_at": connection.ops.adapt_datetimefield_value(due_at),
        "late_until": connection.ops.adapt_datetimefield_value(late_until),
    }
    return cascade.execute(ANNOUNCE, values)


def announce_break(pk: int, now: datetime) -> bool:
    """Tell readers of a break on the last promised date before it; return whether it was told now."""
    with transaction.atomic():
        row = Break.objects.select_for_update(of=("self",)).select_related("publication", "announcement").get(pk=pk)
        day = row.eve
        if row.announced_at or now < clock.instant(day, datetime.min.time(), FIRST_ZONE):
            return False
        row.announcement = row.announcement or _issue(row.publication, *_break_words(row))
        row.announced_at = now
        row.save(update_fields=["announcement", "announced_at"])
        announce(row.announcement, now, on=day)
    return True


def _break_words(row: Break) -> tuple[str, str]:
    publication, language = row.publication, row.publication.language
    after, _at = publication.promise_from(row.last + clock.ONE_DAY, publication.zone)
    words = {
        "first": dates.day(row.first, language),
        "last": dates.day(row.last, language),
        "next": dates.day(after, language),
    }
    with translation.override(language):
        if row.first == row.last:
            return _("No email on %(first)s") % words, _(
                "There is no email on %(first)s. The next one comes on %(next)s, and you need do nothing."
            ) % words
        return _("A break from %(first)s to %(last)s") % words, _(
            "From %(first)s to %(last)s there is no email. The next one comes on %(next)s, and you need do nothing."
        ) % words


def announce_change(pk: int, now: datetime) -> bool:
    """Tell readers of a promise of more days, at the latest a week before it holds; return whether it was told now."""
    with transaction.atomic():
        row = (
            PromiseChange.objects.select_for_update(of=("self",))
            .select_related("publication", "announcement")
            .get(pk=pk)
        )
        if row.announced_at or not row.adds_days:
            return False
        row.announcement = row.announcement or _issue(row.publication, *_change_words(row))
        row.announced_at = now
        row.save(update_fields=["announcement", "announced_at"])
        # A promise of few days might come too late to tell it a week ahead.
        announce(
            row.announcement,
            now,
            on=min(row.first - A_WEEK, row.publication.next_promise(now, row.publication.zone)[0]),
        )
    return True


def _change_words(row: PromiseChange) -> tuple[str, str]:
    publication, language = row.publication, row.publication.language
    words = {
        "first": dates.day(row.first, language),
        "days": dates.weekdays(row.weekdays, language),
        "before": dates.weekdays(row.before or publication.weekdays, language),
        "hour": dates.hour(row.hour, language),
    }
    with translation.override(language):
        subject = _("From %(first)s on: one email %(days)s") % words
        body = _("From %(first)s on, one email comes %(days)s, at %(hour)s. Until then, nothing changes.") % words
        offer = _(
            "Would you rather keep your pace, %(before)s? Follow the link “take a break” below: the page it opens has a"
            " button for that."
        )
        return subject, f"{body}\n\n{offer % words}"


def _issue(publication: Publication, subject: str, body: str) -> Issue:
    """Make a queued announcement, between the words that stand around every issue."""
    pieces = [publication.greeting, body, publication.sign_off]
    issue = Issue.objects.create(
        publication=publication,
        kind=Issue.Kind.ANNOUNCEMENT,
        state=Issue.State.QUEUED,
        subject=subject[:300],
        body="\n\n".join(piece.strip() for piece in pieces if piece.strip()),
        public_id=secrets.token_hex(6),
    )
    issue.texts.add(Text.objects.create(publication=publication))
    return issue


def save_change(change: PromiseChange, now: datetime) -> None:
    """Save a change of the promise, and set the clocks that it concerns. The caller has cleaned it."""
    with transaction.atomic():
        publication = Publication.objects.select_for_update().get(pk=change.publication_id)
        was = PromiseChange.objects.filter(pk=change.pk).values_list("first", flat=True).first()
        others = [promise for promise in publication.terms if promise.first not in {was, change.first}]
        change.before = clock.promise_on(change.first, others).weekdays
        change.save()
        retime(publication, min(was or change.first, change.first), now)


def drop_change(change: PromiseChange, now: datetime) -> None:
    """Take back a change of the promise that does not hold yet."""
    with transaction.atomic():
        publication = Publication.objects.select_for_update().get(pk=change.publication_id)
        change.delete()
        retime(publication, change.first, now)


def retime(publication: Publication, first: date, now: datetime) -> None:
    """Set anew the clocks whose next promise falls on a date or later; today's stay as they are."""
    publication = Publication.objects.get(pk=publication.pk)
    for row in Clock.objects.filter(publication=publication, next_date__gte=first):
        if row.last_date:
            row.aim(*publication.promise_from(row.last_date + clock.ONE_DAY, row.zone))
        else:
            row.aim(*publication.next_promise(now, row.zone))


def apply(pk: int, now: datetime) -> bool:
    """Make a change of the promise the promise, once its first date is next in every zone; return whether it is now.

    Until then the planner asks for the promise of each date, so no zone changes early or late.
    """
    with transaction.atomic():
        change = PromiseChange.objects.get(pk=pk)
        publication = Publication.objects.select_for_update().get(pk=change.publication_id)
        begun = clock.instant(change.first, datetime.min.time(), publication.zone)
        late = Clock.objects.filter(publication=publication, next_date__lt=change.first)
        if now < begun or late.exists() or PromiseChange.objects.filter(pk=pk).exclude(applied_at=None).exists():
            return False
        queue.fix_days(publication, begun - timedelta(microseconds=1), now)
        change.before, change.applied_at = change.before or publication.weekdays, now
        change.save(update_fields=["before", "applied_at"])
        for name in ("hour", "weekdays", "late_until"):
            setattr(publication, name, getattr(change, name))
        publication.save(update_fields=["hour", "weekdays", "late_until"])
        pace.fit(publication.subscribers.all(), publication.weekdays)
    return True


def silence(publication: Publication, today: date) -> Break | None:
    """Return the announced break that a page should tell of: the one under way, or one of the next two weeks."""
    rows = publication.breaks.filter(kind=Break.Kind.SILENCE, last__gte=today, first__lte=today + TOLD_ON_PAGES)
    return rows.order_by("first").first()


def offer(reader: Subscriber, today: date) -> PromiseChange | None:
    """Return the promise of more days that this reader may still decline: one told, or not long in force."""
    if reader.weekdays or reader.digest_on:
        return None
    rows = reader.publication.promise_changes.exclude(announced_at=None).filter(first__gt=today - OFFERED)
    return next((row for row in rows.order_by("-first") if set(row.weekdays) - set(row.before)), None)
