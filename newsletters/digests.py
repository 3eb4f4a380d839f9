"""The weekly digest: the week's issues in one email, for readers who asked for less.

A digest is an issue of its own, made once for each distinct content and not for each reader. It holds the texts of all
it gathers, so that none of them comes again.
"""

import re
import secrets
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

from django.db import connection
from django.db.models import Exists, OuterRef, Q
from django.utils import translation
from django.utils.translation import gettext as _

from newsletters import cascade
from newsletters.models import Break, Delivery, Issue, Publication
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
    """A date's issue, None where it was dry; from before this week a digest gathers it only if none since was had."""

    issue: int | None
    fixed_at: datetime
    of_this_week: bool


# Of a publication that has no dates yet.
NOTHING = Daily(None, datetime(1970, 1, 1, tzinfo=UTC), of_this_week=False)


def plan(publication: Publication, day: date, due_at: datetime, values: dict[str, Any]) -> int:
    """Insert this date's digests; return how many. Whoever is owed nothing falls through to the cascade."""
    asked = Q(digest_on=values["weekday"]) | Q(catching_up=True)
    readers = publication.subscribers.filter(asked, zone=values["zone"])
    if not readers.exists():
        return 0
    values = values | {"steps": len(publication.promise_on(day).weekdays)}
    owed = contents(week(publication, due_at), f"{cascade.OF_A_ZONE} AND {ASKED}")
    for (content,) in cascade.fetch(f"SELECT DISTINCT content FROM ({owed}) owed WHERE content <> ''", values):
        gather(publication, content)
    return cascade.execute(_insert(owed), values)


def caught_up(publication: Publication, zone: str, day: date, due_at: datetime) -> None:
    """Note that readers who came back to daily were owed no digest any more: the one before has arrived."""
    today = Delivery.objects.filter(local_date=day, slot=0, due_at=due_at, subscriber_id=OuterRef("pk"))
    got = Exists(today.exclude(way=Delivery.Way.DIGEST).exclude(state=State.SKIPPED).exclude(reason="outage"))
    publication.subscribers.filter(got, zone=zone, catching_up=True).update(catching_up=False)


def week(publication: Publication, due_at: datetime) -> list[Daily]:
    """Return the dates of the two weeks before an instant with their daily issues, in order."""
    days = publication.days.filter(fixed_at__gt=due_at - TWO_WEEKS, fixed_at__lte=due_at)
    days = days.exclude(rest=Break.Kind.SILENCE).order_by("date")
    rows = days.values_list("fixed_at", "issue", "issue__state")
    return dailies([(at, issue if state == Issue.State.QUEUED else None) for at, issue, state in rows], due_at)


def dailies(fixed: Iterable[tuple[datetime, int | None]], due_at: datetime) -> list[Daily]:
    """Return what a digest may gather of dates, given with the instants at which their issues were fixed."""
    return [Daily(issue, at, at > due_at - WEEK) for at, issue in fixed]


def contents(
    dates: Sequence[Daily],
    which: str,
    past: str = cascade.PAST,
    reached: str = cascade.REACHED,
    mailable: str = cascade.MAILABLE,
) -> str:
    """Return the SELECT of (subscriber_id, content): what each digest reader is owed, as "12,15,17".

    That is the next steps of their sequences, one for each promised day of a week; where fewer are left, they take
    the first dates, and the queue's issues of the others follow. Whoever is back to daily is owed nothing in the
    middle of a sequence, which goes on where they stand, nor today's issue alone, which comes by itself.
    """
    steps = f"""
        SELECT entry.issue_id {cascade.steps(past, reached)}
        ORDER BY walk.position, walk.id, entry.rank, entry.id LIMIT %(steps)s"""
    return f"""
        WITH week (back, issue_id, fixed_at, of_this_week) AS MATERIALIZED (VALUES {_rows(dates or [NOTHING])}
        ), reader AS MATERIALIZED ({cascade.readers(which, mailable)}
        ), walked AS MATERIALIZED (
            SELECT reader.*, ({_listed(steps)}) AS steps, ({_last(dates or [NOTHING], past)}) AS last
            FROM reader WHERE NOT {cascade.too_soon("reader", past)}
        ), gathered AS MATERIALIZED (
            SELECT reader.id, reader.digest_on, reader.steps, ({_listed(_of_the_queue(past))}) AS issues
            FROM (SELECT walked.*, {_count("steps")} AS taken FROM walked) reader
        )
        SELECT id AS subscriber_id, COALESCE(CASE
            WHEN digest_on IS NOT NULL THEN COALESCE(steps || ',' || issues, steps, issues)
            WHEN steps IS NULL THEN NULLIF(issues, CAST(CAST(%(daily)s AS bigint) AS text)) END, '') AS content
        FROM gathered"""


def _rows(dates: Sequence[Daily]) -> str:
    """Return the dates as SQL, each with its place counted from the last."""
    return ", ".join(
        f"({len(dates) - number}, {int(daily.issue or 0)}, {_instant(daily.fixed_at)}, {int(daily.of_this_week)})"
        for number, daily in enumerate(dates)
    )


def _listed(ordered: str) -> str:
    return f"SELECT {JOIN[connection.vendor]} FROM ({ordered}) owed"


def _count(listed: str) -> str:
    return f"LENGTH({listed}) - LENGTH(REPLACE({listed}, ',', '')) + 1"


def _last(dates: Sequence[Daily], past: str) -> str:
    """Return the SELECT of when a reader's last digest or step fell due: the dates until then are settled."""
    first = min(daily.fixed_at for daily in dates).date()
    # The dates are listed, so that the key finds each of them.
    listed = ", ".join(f"'{first + timedelta(days=days)}'" for days in range(-1, TWO_WEEKS.days + 3))
    return f"""
        SELECT MAX(past.due_at) FROM {past} past
        WHERE past.local_date IN ({listed}) AND past.subscriber_id = reader.id AND past.slot = 0
          AND past.way IN ('digest', 'sequence') AND past.state IN ('handoff', 'sent', 'uncertain')"""


def _of_the_queue(past: str) -> str:
    """Return the SELECT of the daily issues that a reader has not had, but for the dates that steps have taken.

    Of those from before this week, only what came out in this membership and is not settled.
    """
    unsettled = "reader.member_since <= {0}.fixed_at AND (reader.last IS NULL OR reader.last < {0}.fixed_at)"
    return f"""
        SELECT week.issue_id FROM week
        WHERE week.issue_id > 0 AND (week.of_this_week = 1 OR {unsettled.format("week")})
          AND (reader.steps IS NULL OR reader.taken < %(steps)s AND (
              week.back + reader.taken <= %(steps)s OR EXISTS (
                  SELECT 1 FROM week sooner
                  WHERE sooner.back = week.back + reader.taken AND {unsettled.format("sooner")})))
          AND NOT {cascade.had("week.issue_id", past)}
        ORDER BY week.back DESC"""


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
