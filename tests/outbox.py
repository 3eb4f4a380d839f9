"""A day that has been sent, for what comes back of it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from newsletters import planning, postage, promise, sending
from newsletters.models import Delivery, Publication, Series, Subscriber
from tests.conftest import Reader
from tests.test_planning import make_issue

MONDAY = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)  # 7:00 in Paris
SUNDAY = MONDAY - timedelta(hours=18)
ONE_DAY = timedelta(days=1)

Send = Callable[..., list[Subscriber]]


def send_day(day: int) -> None:
    """Plan and send the day with this number after Monday."""
    now = MONDAY + ONE_DAY * day
    planning.tick(now)
    while sending.drain(lambda: now):
        pass


def row(reader: Subscriber, day: int = 0) -> Delivery:
    rows = Delivery.objects.select_related("publication").filter(subscriber=reader, slot=0)
    found: Delivery = rows.get(local_date=(MONDAY + ONE_DAY * day).date())
    return found


def message_id(reader: Subscriber, day: int = 0) -> str:
    return postage.message_id(row(reader, day))


def token(reader: Subscriber, day: int = 0) -> str:
    return postage.token(row(reader, day))


@pytest.fixture
def sent(publication: Publication, reader: Reader) -> Send:
    """Send one day's issue, or several days', to a number of readers."""

    def make(count: int = 1, days: int = 1) -> list[Subscriber]:
        queue = Series.objects.create(publication=publication, kind=Series.Kind.DAILY, name="File", slug="file")
        for number in range(days + 1):
            queue.append(make_issue(publication, f"issue{number}"))
        readers = [reader(f"reader{n}@example.com", now=SUNDAY) for n in range(count)]
        for day in range(days):
            send_day(day)
        promise.count(MONDAY.date(), [publication.pk])
        return readers

    return make
