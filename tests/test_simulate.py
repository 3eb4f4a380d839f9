"""A simulation ends well where every rule holds, and names the rule that does not."""

from collections.abc import Callable, Iterator
from datetime import datetime, time, timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models.signals import post_migrate

from newsletters.models import Delivery, Publication
from newsletters.simulation.faults import CHANCES
from newsletters.simulation.run import FIRST, Simulation

pytestmark = pytest.mark.django_db(transaction=True)

# What a faulty database does behind the planner's and the senders' back: when, to which rows, and what then.
FAULTS = {
    "I2 nothing for 3": (
        "INSERT ON newsletters_delivery",
        "NEW.subscriber_id = 3",
        "DELETE FROM newsletters_delivery WHERE subscriber_id = 3",
    ),
    "I3 3 had a text": (
        "INSERT ON newsletters_delivery",
        "NEW.subscriber_id = 3 AND NEW.issue_id > 1",
        "UPDATE newsletters_delivery SET issue_id = 1 WHERE subscriber_id = 3",
    ),
    "I4 handed to a reader who is not active": (
        "UPDATE OF state ON newsletters_delivery",
        "NEW.state = 'handoff' AND NEW.subscriber_id = 3",
        "UPDATE newsletters_subscriber SET status = 'paused' WHERE id = 3",
    ),
    "I5 ended without a reason": (
        "INSERT ON newsletters_delivery",
        "NEW.subscriber_id = 3",
        "UPDATE newsletters_delivery SET state = 'missed' WHERE subscriber_id = 3",
    ),
    "was never accepted": (
        "INSERT ON newsletters_delivery",
        "NEW.subscriber_id = 3",
        (
            "UPDATE newsletters_delivery SET state = 'sent', handoff_at = due_at, settled_at = due_at"
            " WHERE state = 'planned'"
        ),
    ),
    "I6 2 ×": (
        "UPDATE OF state ON newsletters_delivery",
        "NEW.state = 'sent' AND NEW.subscriber_id = 3 AND NEW.attempts = 0",
        "UPDATE newsletters_delivery SET state = 'planned', attempts = 1 WHERE state = 'sent' AND subscriber_id = 3",
    ),
    "I7 before its hour": (
        "UPDATE OF state ON newsletters_delivery",
        "NEW.state = 'sent' AND OLD.state <> 'sent'",
        "UPDATE newsletters_delivery SET handoff_at = '2027-01-04 00:00:00+00:00' WHERE state = 'sent'",
    ),
    "I12 3 on 2027-01": (
        "INSERT ON newsletters_delivery",
        "NEW.subscriber_id = 3",
        "UPDATE newsletters_delivery SET way = 'reserve' WHERE subscriber_id = 3",
    ),
    "was fixed for 3 dates": (
        "INSERT ON newsletters_day",
        "NEW.issue_id IS NOT NULL",
        "UPDATE newsletters_day SET issue_id = (SELECT MIN(issue_id) FROM newsletters_day)",
    ),
    "ledger: 2027-01-04 says": (
        "UPDATE OF closed_at ON newsletters_day",
        "NEW.closed_at IS NOT NULL",
        "UPDATE newsletters_day SET late = late + 1 WHERE closed_at IS NOT NULL",
    ),
}


def simulate(*options: str) -> tuple[int, str]:
    """Return the exit code and what was said."""
    said = StringIO()
    try:
        call_command("simulate", *options, stdout=said, stderr=StringIO())
    except SystemExit as end:
        return int(end.code or 0), said.getvalue()
    return 0, said.getvalue()


@pytest.fixture
def plant() -> Iterator[Callable[[str, str, str], None]]:
    """Give the simulation's own database, once its tables are there, a trigger that does what no code of ours does."""
    planted: list[Callable[..., None]] = []

    def make(event: str, when: str, act: str) -> None:
        def create(sender: Any, **signal: Any) -> None:
            if sender.label == "newsletters":
                trigger(event, when, act)

        planted.append(create)
        post_migrate.connect(create)

    yield make
    for create in planted:
        post_migrate.disconnect(create)


