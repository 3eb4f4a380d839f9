"""Who gets what, on which local date: the cascade from the sequence to the daily queue."""

from datetime import UTC, date, datetime, time, timedelta

import pytest
from django.db import connection

from newsletters import planning, sending, stuck
from newsletters import queue as queue_days
from newsletters.models import Break, Clock, Delivery, Issue, Publication, Series, Subscriber, Text, Walk
from newsletters.models.outgoing import State
from tests.conftest import Reader

MONDAY = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)  # 7:00 in Paris
SUNDAY_NOON = datetime(2026, 11, 22, 11, 0, tzinfo=UTC)
ONE_DAY = timedelta(days=1)


def make_issue(publication: Publication, subject: str, state: str = Issue.State.QUEUED) -> Issue:
    issue = Issue.objects.create(publication=publication, subject=subject, body=subject, state=state, public_id=subject)
    issue.texts.add(Text.objects.create(publication=publication))
    return issue


@pytest.fixture
def sequence(publication: Publication) -> Series:
    series = Series.objects.create(publication=publication, name="Accueil", slug="accueil", welcome=True)
    for number in (1, 2, 3):
        series.append(make_issue(publication, f"s{number}"))
    return series


@pytest.fixture
def queue(publication: Publication) -> Series:
    series = Series.objects.create(publication=publication, kind=Series.Kind.DAILY, name="File", slug="file")
    for number in (1, 2, 3):
        series.append(make_issue(publication, f"d{number}"))
    return series


def send_all(now: datetime) -> None:
    """Stand in for the senders: everything planned is sent."""
    Delivery.objects.filter(state=State.PLANNED).update(state=State.SENT, settled_at=now)


def had(subscriber: Subscriber) -> list[tuple[str, str]]:
    rows = Delivery.objects.filter(subscriber=subscriber).order_by("local_date").select_related("issue")
    return [(row.issue.subject if row.issue else "", row.way) for row in rows]


def test_a_newcomer_walks_the_sequence_then_joins_the_daily_queue(
    sequence: Series, queue: Series, reader: Reader
) -> None:
    alice = reader(now=SUNDAY_NOON)

    for days in range(6):
        planning.tick(MONDAY + days * ONE_DAY)
        send_all(MONDAY)

    assert had(alice) == [
        ("s1", "sequence"),
        ("s2", "sequence"),
        ("s3", "sequence"),
        ("", "none"),
        ("", "none"),
        ("", "none"),
    ]


def test_readers_of_the_queue_get_the_same_issue_everywhere(queue: Series, reader: Reader) -> None:
    evening = SUNDAY_NOON + timedelta(hours=8)
    alice, bob = reader(now=evening), reader("bob@example.com", zone="America/Montreal", now=evening)

    planning.tick(MONDAY + timedelta(hours=18))

    assert had(alice) == had(bob) == [("d1", "daily")]


def test_zones_east_of_the_author_get_it_on_their_next_local_date(queue: Series, reader: Reader) -> None:
    tokyo, alice = reader("taro@example.com", zone="Asia/Tokyo", now=SUNDAY_NOON), reader(now=SUNDAY_NOON)
    queue_days.fix_days(alice.publication, MONDAY - ONE_DAY, SUNDAY_NOON)

    for hours in range(0, 49, 3):
        planning.tick(MONDAY + timedelta(hours=hours))

    assert [subject for subject, _ in had(alice)] == ["d2", "d3", ""]
    rows = Delivery.objects.filter(subscriber=tokyo).order_by("local_date")
    assert [(row.local_date.day, row.issue and row.issue.subject) for row in rows] == [
        (23, "d1"),
        (24, "d2"),
        (25, "d3"),
    ]


def test_planning_twice_adds_nothing(queue: Series, reader: Reader) -> None:
    alice = reader(now=SUNDAY_NOON)
    planning.tick(MONDAY)
    Clock.objects.update(next_at=MONDAY, next_date=MONDAY.date())

    planning.tick(MONDAY)

    assert had(alice) == [("d1", "daily")]


def test_whoever_confirms_after_the_hour_starts_tomorrow(queue: Series, reader: Reader) -> None:
    reader(now=SUNDAY_NOON)
    late = reader("late@example.com", now=MONDAY + timedelta(minutes=1))

    planning.tick(MONDAY + timedelta(minutes=5))
    planning.tick(MONDAY + ONE_DAY)

    rows = Delivery.objects.filter(subscriber=late)
    assert [row.local_date for row in rows] == [date(2026, 11, 24)]


