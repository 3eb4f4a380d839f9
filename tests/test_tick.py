"""A tick with nothing to do, on an instance that has a thousand publications and years behind it."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import tzdata
from django.db import connection
from django.utils import timezone

from newsletters import tasks
from newsletters.models import Clock, Delivery, Letter, Publication, Tally
from newsletters.models.delivery import State
from newsletters.simulation.world import ZONES

# The tables that grow with readers and with time, and the clocks
LARGE = ["newsletters_clock", "newsletters_delivery", "newsletters_letter", "newsletters_tally"]
PUBLICATIONS, DAYS, READERS, LETTERS = 1000, 100, 200, 20_000
AT_MOST = 20

Statement = tuple[str, Any]


@pytest.fixture
def years(db: None) -> None:
    """Clocks that strike in an hour, and what was sent, counted and written on a hundred days."""
    now = timezone.now()
    made = [
        Publication(name="Idle", slug=f"idle-{number}", sender="idle@example.com") for number in range(PUBLICATIONS)
    ]
    publications = Publication.objects.bulk_create(made)
    at, rules = now + timedelta(hours=1), tzdata.IANA_VERSION
    Clock.objects.bulk_create(
        Clock(publication=one, zone=zone, next_date=at.date(), next_at=at, last_date=now.date(), rules=rules)
        for one in publications
        for zone in ZONES
    )
    past = [now - timedelta(days=days) for days in range(2, DAYS)]
    Delivery.objects.bulk_create(sent(one, publications[0].pk, number) for one in past for number in range(READERS))
    Tally.objects.bulk_create(tally(one, publication.pk) for one in past for publication in publications[:100])
    Letter.objects.bulk_create(
        letter(past[number % len(past)], publications[0].pk, number) for number in range(LETTERS)
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def sent(at: datetime, publication: int, reader: int) -> Delivery:
    return Delivery(local_date=at.date(), subscriber_id=reader, publication_id=publication, way="daily", **ended(at))


def letter(at: datetime, publication: int, number: int) -> Letter:
    address = f"reader{number}@example.com"
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
    explain, scan = {
        "postgresql": ("EXPLAIN", r"Seq Scan on (\w+)"),
        "sqlite": ("EXPLAIN QUERY PLAN", r"SCAN (\w+)(?! USING)\b"),
    }[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(f"{explain} {statement[0]}", statement[1])
        return set(re.findall(scan, "\n".join(str(row[-1]) for row in cursor.fetchall())))


def test_an_idle_tick_reads_no_large_table_from_end_to_end(years: None) -> None:
    tasks.tick()

    asked = statements(tasks.tick)

    for one in asked:
        assert not scanned(one) & set(LARGE), one
    assert len(asked) <= AT_MOST
    assert datetime.now(UTC) < Clock.objects.earliest("next_at").next_at


def test_a_scan_would_be_seen(years: None) -> None:
    asked = statements(lambda: list(Clock.objects.filter(last_date=None)))

    assert [scanned(one) for one in asked] == [{"newsletters_clock"}]
