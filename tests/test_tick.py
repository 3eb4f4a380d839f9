"""A tick with nothing to do, on an instance that has a thousand publications and years behind it."""

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
import tzdata
from django.db import connection
from django.utils import timezone

from newsletters import tasks
from newsletters.models import Clock, Delivery, Letter, Publication, Tally
from newsletters.models.outgoing import State
from newsletters.simulation.world import ZONES

# The tables that grow with readers and with time, and the clocks
LARGE = ["newsletters_clock", "newsletters_delivery", "newsletters_letter", "newsletters_tally"]
PUBLICATIONS, DAYS, READERS = 1000, 50, 100
AT_MOST = 22

Statement = tuple[str, Any]


@pytest.fixture
def years(db: None) -> None:
    """Clocks that strike in an hour, and what was sent, counted and written on fifty days."""
    now = timezone.now()
    idle = (Publication(name="Idle", slug=f"idle-{number}", sender="i@example.com") for number in range(PUBLICATIONS))
    made = Publication.objects.bulk_create(idle)
    at, rules = now + timedelta(hours=1), tzdata.IANA_VERSION
    Clock.objects.bulk_create(
        Clock(publication=one, zone=zone, next_date=at.date(), next_at=at, last_date=now.date(), rules=rules)
        for one in made
        for zone in ZONES
    )
    past = [now - timedelta(days=days) for days in range(2, DAYS)]
    each_day = [(at, number) for at in past for number in range(READERS)]
    Delivery.objects.bulk_create(sent(at, made[0].pk, reader) for at, reader in each_day)
    Letter.objects.bulk_create(letter(at, made[0].pk, f"{number}.{at:%m%d}@example.com") for at, number in each_day)
    Tally.objects.bulk_create(tally(at, made[number].pk) for at, number in each_day)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def sent(at: datetime, publication: int, reader: int) -> Delivery:
    return Delivery(local_date=at.date(), subscriber_id=reader, publication_id=publication, way="daily", **ended(at))


def letter(at: datetime, publication: int, address: str) -> Letter:
    to = {"kind": "confirm", "cause": "once", "address": address, "address_key": address, "language": "en"}
    return Letter(publication_id=publication, **to, **ended(at))


def ended(at: datetime) -> dict[str, Any]:
    until = at + timedelta(hours=15)
    return {"state": State.SENT, "due_at": at, "try_at": at, "late_until": until, "handoff_at": at, "settled_at": at}


def tally(at: datetime, publication: int) -> Tally:
    counted = {"way": "daily", "state": State.SENT, "reason": "", "on_time": True, "count": READERS}
    return Tally(publication_id=publication, date=at.date(), due_at=at, until=at + timedelta(hours=15), **counted)


def statements(act: Callable[[], object]) -> list[Statement]:
    """Return what an act asks of the database, as it asks it."""
    asked: list[Statement] = []

    def note(execute: Callable[..., Any], sql: str, parameters: Any, many: bool, context: Any) -> Any:
        asked.append((sql, parameters))
        return execute(sql, parameters, many, context)

    with connection.execute_wrapper(note):
        act()
    return [(sql, parameters) for sql, parameters in asked if "SAVEPOINT" not in sql]


def scanned(statement: Statement) -> set[str]:
    """Return the tables that a statement reads from one end to the other."""
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {statement[0]}", statement[1])
        return set(re.findall(r"Seq Scan on (\w+)", "\n".join(row[0] for row in cursor.fetchall())))


# SQLite takes no partial index where the state is a parameter; it is for lists that may be read.
@pytest.mark.postgresql
def test_an_idle_tick_asks_little_and_reads_no_large_table_from_end_to_end(years: None) -> None:
    tasks.tick()

    asked = statements(tasks.tick)

    assert [(one, tables) for one in asked if (tables := scanned(one) & set(LARGE))] == []
    assert len(asked) <= AT_MOST
    assert timezone.now() < Clock.objects.earliest("next_at").next_at
    (every,) = statements(lambda: list(Clock.objects.filter(last_date=None)))
    assert scanned(every) == {"newsletters_clock"}  # a scan would be seen