def test_a_dry_day_is_written_down(publication: Publication, reader: Reader) -> None:
    reader(now=SUNDAY_NOON)

    planning.tick(MONDAY)

    row = Delivery.objects.get()
    assert (row.issue, row.state, row.reason) == (None, State.MISSED, "dry")


def test_only_queued_issues_go_out(queue: Series, sequence: Series, reader: Reader) -> None:
    Issue.objects.filter(subject__in=["s1", "d1"]).update(state=Issue.State.READY)
    Issue.objects.filter(subject__in=["s2", "s3"]).update(state=Issue.State.DRAFT)
    alice = reader(now=SUNDAY_NOON)

    planning.tick(MONDAY)

    assert had(alice) == [("d2", "daily")]


def test_a_text_had_in_the_sequence_is_not_sent_again_by_the_queue(
    publication: Publication, sequence: Series, queue: Series, reader: Reader
) -> None:
    first, rebuilt = Issue.objects.get(subject="s1"), Issue.objects.get(subject="d1")
    rebuilt.texts.set(first.texts.all())
    alice = reader(now=SUNDAY_NOON)
    Series.objects.get(slug="accueil").entries.exclude(issue=first).delete()

    for days in range(3):
        planning.tick(MONDAY + days * ONE_DAY)
        send_all(MONDAY)

    assert had(alice) == [("s1", "sequence"), ("d2", "daily"), ("d3", "daily")]


def test_a_step_that_failed_is_owed_the_next_day(sequence: Series, reader: Reader) -> None:
    alice = reader(now=SUNDAY_NOON)
    planning.tick(MONDAY)
    Delivery.objects.update(state=State.FAILED, reason="address")

    planning.tick(MONDAY + ONE_DAY)

    assert had(alice) == [("s1", "sequence"), ("s1", "sequence")]


def test_a_pinned_issue_takes_its_date_and_the_others_keep_their_order(queue: Series, reader: Reader) -> None:
    queue.entries.filter(issue__subject="d3").update(pinned_date=date(2026, 11, 24))
    alice = reader(now=SUNDAY_NOON)

    for days in range(3):
        planning.tick(MONDAY + days * ONE_DAY)

    assert [subject for subject, _ in had(alice)] == ["d1", "d3", "d2"]


def test_leaving_skips_what_is_planned_and_pausing_resumes_by_itself(queue: Series, reader: Reader) -> None:
    alice, bob = reader(now=SUNDAY_NOON), reader("bob@example.com", now=SUNDAY_NOON)
    planning.tick(MONDAY)

    alice.leave(MONDAY)
    bob.pause(date(2026, 11, 25), MONDAY)
    for days in (1, 2):
        planning.tick(MONDAY + days * ONE_DAY)

    assert Delivery.objects.filter(subscriber=alice).get().state == State.SKIPPED
    rows = Delivery.objects.filter(subscriber=bob).order_by("local_date")
    assert [(row.local_date.day, row.state) for row in rows] == [(23, State.SKIPPED), (25, State.PLANNED)]


def test_an_outage_of_days_is_caught_up_with_one_email_only(queue: Series, reader: Reader) -> None:
    alice = reader(now=SUNDAY_NOON)

    planning.tick(MONDAY + 3 * ONE_DAY)

    rows = Delivery.objects.filter(subscriber=alice).order_by("local_date")
    assert [(row.state, row.reason) for row in rows] == [
        (State.MISSED, "outage"),
        (State.MISSED, "outage"),
        (State.MISSED, "outage"),
        (State.PLANNED, ""),
    ]
    assert Issue.objects.filter(days__publication=alice.publication).count() == 1


def test_a_promise_of_weekdays_sends_nothing_on_sunday(publication: Publication, queue: Series, reader: Reader) -> None:
    Publication.objects.update(weekdays="12345")
    publication.refresh_from_db()
    alice = reader(now=datetime(2026, 11, 20, 7, 0, tzinfo=UTC))

    planning.tick(MONDAY)

    assert [row.local_date for row in Delivery.objects.filter(subscriber=alice)] == [date(2026, 11, 23)]


