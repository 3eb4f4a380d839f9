"""The weekly digest: the week's issues in one email, for readers who asked for less.

A digest is an issue of its own, made once for each distinct content and not for each reader. It holds the texts of all
it gathers, so that none of them comes again.
"""

import re
import secrets
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

from django.db import connection
from django.db.models import Exists, OuterRef, Q
from django.utils import translation
from django.utils.translation import gettext as _

from newsletters import cascade
from newsletters.models import Delivery, Issue, Publication
from newsletters.models.outgoing import State

# A day more than a week: where clocks shift against each other, an issue would fall between two digests.
WEEK = timedelta(days=8)
# Whoever chooses a later weekday, or missed a digest, is owed more than a week.
TWO_WEEKS = timedelta(days=15)
ASKED = "(digest_on = %(weekday)s OR catching_up)"

# Ordered input, so that the list is in order: string_agg and group_concat join rows as they come.
JOIN = {"postgresql": "string_agg(CAST(owed.issue_id AS text), ',')", "sqlite": "group_concat(owed.issue_id, ',')"}


INSTANT = {"postgresql": "CAST('{}' AS timestamptz)", "sqlite": "'{}'"}


class Daily(NamedTuple):
    """A daily issue that a digest may gather; one from before this week, only where no digest since had its turn."""

    issue: int
    fixed_at: datetime
    of_this_week: bool


def plan(publication: Publication, due_at: datetime, values: dict[str, Any]) -> int:
    """Insert this date's digests; return how many. Whoever is owed nothing falls through to the cascade."""
    asked = Q(digest_on=values["weekday"]) | Q(catching_up=True)
    readers = publication.subscribers.filter(asked, zone=values["zone"])
    if not readers.exists():
        return 0
    values = values | {"steps": len(publication.weekdays)}
    owed = contents(week(publication, due_at), f"{cascade.OF_A_ZONE} AND {ASKED}")
    for (content,) in cascade.fetch(f"SELECT DISTINCT content FROM ({owed}) owed WHERE content <> ''", values):
        gather(publication, content)
    return cascade.execute(_insert(owed), values)


def caught_up(publication: Publication, zone: str, day: date, due_at: datetime) -> None:
    """Note that readers who came back to daily have had what the week owed them."""
    today = Delivery.objects.filter(local_date=day, slot=0, due_at=due_at, subscriber_id=OuterRef("pk"))
    got = Exists(today.exclude(state=State.SKIPPED).exclude(reason="outage"))
    publication.subscribers.filter(got, zone=zone, catching_up=True).update(catching_up=False)


def week(publication: Publication, due_at: datetime) -> list[Daily]:
    """Return the daily issues that have come out in the two weeks before an instant, in order."""
    days = publication.days.filter(fixed_at__gt=due_at - TWO_WEEKS, fixed_at__lte=due_at)
    rows = days.filter(issue__state=Issue.State.QUEUED).order_by("date").values_list("issue", "fixed_at")
    return dailies([(pk, at) for pk, at in rows if pk], due_at)


def dailies(fixed: Iterable[tuple[int, datetime]], due_at: datetime) -> list[Daily]:
    """Return what a digest may gather of daily issues, given with the instants at which they were fixed."""
    return [Daily(pk, at, at > due_at - WEEK) for pk, at in fixed]


def contents(
    issues: Sequence[Daily],
    which: str,
    past: str = cascade.PAST,
    reached: str = cascade.REACHED,
    active: str = cascade.ACTIVE,
) -> str:
    """Return the SELECT of (subscriber_id, content): what each digest reader is owed, as "12,15,17".

    Whoever is back to daily in the middle of a sequence is owed nothing: it goes on where they stand.
    """
    return f"""
        SELECT reader.id AS subscriber_id, CASE WHEN reader.digest_on IS NULL AND EXISTS (
            SELECT 1 {cascade.steps(past, reached)}) THEN '' ELSE COALESCE(
            (SELECT {JOIN[connection.vendor]} FROM (
                SELECT entry.issue_id {cascade.steps(past, reached)}
                ORDER BY walk.position, walk.id, entry.rank, entry.id LIMIT %(steps)s) owed),
            {_of_the_queue(issues, past)}, '') END AS content
        FROM ({cascade.readers(which, active)}) reader WHERE NOT {cascade.too_soon("reader", past)}"""


