"""Issues whose article has changed, or has vanished from its source, since they were made of it.

`Issue.article_at` holds the article's version that the issue was made of, or that its author chose not to take.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import zip_longest

from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet

from newsletters import composing
from newsletters.models import Article, Entry, Issue, Publication, Series

STILL_TO_COME = (Issue.State.READY, Issue.State.QUEUED)
WRITTEN = ["subject", "preheader", "body", "canonical_url", "article_at"]

# A piece of a line, and whether it differs from the other side
Span = tuple[str, bool]


@dataclass(frozen=True, slots=True)
class Line:
    """A paragraph of the old text beside that of the new; an empty side has none. Plain text, to be escaped."""

    old: list[Span]
    new: list[Span]

    @property
    def same(self) -> bool:
        return self.old == self.new


@dataclass(frozen=True, slots=True)
class Drift:
    """What differs: `fresh` is None where the article vanished, or has no such part any more."""

    issue: Issue
    vanished: bool
    fresh: Issue | None
    subject: Line
    lines: list[Line]


def flagged(publication: Publication) -> QuerySet[Issue]:
    """Return the issues still to come that their article has left behind, in one query."""
    later = Q(article__changed_at__gt=F("article_at")) | Q(article__vanished_at__gt=F("article_at"))
    lasting = Entry.objects.filter(issue=OuterRef("pk")).exclude(series__kind=Series.Kind.DAILY)
    issues = publication.issues.filter(later, state__in=STILL_TO_COME, kind=Issue.Kind.DAILY)
    # What its date has taken has gone out; what stands in a sequence or in the reserve goes on going out.
    return issues.filter(Q(days=None) | Exists(lasting)).select_related("article", "publication").order_by("pk")


def of(issue: Issue) -> Drift | None:
    """Return how an issue differs from what its article would make now; None where it has no drift."""
    article = issue.article
    if article is None or issue.article_at is None or article.version <= issue.article_at:
        return None
    vanished = article.vanished_at is not None
    fresh = None if vanished else composing.anew(issue)
    new = fresh or Issue(subject="", body="")
    return Drift(issue, vanished, fresh, _pair(issue.subject, new.subject), list(compare(issue.body, new.body)))


def compare(old: str, new: str) -> Iterator[Line]:
    """Yield two texts side by side, paragraph by paragraph."""
    before, after = (re.split(r"\n{2,}", text.strip()) if text.strip() else [] for text in (old, new))
    for kind, a, b, c, d in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        for left, right in zip_longest(before[a:b], after[c:d], fillvalue=""):
            yield Line([(left, False)], [(right, False)]) if kind == "equal" else _pair(left, right)


def _pair(old: str, new: str) -> Line:
    """Return two paragraphs with the words that differ marked."""
    if old == new:
        return Line([(old, False)], [(new, False)])
    left, right = (re.findall(r"\s+|[^\s]+", text) for text in (old, new))
    sides: tuple[list[Span], list[Span]] = ([], [])
    for kind, a, b, c, d in SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        for side, words in zip(sides, (left[a:b], right[c:d]), strict=True):
            if words:
                side.append(("".join(words), kind != "equal"))
    return Line(*sides)


@transaction.atomic
def take_new(issue: Issue) -> list[Issue]:
    """Write an issue anew from its article, keeping its texts: who had it does not get it again.

    The parts of one article are cut at other places now, so they are written together. What the article no longer
    holds becomes a draft, which never goes out, and leaves the reserve.
    """
    issues = _together(issue)
    for one in issues:
        assert one.article is not None
        fresh = None if one.article.vanished_at else composing.anew(one)
        for name in WRITTEN if fresh else []:
            setattr(one, name, getattr(fresh, name))
        if fresh is None:
            one.state, one.article_at = Issue.State.DRAFT, one.article.version
            one.entries.filter(series__kind=Series.Kind.RESERVE).delete()
        one.save(update_fields=[*WRITTEN, "state", "updated_at"])
    return issues


@transaction.atomic
def keep_old(issue: Issue) -> list[Issue]:
    """Leave an issue, and the other parts of its article, as they are until the article changes again."""
    issues = _together(issue)
    for one in issues:
        assert one.article is not None
        Issue.objects.filter(pk=one.pk).update(article_at=one.article.version)
    return issues


def _together(issue: Issue) -> list[Issue]:
    """Lock an issue's article and return the issues that one decision is for."""
    article = Article.objects.select_for_update(of=("self",)).get(issues=issue)
    issues = article.issues.filter(state__in=STILL_TO_COME, cut=issue.cut)
    if issue.cut != Issue.Cut.PARTS:
        issues = issues.filter(pk=issue.pk)
    return list(issues.select_related("publication", "article__publication").order_by("pk"))