def trigger(event: str, when: str, act: str) -> None:
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute(f"CREATE TRIGGER fault AFTER {event} WHEN {when} BEGIN {act}; END")
            return
        cursor.execute(
            f"CREATE FUNCTION fault() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {act}; RETURN NULL; END $$"
        )
        cursor.execute(f"CREATE TRIGGER fault AFTER {event} FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION fault()")


def test_every_fault_lands_and_no_rule_breaks(publication: Publication) -> None:
    code, said = simulate("--days", "12", "--subscribers", "12", "--zones", "6", "--seed", "1", "--faults")

    assert (code, said.splitlines()[-1]) == (0, "0 broken invariants"), said
    landed = next(line for line in said.splitlines() if line.startswith("Faults: "))
    assert all(kind in landed for kind in CHANCES)
    assert "2027-01-04" in said
    assert "2027-01-13" in said


def test_it_touches_no_row_of_the_real_database(publication: Publication) -> None:
    code, said = simulate("--days", "2", "--subscribers", "3", "--zones", "2", "--seed", "1")

    assert code == 0, said
    assert "Faults:" not in said
    assert (Publication.objects.count(), Delivery.objects.count()) == (1, 0)


@pytest.mark.parametrize("rule", FAULTS)
def test_it_names_the_rule_that_is_broken(rule: str, plant: Callable[[str, str, str], None], db: None) -> None:
    plant(*FAULTS[rule])

    code, said = simulate("--days", "3", "--subscribers", "6", "--zones", "2", "--seed", "1")

    assert code == 1
    assert rule in said


@pytest.mark.sqlite
def test_a_year_is_told_month_by_month(db: None) -> None:
    code, said = simulate("--days", "63", "--subscribers", "1", "--zones", "1", "--seed", "1")

    assert code == 0, said
    figures = [line.split()[:3] for line in said.splitlines() if line.lstrip().startswith("2027-")]
    assert [month for month, _expected, _on_time in figures] == ["2027-01", "2027-02", "2027-03"]
    assert "63 days of the ledger compared with a recount of their rows" in said


@pytest.mark.sqlite
def test_a_fault_that_never_landed_fails_the_run(db: None) -> None:
    code, said = simulate("--days", "1", "--subscribers", "1", "--zones", "1", "--seed", "1", "--faults")

    assert code == 1
    assert "This fault never landed: beat down for days." in said


def sleep_until(moment: datetime, simulation: Simulation) -> None:
    simulation.world.change_hour(simulation.now)
    simulation.asleep = moment


def edit_at(moment: datetime, simulation: Simulation) -> None:
    simulation.at(moment, simulation.world.change_hour)


@pytest.mark.parametrize("late", [sleep_until, edit_at])
def test_a_clock_that_the_last_beat_of_a_day_strikes_breaks_no_rule(
    late: Callable[[datetime, Simulation], None], db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("newsletters.simulation.world.HOURS", [time(0, 30)])
    simulation = Simulation(days=1, subscribers=2, zones=1, seed=1, wanted=False)
    midnight = simulation.start + timedelta(days=1)
    simulation.live(until=midnight - timedelta(hours=3))

    late(midnight - timedelta(seconds=10), simulation)
    simulation.live(until=midnight)
    simulation.look_around(FIRST)

    assert not simulation.broken
    assert Delivery.objects.filter(local_date=FIRST + timedelta(days=1), state="sent").count() == 2


@pytest.mark.parametrize("option", ["--days", "--subscribers", "--zones"])
def test_it_refuses_a_simulation_of_nothing(option: str) -> None:
    with pytest.raises(CommandError, match="at least one day, one subscriber and one zone"):
        simulate(option, "0")
