"""When the limits cannot carry the day, the author hears of it in the morning."""

from datetime import date, datetime, timedelta
from typing import Any

from django.test import Client

from newsletters import alarms, limits
from newsletters.limits import Demand, Meter
from newsletters.models import Alarm, Publication, Relay
from tests.conftest import Reader
from tests.test_limits import HOUR, MONDAY, mail_url, planned, relay  # noqa: F401


def foresee(number: int, until: datetime, **columns: int) -> int:
    demand = Demand(1, MONDAY, until, number)
    return sum(one.short for one in limits.foresee([Meter(Relay(**columns))], [demand], MONDAY))


def test_it_foresees_what_the_limits_cannot_carry() -> None:
    evening = MONDAY + 15 * HOUR

    assert foresee(1000, evening, per_hour=100) == 0
    assert foresee(1500, evening, per_hour=100) == 150
    assert foresee(1500, evening, per_day=1000) == 600
    assert foresee(100_000, evening, per_second=2) == 0
    assert foresee(100_000, evening, per_second=1) == 46_000


def test_the_author_hears_in_the_morning(planned: Any, desk: Client, publication: Publication, reader: Reader) -> None:  # noqa: F811
    relay(per_day=100)
    reader("tahiti@example.com", zone="Pacific/Tahiti", now=MONDAY - 6 * HOUR)
    planned(59)

    for _twice in range(2):
        alarms.look_at_limits(MONDAY)

    alarm = Alarm.objects.get(cause="limit")
    assert alarm.date == date(2026, 11, 23)
    # The one in Tahiti may still be sent 24 hours later: it is in time there.
    assert "60, 9 " in alarm.text.replace("\u202f", " ")
    assert "60, 9 " in desk.get("/desk/pas/").content.decode()


def test_the_alarm_is_over_once_the_limits_grow(planned: Any) -> None:  # noqa: F811
    relay(per_day=100)
    planned(60)
    alarms.look_at_limits(MONDAY)
    relay(per_day=1000)

    alarms.look_at_limits(MONDAY + timedelta(minutes=10))

    assert Alarm.objects.get(cause="limit").cleared_at == MONDAY + timedelta(minutes=10)


def test_no_limits_raise_no_alarm(planned: Any, django_assert_num_queries: Any) -> None:  # noqa: F811
    relay()
    planned(3)

    with django_assert_num_queries(2):
        alarms.look_at_limits(MONDAY)

    assert not Alarm.objects.exists()


def test_a_domain_that_takes_too_few_is_told_in_the_morning_too(
    planned: Any,  # noqa: F811
    reader: Reader,
) -> None:
    """Gmail may have 2 an hour here, from 7:00 until 22:00 and in Tahiti; 45 of ours are there."""
    relay(domain_caps={"gmail.example": "2/h"})
    reader("tahiti@gmail.example", zone="Pacific/Tahiti", now=MONDAY - 6 * HOUR)
    planned(5, **{"gmail.example": 44})

    alarms.look_at_limits(MONDAY)
    told = Alarm.objects.get(cause="limit").text.replace("\u202f", " ")
    relay(domain_caps={"gmail.example": "20/h"})
    alarms.look_at_limits(MONDAY + timedelta(minutes=10))

    # Half of two is kept for letters: one an hour, fifteen by the evening, and Tahiti's own day ends later.
    assert "50, 29 " in told
    assert Alarm.objects.get(cause="limit").cleared_at


def test_a_domain_that_another_relay_takes_is_no_shortfall(
    planned: Any,  # noqa: F811
) -> None:
    relay(domain_caps={"gmail.example": "2/h"})
    Relay.objects.create(name="second", rank=1)
    planned(1, **{"gmail.example": 44})

    alarms.look_at_limits(MONDAY)

    assert not Alarm.objects.exists()