@pytest.mark.parametrize(("hour", "dates"), [(time(5), [23, 24]), (time(9), [23, 24]), (time(7), [23, 24])])
def test_an_hour_edited_while_the_day_runs_loses_and_doubles_no_date(
    queue: Series, reader: Reader, hour: time, dates: list[int]
) -> None:
    alice, bob = reader(now=SUNDAY_NOON), reader("bob@example.com", zone="Atlantic/Azores", now=SUNDAY_NOON)
    planning.tick(MONDAY)
    alice.publication.hour = hour
    alice.publication.save()

    Clock.objects.reset(alice.publication, MONDAY + timedelta(minutes=30))
    for hours in range(30):
        planning.tick(MONDAY + timedelta(hours=hours))

    for subscriber in (alice, bob):
        assert [row.local_date.day for row in Delivery.objects.filter(subscriber=subscriber)] == dates


def test_readers_of_another_publication_are_left_alone(publication: Publication, queue: Series, reader: Reader) -> None:
    other = Publication.objects.create(
        name="Other", slug="other", author="O", sender="o@example.com", reply_to="o@example.com", hour=time(7)
    )
    bob = reader("bob@example.com", publication=other, now=SUNDAY_NOON)
    alice = reader(now=SUNDAY_NOON)

    planning.tick(MONDAY)

    assert had(alice) == [("d1", "daily")]
    assert had(bob) == [("", "none")]


def test_an_idle_tick_asks_twice(publication: Publication, reader: Reader, django_assert_num_queries: object) -> None:
    reader(now=MONDAY)

    with django_assert_num_queries(2):  # type: ignore[operator]
        planning.tick(MONDAY)

    assert connection.vendor in {"sqlite", "postgresql"}


def test_a_dry_day_is_covered_by_the_best_of_the_reserve_not_yet_had(
    publication: Publication, queue: Series, reader: Reader
) -> None:
    reserve = Series.objects.create(publication=publication, kind=Series.Kind.RESERVE, name="Réserve", slug="reserve")
    queue.entries.exclude(issue__subject="d1").delete()
    for subject in ("r1", "r2"):
        reserve.append(make_issue(publication, subject))
    reserve.append(Issue.objects.get(subject="d1"))
    alice = reader(now=SUNDAY_NOON)

    for days in range(4):
        planning.tick(MONDAY + days * ONE_DAY)
        send_all(MONDAY)

    assert had(alice) == [("d1", "daily"), ("r1", "reserve"), ("r2", "reserve"), ("", "none")]


def test_several_walks_are_walked_one_after_another(publication: Publication, sequence: Series, reader: Reader) -> None:
    second = Series.objects.create(publication=publication, name="Suite", slug="suite")
    second.append(make_issue(publication, "t1"))
    alice = reader(now=SUNDAY_NOON)
    Walk.objects.create(subscriber=alice, series=second, position=1, started_at=SUNDAY_NOON)

    for days in range(4):
        planning.tick(MONDAY + days * ONE_DAY)
        send_all(MONDAY)

    assert [subject for subject, _ in had(alice)] == ["s1", "s2", "s3", "t1"]


def test_a_step_that_turns_out_to_be_lost_is_owed_the_next_day(sequence: Series, reader: Reader) -> None:
    alice = reader(now=SUNDAY_NOON)
    planning.tick(MONDAY)
    # A worker died between the hand-off and the server's reply.
    Delivery.objects.update(state=State.HANDOFF, handoff_at=MONDAY, leased_until=datetime(2026, 1, 1, tzinfo=UTC))
    sending.sweep(MONDAY + timedelta(hours=1))

    stuck.again(stuck.uncertain(), MONDAY + timedelta(hours=20))
    planning.tick(MONDAY + ONE_DAY)

    assert had(alice) == [("s1", "sequence"), ("s1", "sequence")]


def test_a_move_within_twelve_hours_skips_a_day_and_misses_none(queue: Series, reader: Reader) -> None:
    alice = reader(now=SUNDAY_NOON, zone="Asia/Tokyo")
    Clock.objects.update(next_date=date(2026, 11, 23), next_at=MONDAY - timedelta(hours=8))
    planning.tick(MONDAY - timedelta(hours=8))
    Delivery.objects.update(state=State.SENT, handoff_at=MONDAY - timedelta(hours=8))
    Delivery.objects.update(local_date=date(2026, 11, 22))

    alice.move("Europe/Paris", MONDAY - timedelta(hours=1))
    planning.tick(MONDAY)

    row = Delivery.objects.get(local_date=date(2026, 11, 23))
    assert (row.state, row.reason) == (State.SKIPPED, "moved")


