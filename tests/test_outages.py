"""What nobody planned in time: no day is lost, the ledger says it was missed, and it costs no issue."""

from datetime import date, datetime, time, timedelta

import pytest
import time_machine
from django.contrib.auth.models import User
from django.db.models import Min
from django.test import Client

from newsletters import invariants, planning, promise
from newsletters.models import Clock, Day, Delivery, Publication, Series, Subscriber
from newsletters.models.outgoing import State
from tests.conftest import Reader
from tests.test_admin import of, publication_form
from tests.test_planning import MONDAY, ONE_DAY, SUNDAY_NOON, make_issue, send_all

HOUR = timedelta(hours=1)
THURSDAY_NOON = MONDAY + 3 * ONE_DAY + 5 * HOUR
AWAY = (State.MISSED, "outage")


@pytest.fixture
def boss(client: Client, db: None) -> Client:
    client.force_login(User.objects.create_superuser("boss"))
    return client


@pytest.fixture
def queue(publication: Publication) -> Series:
    series = Series.objects.create(publication=publication, kind=Series.Kind.DAILY, name="File", slug="file")
    for number in range(1, 15):
        series.append(make_issue(publication, f"d{number}"))
    return series


def live(until: datetime) -> None:
    """Let every clock strike in time, all sent at once."""
    while (at := Clock.objects.aggregate(at=Min("next_at"))["at"]) <= until:
        planning.tick(at)
        send_all(at)


def ends(reader: Subscriber) -> dict[int, tuple[str, str]]:
    rows = Delivery.objects.filter(subscriber=reader, slot=0).order_by("local_date")
    return {row.local_date.day: (row.state, row.reason) for row in rows}


def subjects(reader: Subscriber) -> list[str]:
    rows = Delivery.objects.filter(subscriber=reader, state=State.SENT).order_by("local_date").select_related("issue")
    return [row.issue.subject if row.issue else "" for row in rows]


@pytest.mark.parametrize("changed", [{"hour": "08:00"}, {"weekdays": "67"}, {"zone": "Asia/Tokyo"}])
def test_a_promise_edited_after_an_outage_loses_no_day(
    boss: Client, queue: Series, reader: Reader, changed: dict[str, str]
) -> None:
    alice = reader(now=SUNDAY_NOON)
    live(MONDAY)

    with time_machine.travel(THURSDAY_NOON, tick=False):
        form = publication_form(queue.publication, **changed)
        assert boss.post(of(queue.publication, "change", queue.publication.pk), form).status_code == 302
    planning.tick(THURSDAY_NOON)
    send_all(THURSDAY_NOON)
    live(MONDAY + 7 * ONE_DAY)
    promise.go_round(MONDAY + 9 * ONE_DAY)

    assert list(ends(alice).items())[:4] == [(23, (State.SENT, "")), (24, AWAY), (25, AWAY), (26, (State.SENT, ""))]
    days = list(Day.objects.filter(date__lte=date(2026, 11, 26)).order_by("date"))
    assert [(day.kept, day.hour, day.weekdays) for day in days] == [
        (kept, time(7), "1234567") for kept in (True, False, False, True)
    ]
    assert [day.missed for day in days] == [{}, {"outage": 1}, {"outage": 1}, {}]
    assert not list(invariants.ledger(Day.objects.all()))


def test_clocks_set_anew_while_nothing_could_be_planned_lose_no_day(queue: Series, reader: Reader) -> None:
    alice = reader(now=SUNDAY_NOON)
    live(MONDAY)

    queue.publication.hour = time(8)
    queue.publication.save()
    Clock.objects.reset(queue.publication, THURSDAY_NOON)
    planning.tick(THURSDAY_NOON)

    assert ends(alice) == {23: (State.SENT, ""), 24: AWAY, 25: AWAY, 26: (State.PLANNED, "")}


def test_days_that_were_not_promised_are_not_struck_after_the_fact(queue: Series, reader: Reader) -> None:
    Publication.objects.update(weekdays="1")
    alice = reader(now=SUNDAY_NOON, publication=Publication.objects.get())
    live(MONDAY)

    Publication.objects.update(weekdays="1234567")
    Clock.objects.reset(Publication.objects.get(), THURSDAY_NOON)
    planning.tick(THURSDAY_NOON)

    assert list(ends(alice)) == [23, 26]


def test_an_issue_that_could_reach_nobody_any_more_waits_for_the_next_date(queue: Series, reader: Reader) -> None:
    alice = reader(now=SUNDAY_NOON)

    planning.tick(MONDAY + 15.5 * HOUR)  # 22:30 in Paris, too late for the 23rd
    live(MONDAY + 2 * ONE_DAY)

    assert ends(alice)[23] == AWAY
    assert subjects(alice) == ["d1", "d2"]


def test_an_issue_that_others_still_get_in_time_is_fixed_for_all(queue: Series, reader: Reader) -> None:
    alice, taro = reader(now=SUNDAY_NOON), reader("taro@example.com", zone="Asia/Tokyo", now=SUNDAY_NOON)

    planning.tick(MONDAY + 15.5 * HOUR)
    live(MONDAY + 2 * ONE_DAY)

    assert ends(alice)[23] == AWAY
    assert (subjects(alice), subjects(taro)) == (["d2", "d3"], ["d1", "d2"])
