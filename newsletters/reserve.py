"""The reserve in the order of its past results: first what made the fewest readers leave."""

from datetime import timedelta

from django.db.models import Count, F, Q

from newsletters.models import Delivery, Entry, Series
from newsletters.models.outgoing import State
from newsletters.models.series import RANK_GAP

# Whoever leaves within a day of an email leaves because of it.
BECAUSE = timedelta(days=1)
# As many readers have to have had an issue before its own result counts as much as that of all together.
ENOUGH = 100


def rank_by_results(reserve: Series) -> None:
    """Put the reserve's entries in order: by the share of readers who left after each, then as they were."""
    with reserve.editing():
        entries = list(reserve.entries.order_by("rank", "pk"))
        shares = shares_left([entry.issue_id for entry in entries])
        entries.sort(key=lambda entry: shares[entry.issue_id])
        for place, entry in enumerate(entries, start=1):
            entry.rank = place * RANK_GAP
        Entry.objects.bulk_update(entries, ["rank"])


def shares_left(issues: list[int]) -> dict[int, float]:
    """Return the share of readers who left after each issue; one that few have had is taken for an average one."""
    after = Q(subscriber__left_at__gte=F("handoff_at"), subscriber__left_at__lt=F("handoff_at") + BECAUSE)
    had = Delivery.objects.filter(issue__in=issues, state=State.SENT).values("issue").order_by()
    rows = had.annotate(readers=Count("subscriber"), left=Count("subscriber", filter=after)).values_list(
        "issue", "readers", "left"
    )
    results = {issue: (left, readers) for issue, readers, left in rows}
    readers = sum(readers for _, readers in results.values())
    average = sum(left for left, _ in results.values()) / (readers + ENOUGH)
    return {issue: _share(*results.get(issue, (0, 0)), average) for issue in issues}


def _share(left: int, readers: int, average: float) -> float:
    return (left + average * ENOUGH) / (readers + ENOUGH)
