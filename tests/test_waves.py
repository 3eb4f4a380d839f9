"""Readers who come in numbers enter as the limits can carry them, whoever was heard of last first."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db.models import Max, Min, Q, Value
from django.db.models.functions import Concat
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st

from newsletters import invariants, limits, planning, promise, waves
from newsletters.models import Delivery, Member, Publication, Relay, Series, Subscriber, Wave
from tests.conftest import Reader
from tests.test_planning import make_issue

MONDAY = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)  # 7:00 in Paris
ONE_DAY = timedelta(days=1)
WEDNESDAY = date(2026, 11, 25)


@pytest.fixture
def relay(db: None) -> Relay:
    """A new server: 200 messages on Monday, 20,000 a day in 42 days."""
    return Relay.objects.create(name="MAIL_URL", per_day=20_000, warm_up_from=MONDAY.date())


def come(publication: Publication, number: int, zone: str = "Europe/Paris", **columns: Any) -> None:
    """Let readers come in numbers: active, and without a date."""
    start = Subscriber.objects.count()
    Subscriber.objects.bulk_create(
        Subscriber(
            publication=publication,
            address=f"r{place}@example.com",
            address_key=f"r{place}@example.com",
            address_hash=f"{place}",
            status=Subscriber.Status.ACTIVE,
            zone=zone,
            language="fr",
            **columns,
        )
        for place in range(start, start + number)
    )


def queue(publication: Publication, number: int = 4) -> None:
    series = Series.objects.create(publication=publication, kind=Series.Kind.DAILY, name="File", slug="file")
    for place in range(number):
        series.append(make_issue(publication, f"d{place}"))


def entered(publication: Publication) -> list[tuple[date, int]]:
    return [(wave.date, wave.readers) for wave in publication.waves.all()]


CARRIED = st.lists(st.integers(-20, 150), min_size=20, max_size=20)


@given(st.lists(st.sampled_from(["", "", "a.example", "b.example"]), max_size=200), CARRIED, CARRIED, CARRIED)
def test_no_date_carries_more_than_it_can(order: list[str], whole: list[int], a: list[int], b: list[int]) -> None:
    room, *each = (
        {WEDNESDAY + at * ONE_DAY: float(most) for at, most in enumerate(sorted(row))} for row in (whole, a, b)
    )
    capped = dict(zip(("a.example", "b.example"), each, strict=True))

    calendar = dict(limits.calendar(order, room, capped))

    entered: list[int] = []
    for day in room:
        wave = calendar.get(day, [])
        entered += wave
        without = sorted(set(range(len(order))) - set(entered))
        there = Counter(order[place] for place in entered)
        full = {domain for domain, own in capped.items() if there[domain] >= max(own[day], 0)}
        assert there.total() <= max(room[day], 0)
        assert all(there[domain] <= max(own[day], 0) for domain, own in capped.items())
        # Nobody is passed over who had room, at all and in the domain.
        assert there.total() >= room[day] or all(order[place] in full for place in without)
        assert wave == sorted(wave)
        assert all(order[place] in full for place in without if wave and place < wave[-1])
    assert len(set(entered)) == len(entered)


def test_without_limits_all_enter_at_once(publication: Publication) -> None:
    come(publication, 30)

    assert waves.enter(publication, MONDAY) == [(WEDNESDAY, 30)]


def test_they_enter_as_the_warm_up_grows(publication: Publication, relay: Relay, reader: Reader) -> None:
    reader(now=MONDAY)
    come(publication, 500)

    calendar = waves.enter(publication, MONDAY)

    readers = 1
    for day, number in calendar:
        readers += number
        kept = max(50, -(-(limits.day_limit(relay, day) or 0) // 10))
        assert readers <= 0.9 * ((limits.day_limit(relay, day) or 0) - kept)
    assert readers == 501
    assert calendar[0][0] == WEDNESDAY
    assert len(calendar) > 5


def test_the_last_sign_of_life_comes_first(publication: Publication, relay: Relay) -> None:
    come(publication, 150, seen_at=MONDAY - 400 * ONE_DAY)
    come(publication, 100, seen_at=MONDAY - 2 * ONE_DAY)

    waves.enter(publication, MONDAY)

    long_ago = MONDAY - 100 * ONE_DAY
    dates = Subscriber.objects.aggregate(
        fresh=Max("member_since", filter=Q(seen_at__gt=long_ago)),
        first=Min("member_since", filter=Q(seen_at__lt=long_ago)),
        last=Max("member_since", filter=Q(seen_at__lt=long_ago)),
    )
    assert dates["fresh"] <= dates["first"] < dates["last"]


def test_before_their_wave_they_are_neither_expected_nor_missed(publication: Publication, relay: Relay) -> None:
    queue(publication)
    come(publication, 150)
    come(publication, 50, zone="Pacific/Honolulu")
    come(publication, 50, zone="Pacific/Kiritimati")
    calendar = dict(waves.enter(publication, MONDAY))

    last = max(calendar)
    now = MONDAY
    while now.date() <= last + ONE_DAY:
        promise.tick(now, planning.tick(now))
        for struck in invariants.last_struck(publication):
            assert not list(invariants.none_forgotten(struck))
        now += timedelta(hours=6)

    expected = 0
    for days in range((last - MONDAY.date()).days + 1):
        day = MONDAY.date() + days * ONE_DAY
        expected += calendar.get(day, 0)
        assert Delivery.objects.filter(local_date=day).count() == expected
    assert not Delivery.objects.filter(subscriber__member_since=None).exists()


def test_planning_anew_follows_the_limits(publication: Publication, relay: Relay) -> None:
    come(publication, 500)
    first = waves.enter(publication, MONDAY)
    assert waves.enter(publication, MONDAY) == first

    Relay.objects.update(warm_up_from=None)
    again = waves.enter(publication, MONDAY + ONE_DAY)

    assert sum(number for _day, number in again) + first[0][1] == 500
    assert entered(publication) == [first[0], *again]
    assert again == [(WEDNESDAY + ONE_DAY, 500 - first[0][1])]


def test_nobody_gets_a_date_that_no_limit_will_ever_carry(publication: Publication) -> None:
    Relay.objects.create(name="MAIL_URL", per_day=200)
    come(publication, 500)

    calendar, without = waves.planned(publication, MONDAY)
    waves.enter(publication, MONDAY)

    assert ([(day, len(keys)) for day, keys in calendar], without) == ([(WEDNESDAY, 135)], 365)
    assert waves.to_enter(publication).count() == 365


def test_a_domain_that_takes_few_gets_few_a_wave(publication: Publication) -> None:
    Relay.objects.create(
        name="MAIL_URL", per_day=100_000, warm_up_from=MONDAY.date(), domain_caps={"orange.example": "10/h"}
    )
    come(publication, 20, seen_at=MONDAY)
    come(publication, 20)
    Subscriber.objects.filter(seen_at=MONDAY).update(address_key=Concat("pk", Value("@orange.example")))

    assert waves.enter(publication, MONDAY) == [(WEDNESDAY, 28)]
    # At 10 an hour, one of them kept for letters, and a tenth left free for those who come by themselves
    assert publication.subscribers.exclude(member_since=None).filter(seen_at=MONDAY).count() == 8
    assert waves.to_enter(publication).filter(seen_at=MONDAY).count() == 12


def test_publications_that_share_a_relay_share_its_room(publication: Publication) -> None:
    Relay.objects.create(name="MAIL_URL", per_day=200)
    other = Publication.objects.create(name="Autre", slug="autre", author="Bob", sender="b@b.example")
    come(publication, 100)
    come(other, 100)

    waves.enter(publication, MONDAY)

    assert waves.enter(other, MONDAY) == [(WEDNESDAY, 35)]


def test_whoever_asks_meanwhile_starts_at_once(publication: Publication, relay: Relay) -> None:
    come(publication, 1)
    waves.enter(publication, MONDAY)
    alice = Subscriber.objects.get()

    alice.start(MONDAY)

    assert alice.member_since == MONDAY


def test_the_command_shows_and_enters(publication: Publication, relay: Relay, now: Any) -> None:
    come(publication, 200)
    seen, done = StringIO(), StringIO()

    call_command("enter_waves", "pas", "--preview", stdout=seen)
    assert not Wave.objects.exists()
    call_command("enter_waves", "pas", stdout=done)

    assert seen.getvalue() == done.getvalue()
    assert "2026-11-25" in seen.getvalue()
    assert "200 readers enter in" in done.getvalue()


def test_the_desk_shows_the_calendar(desk: Client, publication: Publication, relay: Relay) -> None:
    make_issue(publication, "un")
    come(publication, 300)
    assert "/desk/pas/waves/" in desk.get("/desk/pas/").content.decode()

    before = desk.get("/desk/pas/waves/").content.decode()
    assert not Wave.objects.exists()
    after = desk.post("/desk/pas/waves/", follow=True).content.decode()

    assert "300 readers have no date yet." in before
    assert "300 readers have a date" in after
    assert "Wednesday 25 November" in after
    assert '<path d="M0 160H0V' in after


def test_a_viewer_lets_nobody_in(desk: Client, publication: Publication) -> None:
    come(publication, 3)
    Member.objects.update(role=Member.Role.VIEWER)

    assert desk.get("/desk/pas/waves/").status_code == 200
    assert desk.post("/desk/pas/waves/").status_code == 403
    assert not Wave.objects.exists()
