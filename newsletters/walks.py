"""How far readers have come in their sequences: forward with what they have had, back with what did not arrive."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from django.db.models import Max, Q

from newsletters.claims import Claim
from newsletters.models import Delivery, Entry, Issue, Subscriber, Walk
from newsletters.models.outgoing import HAD


def advance(rows: Iterable[Any]) -> None:
    """Move the walks of these readers up to the entry they have just had."""
    reached: dict[tuple[int, int], list[int]] = defaultdict(list)
    gathered: dict[int, list[int]] = defaultdict(list)
    for row in rows:
        if isinstance(row, Claim) and row.way == Delivery.Way.SEQUENCE and row.series_id and row.rank is not None:
            reached[row.series_id, row.rank].append(row.subscriber_id)
        elif isinstance(row, Claim) and row.way == Delivery.Way.DIGEST:
            gathered[row.issue_id].append(row.subscriber_id)
    for digest, readers in gathered.items():
        for series, rank in steps(digest):
            reached[series, rank].extend(readers)
    for (series, rank), readers in reached.items():
        walks = Walk.objects.filter(series_id=series, subscriber_id__in=readers, ended_at=None)
        walks.filter(reached__lt=rank).update(reached=rank)


def steps(digest: int) -> list[tuple[int, int]]:
    """Return (series, rank) of the furthest entry in each sequence of which a digest holds the issue."""
    of = Issue.objects.filter(pk=digest).values_list("digest_of", flat=True).first()
    issues = [int(pk) for pk in of.split(",")] if of else []
    entries = Entry.objects.filter(issue__in=issues, series__kind="sequence").order_by()
    return list(entries.values("series").annotate(rank=Max("rank")).values_list("series", "rank"))


def step_back(row: Delivery) -> None:
    """Owe a reader what did not arrive: the steps of a sequence, unless a later one did, and the week of a digest."""
    reader = Subscriber.objects.filter(pk=row.subscriber_id).first()
    if reader is None or reader.member_since is None:
        return
    if row.way == Delivery.Way.DIGEST:
        lost = steps(row.issue_id or 0)
        Subscriber.objects.filter(pk=reader.pk, digest_on=None).update(catching_up=True)
    else:
        lost = list(Entry.objects.filter(pk=row.entry_id or 0).values_list("series", "rank"))
    for series, rank in lost:
        walks = reader.walks.filter(series=series, started_at__gte=reader.member_since)
        # One that came to its end since goes on, unless the reader walks it a second time.
        under_way = Q(ended_at=None) if walks.filter(ended_at=None).exists() else Q(ended_at__gt=row.due_at)
        walks.filter(under_way, reached=rank).update(reached=last_had(reader, series, rank), ended_at=None)


def last_had(reader: Subscriber, series: int, below: int) -> int:
    """Return the rank of the last entry below one that this reader has had, by itself or in a digest."""
    earlier = Entry.objects.filter(series=series, rank__lt=below)
    same = Q(pk__in=earlier.values("issue")) | Q(texts__issues__in=earlier.values("issue"))
    past = Delivery.objects.filter(subscriber=reader, state__in=HAD, due_at__gte=reader.member_since)
    had = list(past.filter(issue__in=Issue.objects.filter(same).values("pk")).values_list("issue", flat=True))
    arrived = earlier.filter(Q(issue__in=had) | Q(issue__texts__issues__in=had))
    return arrived.aggregate(rank=Max("rank"))["rank"] or 0
