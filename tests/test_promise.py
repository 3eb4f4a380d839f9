"""The promise ledger: what each date became, what was learnt later, and what the public is shown of it."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.db import connection

from newsletters import planning, promise
from newsletters.models import Break, Clock, Correction, Day, Delivery, Publication, Series, Tally
from newsletters.models.outgoing import State
from tests.conftest import Reader
from tests.test_planning import make_issue

MONDAY = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)  # 7:00 in Paris
SUNDAY_NOON = datetime(2026, 11, 22, 11, 0, tzinfo=UTC)
NIGHT = MONDAY + timedelta(hours=15)  # 22:00 in Paris
MINUTE, HOUR, ONE_DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
THE_23RD = date(2026, 11, 23)


@pytest.fixture
def queue(publication: Publication) -> Series:
    series = Series.objects.create(publication=publication, kind=Series.Kind.DAILY, name="File", slug="file")
    for number in (1, 2, 3):
        series.append(make_issue(publication, f"d{number}"))
    return series


def day_of(day: date = THE_23RD) -> Day:
    return Day.objects.get(date=day)


def run(now: datetime) -> None:
    promise.tick(now, planning.tick(now))


def end(state: str, reason: str = "", after: timedelta = MINUTE, **which: Any) -> None:
    """Stand in for the senders: what is planned ends so, a while after its instant."""
    for row in Delivery.objects.filter(state=State.PLANNED, **which):
        at = row.due_at + after
        Delivery.objects.filter(pk=row.pk).update(state=state, reason=reason, settled_at=at, handoff_at=at)


def test_a_day_kept_is_written_down_when_its_last_reader_can_expect_nothing_more(queue: Series, reader: Reader) -> None:
    for name, zone in (("alice", "Europe/Paris"), ("bob", "Europe/Paris"), ("tom", "Pacific/Tahiti")):
        reader(f"{name}@example.com", zone=zone, now=SUNDAY_NOON)
    run(MONDAY)
    end(State.SENT)
    run(MONDAY + 11 * HOUR)  # 7:00 in Tahiti
    end(State.SENT, after=40 * MINUTE)

    promise.go_round(MONDAY + 25 * HOUR)
    too_early = day_of().closed_at
    promise.go_round(MONDAY + 26 * HOUR)  # 22:00 in Tahiti

    day = day_of()
    assert too_early is None
    assert day.closed_at == MONDAY + 26 * HOUR
    assert (day.expected, day.on_time, day.late, day.failed, day.kept) == (3, 2, 1, 0, True)
    assert day.issue is not None
    assert (day.issue.subject, day.hour.hour, day.weekdays) == ("d2", 7, "1234567")


@pytest.mark.parametrize(
    ("state", "reason", "kept"),
    [
        (State.MISSED, "dry", False),
        (State.MISSED, "limit", False),
        (State.MISSED, "outage", False),
        (State.MISSED, "late", False),
        (State.MISSED, "withdrawn", False),
        (State.FAILED, "refused", False),
        (State.FAILED, "address", True),
        (State.UNCERTAIN, "", True),
        (State.SKIPPED, "moved", True),
        (State.SKIPPED, "left", True),
        (State.SKIPPED, "paused", True),
    ],
)
def test_only_causes_of_ours_break_the_promise(
    queue: Series, reader: Reader, state: str, reason: str, kept: bool
) -> None:
    alice, bob = reader(now=SUNDAY_NOON), reader("bob@example.com", now=SUNDAY_NOON)
    run(MONDAY)
    end(state, reason, subscriber=bob)
    end(State.SENT, subscriber=alice)

    promise.go_round(NIGHT)

    day = day_of()
    assert day.kept is kept
    figures = promise.figures(day)
    by_reason = {"missed": figures.missed, "skipped": figures.skipped}.get(state)
    assert by_reason == {reason: 1} if by_reason is not None else getattr(figures, state) == 1
    assert figures.expected == (1 if state == State.SKIPPED else 2)


def test_a_date_without_expected_readers_is_neither_kept_nor_missed(queue: Series, reader: Reader) -> None:
    alice = reader(now=SUNDAY_NOON)
    run(MONDAY)

    alice.leave(MONDAY)
    promise.go_round(NIGHT)

    day = day_of()
    assert (day.expected, day.skipped, day.kept) == (0, {"unsubscribed": 1}, None)
    assert promise.record(alice.publication, THE_23RD).days == 0


def test_an_announced_break_is_neither_kept_nor_missed(publication: Publication, queue: Series, reader: Reader) -> None:
    reader(now=SUNDAY_NOON)
    Break.objects.create(publication=publication, kind=Break.Kind.SILENCE, first=THE_23RD, last=THE_23RD)
    for days in (0, 1):
        run(MONDAY + days * ONE_DAY)
        end(State.SENT)
        promise.go_round(NIGHT + days * ONE_DAY)

    assert [day.kept for day in Day.objects.order_by("date")[:2]] == [None, True]
    record = promise.record(publication, date(2026, 11, 24))
    assert (record.streak, record.days) == (1, 1)


def test_it_waits_for_a_zone_whose_clock_has_not_struck(queue: Series, reader: Reader) -> None:
    reader(now=SUNDAY_NOON)
    reader("tom@example.com", zone="Pacific/Tahiti", now=SUNDAY_NOON)
    run(MONDAY)
    end(State.SENT)
    Clock.objects.filter(zone="Pacific/Tahiti").update(next_at=MONDAY + 30 * ONE_DAY)

    promise.go_round(MONDAY + 2 * ONE_DAY)

    assert day_of().closed_at is None


def test_it_waits_for_what_is_still_on_its_way(queue: Series, reader: Reader) -> None:
    reader(now=SUNDAY_NOON)
    run(MONDAY)
    end(State.HANDOFF)

    promise.go_round(NIGHT)

    assert day_of().closed_at is None
    assert promise.recount(day_of()).expected == 1


def test_a_date_that_only_eastern_zones_had_gets_its_day(
    publication: Publication, queue: Series, reader: Reader
) -> None:
    evening = MONDAY - timedelta(hours=10)
    reader("taro@example.com", zone="Asia/Tokyo", now=evening)
    reader(now=evening)
    run(MONDAY - 8 * HOUR)  # 7:00 in Tokyo, the 23rd
    Publication.objects.update(weekdays="234567")
    publication.refresh_from_db()
    Clock.objects.reset(publication, MONDAY - 7 * HOUR)
    end(State.SENT)

    for hours in range(0, 48, 4):
        run(MONDAY + hours * HOUR)
        end(State.SENT)
        promise.go_round(MONDAY + hours * HOUR)

    day = day_of()
    following = day_of(date(2026, 11, 24))
    assert (day.expected, day.on_time, day.kept) == (1, 1, True)
    assert promise.figures(day) == promise.recount(day)
    assert [each.issue and each.issue.subject for each in (day, following)] == [None, "d2"]


def test_what_is_learnt_later_is_added_and_the_close_stays(queue: Series, reader: Reader) -> None:
    for name in ("alice", "bob", "cleo"):
        reader(f"{name}@example.com", now=SUNDAY_NOON)
    run(MONDAY)
    end(State.UNCERTAIN, subscriber__address="bob@example.com")
    end(State.SENT)
    promise.go_round(NIGHT)
    closed = day_of()

    Delivery.objects.filter(state=State.UNCERTAIN).update(state=State.FAILED, reason="refused", settled_at=NIGHT)
    Delivery.objects.filter(subscriber__address="cleo@example.com").update(state=State.FAILED, reason="address")
    broken = promise.figures(day_of()) == promise.recount(day_of())
    promise.correct(NIGHT + HOUR, [THE_23RD])
    promise.correct(NIGHT + HOUR, [THE_23RD])

    day = day_of()
    assert not broken
    assert (day.on_time, day.uncertain, day.failed, day.kept) == (2, 1, 0, True)
    assert (day.closed_at, day.expected) == (closed.closed_at, closed.expected)
    assert [row.changes for row in Correction.objects.all()] == [
        {"on_time": -1, "failed": 2, "uncertain": -1, "kept": False}
    ]
    assert promise.figures(day) == promise.recount(day)
    assert promise.record(day.publication, THE_23RD).kept == 0


def test_an_erasure_changes_no_figure(queue: Series, reader: Reader) -> None:
    from newsletters import privacy

    alice = reader(now=SUNDAY_NOON)
    run(MONDAY)
    end(State.SENT)
    promise.go_round(NIGHT)

    privacy.erase(alice, NIGHT + HOUR)
    promise.correct(NIGHT + HOUR, [THE_23RD])

    assert not Correction.objects.exists()
    assert promise.figures(day_of()) == promise.recount(day_of())


def test_each_closed_date_has_its_turn_four_times_a_day(queue: Series, reader: Reader) -> None:
    reader(now=SUNDAY_NOON)
    run(MONDAY)
    end(State.SENT)
    promise.go_round(NIGHT)
    Delivery.objects.update(state=State.FAILED, reason="address")

    for minutes in range(0, 350, 10):
        promise.go_round(NIGHT + HOUR + minutes * MINUTE)

    assert [row.changes for row in Correction.objects.all()] == [{"on_time": -1, "failed": 1}]


def test_an_uncertain_end_is_compared_every_round(queue: Series, reader: Reader) -> None:
    reader(now=SUNDAY_NOON)
    run(MONDAY)
    end(State.UNCERTAIN)
    promise.go_round(NIGHT)

    Delivery.objects.update(state=State.SENT, settled_at=MONDAY + MINUTE)
    promise.go_round(NIGHT + 10 * MINUTE)

    assert [row.changes for row in Correction.objects.all()] == [{"on_time": 1, "uncertain": -1}]


def test_the_tally_follows_what_moves_and_an_idle_tick_asks_one_question(
    queue: Series, reader: Reader, django_assert_num_queries: Any
) -> None:
    reader(now=SUNDAY_NOON)
    run(MONDAY)
    before = list(Tally.objects.values_list("state", "way", "count", "on_time"))
    end(State.SENT)
    promise.tick(MONDAY + MINUTE)

    assert before == [("planned", "daily", 1, False)]
    assert list(Tally.objects.values_list("state", "way", "count", "on_time")) == [("sent", "daily", 1, True)]
    with django_assert_num_queries(1):
        promise.tick(MONDAY + 2 * MINUTE)


def test_announcements_are_counted_beside_the_promise(queue: Series, reader: Reader) -> None:
    alice = reader(now=SUNDAY_NOON)
    run(MONDAY)
    row = Delivery.objects.get()
    row.slot, row.way = 7, Delivery.Way.ANNOUNCEMENT
    row.save(force_insert=True)
    Delivery.objects.filter(slot=7).update(state=State.FAILED, reason="refused")
    end(State.SENT)

    promise.go_round(NIGHT)

    assert (day_of().expected, day_of().kept) == (1, True)
    assert promise.recount(day_of()) == promise.figures(day_of())
    assert Tally.objects.filter(publication=alice.publication).count() == 2


def test_a_round_is_claimed_once_and_a_clock_set_back_claims_too(db: None) -> None:
    assert promise.round_due(MONDAY)
    assert not promise.round_due(MONDAY + 9 * MINUTE)
    assert promise.round_due(MONDAY + 10 * MINUTE)
    assert promise.round_due(MONDAY - ONE_DAY)


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_many_ledgers_at_once_write_each_figure_once(queue: Series, reader: Reader) -> None:
    for number in range(50):
        reader(f"reader{number}@example.com", now=SUNDAY_NOON)
    run(MONDAY)
    end(State.SENT)

    def work(_number: int) -> None:
        try:
            for _ in range(5):
                promise.go_round(NIGHT)
                promise.correct(NIGHT, [THE_23RD])
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    Delivery.objects.filter(subscriber__address="reader0@example.com").update(state=State.FAILED, reason="address")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))

    assert sum(Tally.objects.values_list("count", flat=True)) == 50
    assert [row.changes for row in Correction.objects.all()] == [{"on_time": -1, "failed": 1}]
    assert promise.figures(day_of()) == promise.recount(day_of())
