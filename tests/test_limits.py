"""What a relay may send, shared by all workers; what happens when it is slow, away, or too small for the day."""

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import connection, connections
from django.test import Client
from django.urls import reverse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from newsletters import allowances, letters, limits, planning, promise, sending
from newsletters.limits import Window
from newsletters.models import Allowance, Delivery, Letter, Publication, Relay, Series
from newsletters.models.outgoing import State
from tests.conftest import Reader
from tests.servers import MailServer
from tests.test_planning import make_issue

MONDAY = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)  # 7:00 in Paris
SUNDAY = MONDAY - timedelta(hours=18)
HOUR = timedelta(hours=1)

numbers = st.one_of(st.none(), st.integers(1, 300))


def relay(**columns: Any) -> Relay:
    made = Relay.objects.filter(name="MAIL_URL").first() or Relay(name="MAIL_URL")
    for name, value in columns.items():
        setattr(made, name, value)
    made.full_clean()
    made.save()
    return made


@pytest.fixture(autouse=True)
def mail_url(settings: Any, smtp: MailServer) -> None:
    settings.MAIL_URL = smtp.url


@pytest.fixture
def planned(publication: Publication, reader: Reader) -> Callable[..., None]:
    """Plan Monday's issue for readers at a domain."""

    def make(count: int, **more: int) -> None:
        queue = Series.objects.create(publication=publication, kind=Series.Kind.DAILY, name="File", slug="file")
        queue.append(make_issue(publication, "Le carnet"))
        for domain, many in {"example.com": count, **more}.items():
            for number in range(many):
                reader(f"reader{number}@{domain}", now=SUNDAY)
        promise.tick(MONDAY, planning.tick(MONDAY))

    return make


def drain(now: datetime = MONDAY) -> dict[str, int]:
    return dict(sending.drain(lambda: now))


def states() -> dict[str, int]:
    rows = list(Delivery.objects.values_list("state", flat=True))
    return {state: rows.count(state) for state in set(rows)}


# The arithmetic


@given(st.integers(1, 5000), st.one_of(st.none(), st.integers(1, 10**6)), st.integers(1, 90))
def test_a_warm_up_grows_to_the_limit_and_never_above(volume: int, target: int | None, days: int) -> None:
    warm = Relay(per_day=target, warm_up_from=date(2026, 11, 23), warm_up_volume=volume, warm_up_days=days)

    ramp = [limits.day_limit(warm, date(2026, 11, 23) + timedelta(days=day)) for day in range(days + 1)]
    growing = [number for number in ramp[:-1] if number is not None]

    assert growing[0] == min(volume, target or volume)
    assert growing == sorted(growing)
    assert ramp[-1] == target
    assert target is None or growing[-1] <= target


def test_a_warm_up_of_200_a_day_takes_42_days() -> None:
    warm = Relay(per_day=20_000, warm_up_from=date(2026, 11, 23))

    assert limits.day_limit(warm, date(2026, 11, 23)) == 200
    assert limits.day_limit(warm, date(2026, 12, 14)) == 2000
    assert limits.day_limit(warm, date(2027, 1, 4)) == 20_000


def test_a_tenth_is_kept_for_letters_and_at_least_50_a_day() -> None:
    def kept(**columns: int) -> int:
        return limits.windows(Relay(**columns), MONDAY)[0].kept

    assert [kept(per_day=number) for number in (2000, 300, 60, 1)] == [200, 50, 30, 0]
    assert [kept(per_hour=100), kept(per_second=10), kept(per_second=1)] == [10, 1, 0]
    assert kept(per_day=2000, letters_share=20) == 400


def test_a_limit_by_domain_must_be_one() -> None:
    limits.known_caps({"gmail.com": "20/s", "xn--bcher-kva.example": "500/h"})

    for wrong in ({"gmail.com": "0/s"}, {"gmail.com": "many"}, {"gmail.com": 5}, {"Gmail com": "5/s"}, ["gmail.com"]):
        with pytest.raises(ValidationError):
            limits.known_caps(wrong)


def test_a_slowed_relay_is_twice_as_fast_every_five_minutes_until_it_is_as_before() -> None:
    slow = Relay(slowed_at=MONDAY, slowed_from=8.0, slowed_to=2.0)

    speeds = [limits.speed(slow, MONDAY + timedelta(minutes=minutes)) for minutes in (0, 5, 9, 10)]

    assert speeds[:2] == [2.0, 4.0]
    assert 6 < (speeds[2] or 0) < 8
    assert speeds[3] is None


