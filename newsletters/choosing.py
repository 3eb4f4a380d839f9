"""What becomes of emails of which nobody knows the end, where a publication rather has them twice than not at all."""

import logging
from datetime import datetime
from functools import cache
from itertools import chain, islice

from newsletters import asking, stuck
from newsletters.models import Publication
from newsletters.models.outgoing import OutgoingQuerySet, State
from newsletters.stuck import Row

log = logging.getLogger(__name__)

# A provider answers one question a message: the rest waits for the next time.
PORTION = 200


def by_choice(now: datetime) -> int:
    """Ask the providers that can be asked, and send again what stays uncertain; return how many."""
    rows: list[Row] = list(islice(chain.from_iterable(chosen(now)), PORTION))
    ask(rows, now)
    rest = [row for row in rows if stuck.mine(row).exists()]
    stuck.again(rest, now)
    return len(rest)


def chosen(now: datetime) -> list[OutgoingQuerySet]:
    of = {"state": State.UNCERTAIN, "publication__when_uncertain": Publication.WhenUncertain.TWICE}
    when = {"handoff_at__lt": now - stuck.PATIENCE, "late_until__gt": now}
    return [table.filter(**of, **when).order_by("handoff_at")[:PORTION] for table in stuck.tables()]


def ask(rows: list[Row], now: datetime) -> None:
    """Ask each provider once for all publications: one that is silent costs its time once."""
    ways = cache(asking.providers)
    for name in asking.QUESTIONS:
        record = asking.Asked(name, now)
        stuck.settle_rows(record, [row for row in rows if name in ways(row.publication)], now)
        if record.fault:
            log.warning("%s", record.fault)
