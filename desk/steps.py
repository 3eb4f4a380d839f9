"""What to do next, the most urgent first; each step names the template that draws it with its button."""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from django.db.models import Q

from desk.ledger import Coming, Ledger, reach
from newsletters import drift
from newsletters.models import Issue, Publication, Rehearsal
from newsletters.runway import Cohort

# From so few days ahead on, drafts and the reserve are offered.
SHORT = 7
# From so few days ahead on, readers who run dry are something to do; further ahead the page only says so.
SOON = 30
# How many drafts get a button each
DRAFTS = 3
# How many issues the desk looks at; whoever has more unplaced drafts finds them in the list.
LOOKED_AT = 200


@dataclass(frozen=True, slots=True)
class Step:
    """`kind` is the template's name; the rest is what that template says."""

    kind: str
    issues: list[Issue]
    day: date | None = None
    last: date | None = None
    number: int = 0

    @property
    def template(self) -> str:
        return f"desk/steps/{self.kind}.html"


def unfinished(publication: Publication) -> list[Issue]:
    """Return the issues that are not queued and those whose article has changed since; one query."""
    moved = Q(pk__in=drift.flagged(publication).order_by().values("pk"))
    waiting = Q(state__in=[Issue.State.READY, Issue.State.DRAFT], days=None)
    issues = publication.issues.filter(moved | waiting, kind=Issue.Kind.DAILY).select_related("article").distinct()
    return list(issues.defer("body", "article__body").order_by("-state", "pk")[:LOOKED_AT])


def is_drifted(issue: Issue) -> bool:
    article = issue.article
    return (
        issue.state in drift.STILL_TO_COME
        and article is not None
        and issue.article_at is not None
        and article.version > issue.article_at
    )


def steps(
    publication: Any,
    ledger: Ledger,
    coming: list[Coming],
    issues: list[Issue],
    rehearsal: Rehearsal | None,
    dry: list[Cohort],
) -> list[Step]:
    """Return the steps: what empties tomorrow first, then what is wrong, then what only makes the lead longer."""
    short = ledger.covered < SHORT
    ready = [issue for issue in issues if issue.state == Issue.State.READY]
    drafts = [issue for issue in issues if issue.state == Issue.State.DRAFT][:DRAFTS]
    dates = {issue.pk: day for day, issue, _rest in coming if issue}
    drifted = [Step("drift", [issue], day=dates.get(issue.pk)) for issue in issues if is_drifted(issue)]
    lead, _dry = reach(coming, publication.reserve or 0, len(ready))
    place = [Step("place", ready, day=ledger.free_on, number=lead)] if ready else []
    found = [Step("rehearsal", [], day=rehearsal.date)] if rehearsal and rehearsal.problems else []
    if short and ledger.free_on:
        found += place + [Step("draft", [issue], day=ledger.free_on) for issue in drafts]
        if not ready and not drafts:
            found.append(Step("write", [], day=ledger.free_on))
        if ledger.spare:
            last = ledger.free_on + timedelta(days=6)
            found.append(Step("cover", [], day=ledger.free_on, last=last, number=ledger.spare))
        found.append(Step("break", [], day=ledger.free_on))
    if not short and dry and dry[0].days < SOON:
        found.append(running_dry(ledger, dry[0], drafts, has_ready=bool(ready)))
    found = sorted(found + drifted, key=lambda step: step.day or date.max)
    return found + ([] if short else place)


def running_dry(ledger: Ledger, cohort: Cohort, drafts: list[Issue], *, has_ready: bool) -> Step:
    """Say who runs dry first, with the first draft or else the reserve at hand; what is ready has its own step."""
    last = cohort.dry_on + timedelta(days=6) if ledger.spare else None
    at_hand = [] if has_ready else drafts[:1]
    return Step("dry", at_hand, day=cohort.dry_on, last=last, number=cohort.readers)
