"""Processes that do the same at once, and one killed in the middle: each day is planned once, and none is lost."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.db import connection

from newsletters import planning, sending, tasks
from newsletters.models import Clock, Day, Delivery, Series, Subscriber, Walk
from newsletters.models.outgoing import State
from tests.conftest import Reader
from tests.processes import wait_until
from tests.servers import MailServer
from tests.test_planning import make_issue

pytestmark = [pytest.mark.postgresql, pytest.mark.timeout(600), pytest.mark.django_db(transaction=True)]

EVENING = datetime(2026, 11, 23, 23, 30, tzinfo=UTC)
MONDAY = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)
ONE_DAY = timedelta(days=1)
ROUNDS, PLANNERS, BEATS = 50, 4, 2
ZONES = ["Europe/Paris", "America/Montreal", "Pacific/Kiritimati"]
LOCK = 4711

fork = multiprocessing.get_context("fork")


@pytest.fixture
def readers(publication: Any, reader: Reader) -> list[Subscriber]:
    """Twenty readers in three zones, two of them weekly, with a sequence, a queue and a reserve to walk."""
    lengths = {Series.Kind.SEQUENCE: 10, Series.Kind.DAILY: 25, Series.Kind.RESERVE: 10}
    for kind, length in lengths.items():
        welcome = kind == Series.Kind.SEQUENCE
        series = Series.objects.create(publication=publication, kind=kind, name=kind, slug=kind, welcome=welcome)
        for number in range(length):
            series.append(make_issue(publication, f"{kind}{number}"))
    came = MONDAY - 2 * ONE_DAY
    made = [reader(f"r{n}@example.com", zone=ZONES[n % len(ZONES)], now=came) for n in range(20)]
    for weekly in made[:2]:
        weekly.receive_weekly(3)
    return made


def rows() -> list[tuple[Any, ...]]:
    columns = ["local_date", "subscriber", "slot", "way", "issue", "entry", "state", "reason", "due_at", "late_until"]
    return list(Delivery.objects.order_by("local_date", "subscriber", "slot").values_list(*columns))


def plan(at: datetime) -> None:
    planning.tick(at)


def beat(at: datetime) -> None:
    with time_machine.travel(at, tick=False):
        tasks.tick()


def settle(at: datetime) -> None:
    """Stand in for the senders: everything planned is sent, so that the next day has a history."""
    Delivery.objects.filter(state=State.PLANNED).update(state=State.SENT, handoff_at=at, settled_at=at)


def take_part(act: Callable[[datetime], None], turn: Any) -> None:
    connection.close()
    try:
        for number in range(ROUNDS):
            turn.wait()
            act(EVENING + number * ONE_DAY)
            turn.wait()
    except BaseException:
        turn.abort()  # so that nobody waits for it
        raise
    finally:
        connection.close()


def alone(rounds: int) -> list[tuple[Any, ...]]:
    """Return what one planner gives, and take it back."""
    clocks, walks = list(Clock.objects.all()), list(Walk.objects.all())
    for number in range(rounds):
        plan(EVENING + number * ONE_DAY)
        settle(EVENING + number * ONE_DAY)
    planned = rows()
    Delivery.objects.all().delete()
    Day.objects.all().delete()
    Clock.objects.bulk_update(clocks, ["next_date", "next_at", "last_date"])
    Walk.objects.bulk_update(walks, ["reached", "ended_at"])
    return planned


def test_planners_and_beats_at_once_plan_what_one_alone_plans(readers: list[Subscriber]) -> None:
    expected, turn = alone(ROUNDS), fork.Barrier(PLANNERS + BEATS + 1)
    connection.close()

    crowd = [fork.Process(target=take_part, args=(act, turn)) for act in [plan] * PLANNERS + [beat] * BEATS]
    for process in crowd:
        process.start()
    for number in range(ROUNDS):
        turn.wait()
        turn.wait()
        settle(EVENING + number * ONE_DAY)
    for process in crowd:
        process.join(60)

    assert [process.exitcode for process in crowd] == [0] * len(crowd)
    assert rows() == expected
    assert len(expected) > ROUNDS * 15


FAILPOINTS = [
    ("BEFORE INSERT", "newsletters_day"),
    ("AFTER INSERT", "newsletters_day"),
    ("BEFORE INSERT", "newsletters_delivery"),
    ("AFTER INSERT", "newsletters_delivery"),
    ("BEFORE UPDATE", "newsletters_clock"),
    ("AFTER UPDATE", "newsletters_clock"),
]


@contextmanager
def failpoint(when: str, table: str) -> Iterator[None]:
    """Let whoever comes to this point wait there for a lock that this process holds."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [LOCK])
        cursor.execute(f"""
            CREATE FUNCTION wait_here() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM pg_advisory_xact_lock({LOCK}); RETURN NULL; END $$""")
        cursor.execute(f"CREATE TRIGGER stop {when} ON {table} EXECUTE FUNCTION wait_here()")
        yield
        cursor.execute("SELECT pg_advisory_unlock(%s)", [LOCK])
        # The server notices that its client is dead when it wants to answer.
        wait_until(lambda: not waiting())
        wait_until(lambda: not others())
        cursor.execute(f"DROP TRIGGER stop ON {table}")
        cursor.execute("DROP FUNCTION wait_here")


def waiting() -> bool:
    return asked("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted") > 0


def others() -> bool:
    return (
        asked("""
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL""")
        > 0
    )


def asked(question: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(question)
        return int(cursor.fetchone()[0])


def plan_elsewhere() -> None:
    connection.connect()
    plan(EVENING)


@pytest.mark.parametrize(("when", "table"), FAILPOINTS, ids=[" ".join(point) for point in FAILPOINTS])
def test_a_planner_killed_between_two_statements_loses_no_day(readers: list[Subscriber], when: str, table: str) -> None:
    expected, planner = alone(1), fork.Process(target=plan_elsewhere)

    with failpoint(when, table):
        planner.start()
        wait_until(waiting)
        assert planner.pid
        os.kill(planner.pid, signal.SIGKILL)
        planner.join(30)
    half_done = rows()
    plan(EVENING)
    settle(EVENING)

    assert planner.exitcode == -signal.SIGKILL
    assert half_done == []
    assert rows() == expected
    assert expected


def drain_elsewhere(url: str) -> None:
    from django.conf import settings

    connection.close()
    settings.MAIL_URL = url
    sending.drain(lambda: MONDAY)
    connection.close()


def test_who_leaves_while_the_hand_off_runs_is_either_sent_to_or_skipped(
    publication: Any, reader: Reader, smtp: MailServer
) -> None:
    series = Series.objects.create(publication=publication, kind=Series.Kind.DAILY, name="File", slug="file")
    series.append(make_issue(publication, "d1"))
    people = [reader(f"r{n}@example.com", now=MONDAY - ONE_DAY) for n in range(120)]
    planning.tick(MONDAY)
    connection.close()

    sender = fork.Process(target=drain_elsewhere, args=(smtp.url,))
    sender.start()
    wait_until(lambda: smtp.received)
    for person in reversed(people):
        person.leave(MONDAY)
    sender.join(60)

    assert sender.exitcode == 0
    ends = dict(Delivery.objects.values_list("subscriber__address", "state"))
    assert set(ends.values()) == {"sent", "skipped"}
    assert sorted(one.recipients[0] for one in smtp.received) == sorted(who for who in ends if ends[who] == "sent")