def test_a_move_to_the_other_end_of_the_earth_counts_the_hours_and_not_the_dates(queue: Series, reader: Reader) -> None:
    alice = reader(now=MONDAY, zone="Pacific/Honolulu")
    planning.tick(MONDAY + timedelta(hours=11))
    in_the_evening = datetime(2026, 11, 24, 6, 0, tzinfo=UTC)  # Monday, 20:00 in Honolulu
    Delivery.objects.update(state=State.SENT, handoff_at=in_the_evening)

    alice.move("Pacific/Kiritimati", in_the_evening)
    planning.tick(in_the_evening + timedelta(hours=11))

    rows = Delivery.objects.order_by("local_date").values_list("local_date", "state", "reason")
    assert list(rows) == [(date(2026, 11, 23), State.SENT, ""), (date(2026, 11, 25), State.SKIPPED, "moved")]


def test_dates_covered_by_the_reserve_take_nothing_from_the_queue(
    publication: Publication, queue: Series, reader: Reader
) -> None:
    Break.objects.create(publication=publication, first=date(2026, 11, 23), last=date(2026, 11, 23))
    alice = reader(now=SUNDAY_NOON)

    for days in range(2):
        planning.tick(MONDAY + days * ONE_DAY)

    assert had(alice) == [("", "none"), ("d1", "daily")]


def test_an_announced_break_promises_nothing(publication: Publication, queue: Series, reader: Reader) -> None:
    silence = Break.Kind.SILENCE
    Break.objects.create(publication=publication, kind=silence, first=date(2026, 11, 23), last=date(2026, 11, 24))
    alice = reader(now=SUNDAY_NOON)

    for days in range(3):
        planning.tick(MONDAY + days * ONE_DAY)

    assert [(row.local_date.day, row.issue and row.issue.subject) for row in Delivery.objects.all()] == [(25, "d1")]
    assert alice.status == Subscriber.Status.ACTIVE


def test_a_reader_with_days_of_their_own_gets_those(queue: Series, reader: Reader) -> None:
    alice = reader(now=SUNDAY_NOON, weekdays="24")

    for days in range(7):
        planning.tick(MONDAY + days * ONE_DAY)

    assert [row.local_date.isoweekday() for row in Delivery.objects.filter(subscriber=alice)] == [2, 4]


def test_a_digest_gathers_the_week_once_for_each_content(queue: Series, reader: Reader) -> None:
    weekly = [reader(f"{name}@example.com", digest_on=3, now=SUNDAY_NOON) for name in ("bob", "cleo")]
    alice = reader(now=SUNDAY_NOON)

    for days in range(3):
        planning.tick(MONDAY + days * ONE_DAY)
        send_all(MONDAY)

    digest = Issue.objects.get(kind=Issue.Kind.DIGEST)
    assert digest.texts.count() == 3
    assert [had(bob) for bob in weekly] == [[(digest.subject, "digest")]] * 2
    assert [subject for subject, _ in had(alice)] == ["d1", "d2", "d3"]


def test_a_digest_of_a_sequence_goes_on_where_the_reader_stands(
    publication: Publication, sequence: Series, reader: Reader
) -> None:
    bob = reader(digest_on=1, now=SUNDAY_NOON)
    for number in range(4, 10):
        sequence.append(make_issue(publication, f"s{number}"))

    planning.tick(MONDAY)
    send_all(MONDAY)
    Subscriber.objects.update(digest_on=None)
    planning.tick(MONDAY + ONE_DAY)

    digest = Issue.objects.get(kind=Issue.Kind.DIGEST)
    assert digest.texts.count() == 7
    assert had(bob) == [(digest.subject, "digest"), ("s8", "sequence")]


def test_back_to_daily_first_brings_what_the_week_owes(queue: Series, reader: Reader) -> None:
    bob = reader(digest_on=7, now=SUNDAY_NOON)
    for days in range(2):
        planning.tick(MONDAY + days * ONE_DAY)

    Subscriber.objects.update(digest_on=None, catching_up=True)
    planning.tick(MONDAY + 2 * ONE_DAY)
    send_all(MONDAY)
    planning.tick(MONDAY + 3 * ONE_DAY)

    digest = Issue.objects.get(kind=Issue.Kind.DIGEST)
    assert digest.texts.count() == 3
    assert had(bob) == [(digest.subject, "digest"), ("", "none")]
