"""Each later change is rehearsed again, in time for every zone."""

from collections.abc import Callable
from datetime import date, datetime, timedelta

import pytest

from newsletters import planning, rehearsal
from newsletters.models import Delivery, Publication, Rehearsal, Series, Subscriber
from tests.conftest import Reader
from tests.test_rehearsal import BODY, EVENING, LONG_AGO, ONE_DAY, add_readers, edit, make_issue, rehearse


@pytest.fixture
def daily(publication: Publication) -> Series:
    series = Series.objects.create(publication=publication, kind=Series.Kind.DAILY, name="File", slug="file")
    for number in range(1, 7):
        series.append(make_issue(publication, f"D{number}"))
    return series


def test_each_later_change_is_rehearsed_again(daily: Series, reader: Reader) -> None:
    reader(now=LONG_AGO)
    rehearse(daily.publication)

    edit(BODY + "\n\nUn mot de plus.")
    rehearse(daily.publication, EVENING + timedelta(hours=1))
    first, second = daily.entries.order_by("rank")[:2]
    daily.move(first)
    rehearse(daily.publication, EVENING + timedelta(hours=2))
    Publication.objects.update(accent="#aa0000")
    rehearse(daily.publication, EVENING + timedelta(hours=3))
    reader("bob@example.com", now=LONG_AGO)
    rehearse(daily.publication, EVENING + timedelta(hours=4))

    assert Rehearsal.objects.count() == 5
    assert second.issue.subject == "D2"
    daily.publication.refresh_from_db()
    assert rehearsal.rehearse(daily.publication, EVENING + timedelta(hours=5)) is None


def move(one: Subscriber) -> None:
    one.move("Asia/Tokyo", EVENING)


def walk(one: Subscriber) -> None:
    one.walk(Series.objects.create(publication=one.publication, name="Été", slug="ete"), EVENING)


@pytest.mark.parametrize(
    "change",
    [
        lambda one: one.pause(date(2026, 12, 1), EVENING),
        lambda one: one.leave(EVENING),
        lambda one: one.receive_weekly(1),
        lambda one: one.keep_pace("2"),
        move,
        walk,
    ],
    ids=["pause", "leave", "weekly", "own days", "move", "walk"],
)
def test_what_a_reader_changes_is_rehearsed_again(
    daily: Series, reader: Reader, change: Callable[[Subscriber], None]
) -> None:
    alice, _taro = reader(now=LONG_AGO), reader("taro@example.com", zone="Asia/Tokyo", now=LONG_AGO)
    rehearse(daily.publication)

    change(alice)
    rehearse(daily.publication, EVENING + timedelta(minutes=5))

    assert rehearsal.rehearse(daily.publication, EVENING + timedelta(minutes=10)) is None


def test_what_is_taken_back_is_rehearsed_again_too(publication: Publication, reader: Reader) -> None:
    alice = reader(now=LONG_AGO)
    alice.pause(date(2026, 12, 1), EVENING)
    rehearse(publication)
    alice.resume()
    dry = rehearse(publication, EVENING + timedelta(minutes=5))

    alice.pause(date(2026, 12, 1), EVENING)
    rehearse(publication, EVENING + timedelta(minutes=10))

    assert dry.problems == [{"kind": "dry", "readers": 1}]
    assert publication.rehearsals.latest("at").problems == []


def test_whoever_comes_back_from_a_pause_is_rehearsed_for(daily: Series, reader: Reader) -> None:
    reader(now=LONG_AGO)
    back, away = reader("back@example.com", now=LONG_AGO), reader("away@example.com", now=LONG_AGO)
    back.pause(date(2026, 11, 23), EVENING)
    away.pause(date(2026, 11, 24), EVENING)
    assert rehearse(daily.publication).readers == 2

    away.resume()

    assert rehearse(daily.publication, EVENING + timedelta(minutes=5)).readers == 3


def test_of_many_readers_one_more_or_less_is_not_rehearsed_again(daily: Series, reader: Reader) -> None:
    alice = reader(now=LONG_AGO)
    add_readers(daily.publication, 1000)
    rehearse(daily.publication)
    rehearsal.rehearse(daily.publication, EVENING)

    alice.pause(date(2026, 12, 1), EVENING)
    assert rehearsal.rehearse(daily.publication, EVENING + timedelta(minutes=5)) is None
    add_readers(daily.publication, 30)
    assert rehearse(daily.publication, EVENING + timedelta(minutes=10)).readers == 1030


@pytest.mark.parametrize(
    ("author", "zone", "now"),
    [
        ("Europe/Paris", "Pacific/Kiritimati", EVENING),
        ("America/New_York", "Asia/Tokyo", EVENING + timedelta(hours=6)),
        ("America/New_York", "Europe/Paris", EVENING + timedelta(hours=6)),
    ],
)
def test_each_date_of_each_zone_is_rehearsed_once_before_it_begins(
    daily: Series, reader: Reader, author: str, zone: str, now: datetime
) -> None:
    Publication.objects.update(zone=author)
    publication = Publication.objects.get()
    far = reader(zone=zone, now=now - ONE_DAY, publication=publication)
    rehearsed: list[date] = []
    for days in range(3):
        planning.tick(now + days * ONE_DAY)
        day, _at = publication.next_promise(now + days * ONE_DAY, author)
        assert rehearse(publication, now + days * ONE_DAY).readers == 1
        rehearsed += [on for where, on in rehearsal.dates(publication, day) if where == zone]

    planning.tick(now + 3 * ONE_DAY)

    rows = Delivery.objects.filter(subscriber=far, local_date__gte=rehearsed[0]).order_by("local_date")
    assert list(rows.values_list("local_date", flat=True))[:3] == rehearsed
