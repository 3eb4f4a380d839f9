"""Confirmed subscribers a week: the consent ledger's own lines, over twelve weeks and by its index."""

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from itertools import pairwise
from typing import Any

from django.db.models import Count, Q

from newsletters import clock
from newsletters.models import Publication
from optin.models import Consent

WEEKS = 12
# The curve's box, and where its lines stand
WIDTH, FLOOR, CEILING = 640, 190, 30


@dataclass(frozen=True, slots=True)
class Growth:
    """(Sunday the week closed on, number) for each week, the oldest first."""

    weeks: list[tuple[date, int]]

    @property
    def last(self) -> int:
        return self.weeks[-1][1]

    @property
    def before(self) -> int:
        return self.weeks[-2][1]

    @property
    def any(self) -> bool:
        return any(number for _day, number in self.weeks)

    @property
    def points(self) -> list[tuple[int, int]]:
        top = max(number for _day, number in self.weeks)
        scale = (FLOOR - CEILING) / (top * 1.1 or 1)
        step = WIDTH / (len(self.weeks) - 1)
        return [(round(place * step), round(FLOOR - number * scale)) for place, (_day, number) in enumerate(self.weeks)]

    @property
    def line(self) -> str:
        return " ".join(f"{x},{y}" for x, y in self.points)

    @property
    def end(self) -> tuple[int, int]:
        return self.points[-1]

    @property
    def marks(self) -> list[date]:
        """Return the weeks that are written under the curve."""
        return [self.weeks[place][0] for place in (0, 4, 8, 11)]


def growth(publication: Publication, today: date) -> Growth:
    """Count the confirmations of the last twelve whole weeks, Monday to Sunday on the author's calendar; one query.

    They are counted in the consent ledger within these weeks, whatever the list's size; erasing a reader changes none.
    """
    monday = today - timedelta(days=today.weekday())
    starts = [monday - timedelta(weeks=back) for back in range(WEEKS, -1, -1)]
    edges = [clock.instant(day, time.min, publication.zone) for day in starts]
    rows = Consent.objects.filter(publication=publication, kind=Consent.Kind.CONFIRM, purpose="daily")
    counted = rows.filter(at__gte=edges[0], at__lt=edges[-1]).aggregate(**weekly(edges))
    sundays = [day - timedelta(days=1) for day in starts[1:]]
    return Growth([(day, counted[f"week{place}"]) for place, day in enumerate(sundays)])


def weekly(edges: list[datetime]) -> dict[str, Any]:
    pairs = pairwise(edges)
    return {f"week{place}": Count("pk", filter=Q(at__gte=a, at__lt=b)) for place, (a, b) in enumerate(pairs)}
