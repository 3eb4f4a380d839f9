"""What a reader is owed where the pace changes, a sequence ends within the week, or an email does not arrive."""

import random
from collections import Counter
from datetime import UTC, date, datetime, timedelta

import pytest
from django.db.models import Min
from django.test import Client

from newsletters import invariants, planning, sending, stuck
from newsletters.links import Purpose
from newsletters.models import Clock, Delivery, Publication, Series, Subscriber
from newsletters.models.outgoing import HAD, State
from tests.conftest import Reader
from tests.test_pace import door, gathered, make_series

SUNDAY_NOON = datetime(2026, 11, 22, 11, 0, tzinfo=UTC)
ONE_DAY = timedelta(days=1)
ZONES = ["Europe/Paris", "Asia/Tokyo", "America/New_York", "Pacific/Auckland"]

Came = list[tuple[date, list[str]]]


@pytest.fixture
def daily(publication: Publication) -> Series:
    return make_series(publication, Series.Kind.DAILY, "d", 70)


def strike() -> datetime:
    """Let the next clock strike, close what came too late until then, and compare what it gives with the rules."""
    at: datetime = Clock.objects.aggregate(at=Min("next_at"))["at"]
    sending.sweep(at)
    planning.tick(at)
    for struck in invariants.last_struck(Publication.objects.get()):
        if struck.due_at == at:
            assert not list(invariants.as_the_cascade_says(struck))
    return at


def live(first: int, last: int, outages: tuple[int, ...] = ()) -> None:
    """Let these days of November pass, December's counted on; in an outage no mail leaves."""
    for number in range(first, last + 1):
        midnight = datetime(2026, 11, 1, tzinfo=UTC) + number * ONE_DAY
        while Clock.objects.filter(next_at__lt=midnight).exists():
            at = strike()
            if number not in outages:
                sending.drain(lambda: at)  # noqa: B023 - called before the next turn


def came(reader: Subscriber) -> Came:
    rows = Delivery.objects.filter(subscriber=reader, state__in=HAD).order_by("local_date").select_related("issue")
    return [(row.local_date, gathered(row.issue)) for row in rows]


def d(first: int, last: int) -> list[str]:
    return [f"d{number}" for number in range(first, last + 1)]


def back_to_daily(client: Client, reader: Subscriber) -> None:
    form = {"save": "", "zone": reader.zone, "until": "", "pace": "daily", "weekday": "7"}
    client.post(door(Purpose.READER, reader), form)
    reader.refresh_from_db()
    assert reader.digest_on is None


def test_the_week_comes_again_where_its_email_did_not_leave(client: Client, daily: Series, reader: Reader) -> None:
    alice = reader(now=SUNDAY_NOON, digest_on=7)
    live(23, 26)
    back_to_daily(client, alice)

    live(27, 30, outages=(27,))

    assert came(alice) == [(date(2026, 11, 28), d(1, 6)), (date(2026, 11, 29), d(7, 7)), (date(2026, 11, 30), d(8, 8))]
    ways = Delivery.objects.filter(subscriber=alice).order_by("local_date").values_list("way", "state")
    assert list(ways) == [("digest", "missed"), ("digest", "sent"), ("daily", "sent"), ("daily", "sent")]


def test_the_week_comes_after_a_pause_that_began_before_it(client: Client, daily: Series, reader: Reader) -> None:
    alice = reader(now=SUNDAY_NOON, digest_on=7)
    live(23, 26)
    back_to_daily(client, alice)
    alice.pause(date(2026, 11, 28), strike())

    live(27, 29)

    assert came(alice) == [(date(2026, 11, 28), d(1, 6)), (date(2026, 11, 29), d(7, 7))]


def test_the_week_comes_again_where_it_turns_out_later_that_it_was_lost(
    client: Client, daily: Series, reader: Reader
) -> None:
    alice = reader(now=SUNDAY_NOON, digest_on=7)
    live(23, 26)
    back_to_daily(client, alice)
    live(27, 28)
    row = Delivery.objects.filter(subscriber=alice, way="digest")
    row.update(state=State.UNCERTAIN)

    stuck.again([row.get()], datetime(2026, 11, 28, 12, tzinfo=UTC))
    live(29, 30)

    assert came(alice) == [
        (date(2026, 11, 28), d(6, 6)),
        (date(2026, 11, 29), [*d(1, 5), *d(7, 7)]),
        (date(2026, 11, 30), d(8, 8)),
    ]


@pytest.mark.parametrize("zone", ["Europe/Paris", "Pacific/Auckland"])
def test_the_week_in_which_a_sequence_ends_goes_on_with_the_queue(
    publication: Publication, daily: Series, reader: Reader, zone: str
) -> None:
    make_series(publication, Series.Kind.SEQUENCE, "s", 9)
    weekly = reader("weekly@example.com", now=SUNDAY_NOON, zone=zone, digest_on=7)
    plain = reader(now=SUNDAY_NOON, zone=zone)

    live(23, 43)

    each = [subject for _day, subjects in came(plain) for subject in subjects]
    assert [subjects for _day, subjects in came(weekly)] == [each[:7], each[7:14], each[14:21]]
    assert each[6:10] in (["s7", "s8", "s9", "d10"], ["s7", "s8", "s9", "d9"])


def test_after_a_lost_digest_the_sequences_last_steps_take_the_first_of_its_dates(
    publication: Publication, daily: Series, reader: Reader
) -> None:
    make_series(publication, Series.Kind.SEQUENCE, "s", 2)
    weekly = reader(now=SUNDAY_NOON, digest_on=7)

    live(23, 36, outages=(29,))

    assert came(weekly) == [(date(2026, 12, 6), ["s1", "s2", *d(3, 14)])]


@pytest.mark.parametrize("seed", range(3))
def test_whatever_fails_and_whoever_changes_nothing_repeats_and_nothing_is_left_out(
    publication: Publication, daily: Series, reader: Reader, seed: int
) -> None:
    chance = random.Random(seed)
    steps = chance.randrange(3, 12)
    make_series(publication, Series.Kind.SEQUENCE, "s", steps)
    readers = [reader(f"r{n}@example.com", zone=zone, now=SUNDAY_NOON) for n, zone in enumerate(ZONES)]
    first = chance.randrange(25, 34)
    # Further apart than a digest reaches back.
    outages = (first, first + 16)
    for number in range(23, 58):
        for one in readers:
            change(one, chance.randrange(12) if number < 50 else 1, chance)
        live(number, number, outages)

    for one in readers:
        subjects = [subject for _day, subjects in came(one) for subject in subjects]
        assert max(Counter(subjects).values()) == 1
        assert [subject for subject in subjects if subject[0] == "s"] == [
            f"s{number}" for number in range(1, steps + 1)
        ]
        numbers = sorted({number_of(subject) for subject in subjects if subject[0] == "d"} | unread(one))
        assert numbers == list(range(numbers[0], numbers[-1] + 1))


def change(one: Subscriber, what: int, chance: random.Random) -> None:
    one.refresh_from_db()
    if what == 0:
        one.receive_weekly(chance.randrange(1, 8))
    elif what == 1:
        one.receive_daily()


def unread(one: Subscriber) -> set[int]:
    """Return the daily issues that did not arrive: the next day had its own."""
    rows = Delivery.objects.filter(subscriber=one, way="daily", state=State.MISSED).select_related("issue")
    return {number_of(row.issue.subject) for row in rows if row.issue}


def number_of(subject: str) -> int:
    return int(subject[1:])