# Taking and giving back


Bite = tuple[float, int, bool, float, float]
bites = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.1, 0.4, 1.0, 30.0, 600.0, 3600.0, 40_000.0]),  # seconds until it is taken
        st.integers(1, 250),  # wanted
        st.booleans(),  # letters
        st.sampled_from([0.0, 0.5, 1.0]),  # the share that leaves
        st.sampled_from([0.0, 0.2, 3.0, 100.0]),  # seconds until it is told
    ),
    max_size=40,
)


@pytest.mark.django_db
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 30), st.integers(1, 200), st.integers(1, 400), bites)
def test_no_window_ever_holds_more_than_its_limit(second: int, hour: int, day: int, taken: list[Bite]) -> None:
    Allowance.objects.all().delete()
    one = relay(per_second=second, per_hour=hour, per_day=day)
    left: list[tuple[datetime, int, bool]] = []
    open_: list[tuple[datetime, Allowance, int]] = []
    now = MONDAY

    for wait, wanted, letter, share, takes in taken:
        now += timedelta(seconds=wait)
        for end in sorted((end for end in open_ if end[0] <= now), key=lambda end: end[0]):
            told(left, *end)
            open_.remove(end)
        if bite := allowances.take(one, wanted, now, letter):
            assert bite.number <= wanted
            open_.append((now + timedelta(seconds=takes), bite, int(bite.number * share)))
    for end in open_:
        told(left, *end)

    for window in limits.windows(one, now):
        keeps(window, left)


def told(left: list[tuple[datetime, int, bool]], at: datetime, bite: Allowance, number: int) -> None:
    """Let messages leave at the last moment before their worker tells of them."""
    left.append((at, number, bite.letters))
    Allowance.objects.filter(pk=bite.pk).update(number=number, until=at)


def keeps(window: Window, left: Iterable[tuple[datetime, int, bool]]) -> None:
    sent = sorted(left, key=lambda one: one[0])
    for start, _number, _letter in sent:
        within = [one for one in sent if start <= one[0] < start + window.length]
        assert sum(number for _at, number, _letter in within) <= window.number
        assert sum(number for _at, number, letter in within if not letter) <= window.number - window.kept


@pytest.mark.django_db
def test_what_a_dead_worker_took_counts_until_its_lease_is_over() -> None:
    one = relay(per_hour=100)

    assert allowances.take(one, 500, MONDAY)
    later = MONDAY + HOUR + timedelta(minutes=4)

    assert allowances.take(one, 1, later) is None
    assert allowances.take(one, 1, later + timedelta(minutes=2)) is not None


def _hammer(database: str, seconds: float) -> list[tuple[float, int, bool]]:
    """Take, send and tell, as one worker does, for some seconds; return when how many left."""
    connections["default"].settings_dict["NAME"] = database
    connections["default"].close()
    left: list[tuple[float, int, bool]] = []
    one, end = Relay.objects.get(), time.monotonic() + seconds
    while time.monotonic() < end:
        letter = len(left) % 5 == 0
        bite = allowances.take(one, 7, datetime.now(UTC), letter)
        if bite is None:
            time.sleep(0.02)
            continue
        time.sleep(0.01)
        now = datetime.now(UTC)
        left.append((now.timestamp(), bite.number, letter))
        Allowance.objects.filter(pk=bite.pk).update(until=now)
    connections["default"].close()
    return left


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_four_processes_share_one_limit() -> None:
    one = relay(per_second=40, per_hour=120)
    database = str(connection.settings_dict["NAME"])
    connections.close_all()

    with ProcessPoolExecutor(4) as workers:
        runs = [workers.submit(_hammer, database, 5) for _ in range(4)]
        left = [one for run in runs for one in run.result(timeout=60)]

    stamped = [(datetime.fromtimestamp(at, UTC), number, letter) for at, number, letter in left]
    for window in limits.windows(one, datetime.now(UTC)):
        keeps(window, stamped)
    assert sum(number for _at, number, _letter in left) >= 108


# Sending within limits


