"""What an author's desk shows: a publication with readers round the world, a year behind it and a queue ahead."""

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.test import Client

from newsletters import planning, promise
from newsletters.models import Day, Delivery, Member, Publication, Series
from newsletters.models.outgoing import State
from optin.models import Consent
from tests.conftest import Reader
from tests.test_planning import make_issue

# Monday 23 November 2026, 7:04 in Paris
NOW = datetime(2026, 11, 23, 6, 4, tzinfo=UTC)
THE_23RD = date(2026, 11, 23)
ONE_DAY = timedelta(days=1)


@pytest.fixture
def now() -> Iterator[Callable[[datetime], datetime]]:
    """Stop the clock at NOW; now(instant) sets it."""
    with time_machine.travel(NOW, tick=False) as clock:

        def set_to(moment: datetime) -> datetime:
            clock.move_to(moment)
            return moment

        yield set_to


@pytest.fixture
def maud(publication: Publication) -> User:
    user = User.objects.create_user("maud", password="une phrase assez longue")
    Member.objects.create(publication=publication, user=user)
    return user


@pytest.fixture
def desk(client: Client, maud: User, now: Any) -> Client:
    client.force_login(maud)
    return client


def look(desk: Client) -> str:
    response = desk.get("/desk/pas/")
    assert response.status_code == 200
    return " ".join(response.content.decode().split())


def daily_queue(publication: Publication, number: int) -> Series:
    series = Series.objects.create(publication=publication, kind=Series.Kind.DAILY, name="File", slug="file")
    for place in range(1, number + 1):
        series.append(make_issue(publication, f"d{place}"))
    return series


def past(publication: Publication, days: int, missed: tuple[int, ...] = (), late: tuple[int, ...] = ()) -> None:
    """Write the ledger of so many days before the 23rd; `missed` and `late` count back from the 22nd."""
    issue = make_issue(publication, "avant")
    rows = []
    for back in range(1, days + 1):
        day = THE_23RD - back * ONE_DAY
        at = datetime.combine(day, time(6), tzinfo=UTC)
        ends: dict[str, Any] = {"on_time": 20, "kept": True}
        if back - 1 in missed:
            ends = {"missed": {"dry": 20}, "kept": False}
        elif back - 1 in late:
            ends = {"late": 20, "kept": True}
        shown = None if ends["kept"] is False else issue
        rows.append(Day(publication=publication, date=day, issue=shown, fixed_at=at, closed_at=at, expected=20, **ends))
    Day.objects.bulk_create(rows)


def tick(now: datetime) -> None:
    promise.tick(now, planning.tick(now))


def end(now: datetime, states: dict[str, str]) -> None:
    """Stand in for the senders: by address, how the readers' planned emails ended."""
    for row in Delivery.objects.filter(state=State.PLANNED).select_related("subscriber"):
        if state := states.get(row.subscriber.address, states.get("*", "")):
            name, _colon, reason = state.partition(":")
            Delivery.objects.filter(pk=row.pk).update(state=name, reason=reason, settled_at=now)
    tick(now)


def confirmations(publication: Publication, weeks: list[int]) -> None:
    """Write so many confirmations in each of the last weeks, the oldest first."""
    monday = datetime(2026, 11, 23, tzinfo=UTC)
    for place, number in enumerate(weeks):
        at = monday - timedelta(weeks=len(weeks) - place) + timedelta(days=2)
        for _one in range(number):
            Consent.record(publication, Consent.Kind.CONFIRM, "Oui.", "/", at, "", "", "")


def world(reader: Reader, number: int = 0) -> None:
    """Readers in Paris, Montreal and Tahiti, who came a week ago; and so many more in Paris."""
    came = NOW - timedelta(days=7)
    for name, zone in (("alice", "Europe/Paris"), ("bob", "America/Toronto"), ("tom", "Pacific/Tahiti")):
        reader(f"{name}@example.com", zone=zone, now=came)
    for place in range(number):
        reader(f"r{place}@example.com", now=came)