def _of_the_queue(issues: Sequence[Daily], past: str) -> str:
    """Return the SQL of the daily issues that a reader has not had.

    Of those from before this week, only what came out in this membership and before no digest since.
    """
    if not issues:
        return "''"
    first = min(daily.fixed_at for daily in issues).date()
    # The dates are listed, so that the key finds each of them.
    dates = ", ".join(f"'{first + timedelta(days=days)}'" for days in range(-1, TWO_WEEKS.days + 3))
    rows = ", ".join(
        f"({number}, {int(daily.issue)}, {_instant(daily.fixed_at)}, {int(daily.of_this_week)})"
        for number, daily in enumerate(issues)
    )
    return f"""(SELECT {JOIN[connection.vendor]} FROM (
        SELECT week.column2 AS issue_id FROM (VALUES {rows}) week
        WHERE NOT {cascade.had("week.column2", past)} AND (week.column4 = 1
          OR reader.member_since <= week.column3 AND NOT EXISTS (
            SELECT 1 FROM {past} past WHERE past.local_date IN ({dates}) AND past.subscriber_id = reader.id
              AND past.slot = 0 AND past.way = 'digest' AND past.due_at >= week.column3
              AND past.state IN ('handoff', 'sent', 'uncertain')))
        ORDER BY week.column1) owed)"""


def _instant(at: datetime) -> str:
    return INSTANT[connection.vendor].format(connection.ops.adapt_datetimefield_value(at))


def _insert(owed: str) -> str:
    return f"""
        INSERT INTO newsletters_delivery
            (local_date, subscriber_id, slot, publication_id, way, issue_id, state, reason,
             due_at, try_at, late_until, attempts, reply, settled_at)
        SELECT %(date)s, owed.subscriber_id, 0, %(publication)s, 'digest', issue.id,
            CASE WHEN %(late)s = 1 THEN 'missed' ELSE 'planned' END, CASE WHEN %(late)s = 1 THEN 'outage' ELSE '' END,
            %(due_at)s, %(due_at)s, %(late_until)s, 0, '', CASE WHEN %(late)s = 1 THEN %(now)s END
        FROM ({owed}) owed
        JOIN newsletters_issue issue ON issue.publication_id = %(publication)s AND issue.kind = 'digest'
          AND issue.digest_of = owed.content
        WHERE true ON CONFLICT DO NOTHING"""


def gather(publication: Publication, content: str) -> Issue:
    """Return the digest of these issues ("12,15,17"), made at its first use and written anew when one has changed."""
    issues = _without_repetition([int(pk) for pk in content.split(",")])
    with translation.override(publication.language):
        written = {
            "subject": _subject(issues),
            "preheader": ", ".join(issue.subject for issue in issues[1:])[:300],
            "body": body(publication, issues),
        }
    digest, _made = Issue.objects.get_or_create(
        publication=publication,
        kind=Issue.Kind.DIGEST,
        digest_of=content,
        defaults=written | {"state": Issue.State.QUEUED, "public_id": secrets.token_hex(6)},
    )
    if any(getattr(digest, name) != text for name, text in written.items()):
        Issue.objects.filter(pk=digest.pk).update(**written)
    digest.texts.set({text for issue in issues for text in issue.texts.all()})
    return digest


def _subject(issues: Sequence[Issue]) -> str:
    if len(issues) == 1:
        return issues[0].subject
    return (_("Your week: %(first)s") % {"first": issues[0].subject})[:300]


def body(publication: Publication, issues: Sequence[Issue]) -> str:
    """Return the Markdown of a digest: one greeting, a section for each issue, and one end."""
    sections = [_section(publication, issue) for issue in issues]
    end = [publication.action, publication.sign_off, publication.postscript]
    around = [publication.greeting, "\n\n* * *\n\n".join(sections), *end]
    return "\n\n".join(piece.strip() for piece in around if piece.strip())


def _section(publication: Publication, issue: Issue) -> str:
    online = _("Read this issue online")
    link = f"[{online}]({publication.root}/archive/{issue.public_id}/)."
    return f"## {issue.subject}\n\n{_lower(_inner(publication, issue.body))}\n\n{link}"


def _inner(publication: Publication, text: str) -> str:
    """Return an issue's own text, without the words that the publication puts around each."""
    text = text.replace("\r\n", "\n").strip()
    text = text.removeprefix(publication.greeting.strip()).lstrip()
    for piece in (publication.postscript, publication.sign_off, publication.action):
        text = text.removesuffix(piece.replace("\r\n", "\n").strip()).rstrip()
    return text


def _lower(text: str) -> str:
    """Return Markdown with its headings one level down, below the title of its section."""
    lines, fenced = [], False
    for line in text.split("\n"):
        fenced ^= bool(re.match(r" {0,3}(```|~~~)", line))
        lines.append(line if fenced else re.sub(r"^ {0,3}(#{1,5}) ", r"#\1 ", line))
    return "\n".join(lines)


def _without_repetition(order: list[int]) -> list[Issue]:
    """Return these issues in order, but for those that hold a text of one before them."""
    issues: list[Issue] = []
    seen: set[int] = set()
    by_key = Issue.objects.prefetch_related("texts").in_bulk(order)
    for issue in (by_key[pk] for pk in order):
        texts = {text.pk for text in issue.texts.all()}
        if not texts & seen:
            issues.append(issue)
        seen |= texts
    return issues