def test_an_hour_takes_its_share_and_the_next_hour_the_next(planned: Any, smtp: MailServer) -> None:
    relay(per_hour=20)
    planned(30)

    assert drain() == {"sent": 18}
    assert drain(MONDAY + timedelta(minutes=59)) == {}
    assert drain(MONDAY + HOUR + timedelta(seconds=1)) == {"sent": 12}

    assert len(smtp.received) == 30


def test_a_letter_never_waits_behind_the_daily_emails(planned: Any, smtp: MailServer, publication: Publication) -> None:
    relay(per_hour=20)
    planned(30)
    drain()

    letters.write(
        publication, Letter.Kind.CONFIRM, "bob@example.com", "1", language="fr", context={"request": 1}, now=MONDAY
    )

    assert drain() == {"sent": 1}
    assert smtp.received[-1].recipients == ["bob@example.com"]


def test_what_could_not_leave_is_given_back(planned: Any, smtp: MailServer) -> None:
    relay(per_hour=20)
    planned(10)
    smtp.replies["RCPT"] = "450 4.2.0 later"
    drain()
    smtp.replies.clear()

    assert drain(MONDAY + timedelta(minutes=3)) == {"sent": 10}


def test_a_second_is_kept_and_the_loop_waits_for_the_next(planned: Any, smtp: MailServer) -> None:
    start = datetime.now(UTC)
    relay(per_second=20)
    planned(30)
    # The clock goes on from the promised hour.
    ended = sending.drain(lambda: MONDAY + (datetime.now(UTC) - start))

    assert ended["sent"] == 30
    gone = [(row.settled_at, 1, False) for row in Delivery.objects.all() if row.settled_at]
    # What is told at once left before: a bite's messages are counted from the last of them.
    assert Allowance.objects.count() >= 6
    assert len(gone) == 30


def test_a_domain_takes_what_it_is_given_and_holds_nobody_else(planned: Any, smtp: MailServer) -> None:
    relay(domain_caps={"gmail.example": "10/h"})
    planned(5, **{"gmail.example": 15})

    first = drain()
    waits = list(Delivery.objects.filter(state=State.PLANNED).order_by("try_at").values_list("try_at", flat=True))
    assert drain() == {}

    assert first == {"sent": 14}
    assert sum(one.recipients[0].endswith("@gmail.example") for one in smtp.received) == 9
    assert len(waits) == len(set(waits)) == 6
    for at in [*waits, MONDAY + HOUR + timedelta(minutes=50)]:
        drain(max(at, MONDAY + HOUR + timedelta(seconds=1)))
    assert states() == {State.SENT: 20}


def test_what_the_limits_kept_back_all_day_is_missed_for_that_reason(planned: Any, publication: Publication) -> None:
    relay(per_day=40)
    planned(25)
    for hour in range(15):
        drain(MONDAY + hour * HOUR)

    sending.sweep(MONDAY + 16 * HOUR)

    missed = Delivery.objects.filter(state=State.MISSED)
    assert (states()[State.SENT], set(missed.values_list("reason", flat=True))) == (20, {"limit"})


@pytest.mark.django_db
def test_a_cap_that_is_taken_away_in_the_middle_of_a_send_holds_nobody_back() -> None:
    as_known = relay(domain_caps={"gmail.example": "2/h"})
    Relay.objects.update(domain_caps={})

    taken = allowances.take(as_known, 5, MONDAY, domain="gmail.example")

    assert taken is not None
    assert taken.number == 5


def test_it_forgets_what_has_left_every_window() -> None:
    assert timedelta(days=1) < allowances.REMEMBERED


@pytest.mark.django_db
def test_the_admin_sets_limits(client: Client) -> None:
    client.force_login(User.objects.create_superuser("boss"))
    known = {"name": "Mail", "rank": "0", "publication": "", "url": "", "letters_share": "10"}
    known |= {"warm_up_volume": "200", "warm_up_days": "42", "per_day": "5000", "warm_up_from": "2026-11-23"}

    wrong = client.post(reverse("admin:newsletters_relay_add"), known | {"domain_caps": '{"gmail.com": "fast"}'})
    client.post(reverse("admin:newsletters_relay_add"), known | {"domain_caps": '{"gmail.com": "20/s"}'})

    assert "gmail.com cannot be read" in wrong.content.decode()
    made = Relay.objects.get()
    assert (made.per_day, made.domain_caps, made.warm_up_from) == (5000, {"gmail.com": "20/s"}, date(2026, 11, 23))
