"""The sign of life for a machine elsewhere."""

from datetime import datetime
from typing import Any

import pytest

from newsletters import alarms, heartbeat, planning, promise, tasks
from newsletters.models import Delivery, Heartbeat
from newsletters.models.outgoing import State
from tests.watch import HOUR, MINUTE, MONDAY, THE_23RD, Messenger, end


@pytest.fixture
def awake(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stand in for the broker: wake-ups are noted, and carried out by nobody."""
    called: list[str] = []
    monkeypatch.setattr(tasks.drain, "delay", lambda others: called.append("drain"))
    monkeypatch.setattr(tasks.tell, "delay", lambda: called.append("tell"))
    return called


def test_the_heartbeat_says_start_and_success(
    waiting: list[Delivery], messenger: Messenger, settings: Any, awake: list[str]
) -> None:
    settings.HEARTBEAT_URL = messenger.url("http", "/uuid?rid=1")
    tasks.keep_watch(MONDAY, [planning.Plan("pas", "Europe/Paris", THE_23RD, 20)])
    heartbeat.tell(MONDAY)
    heartbeat.tell(MONDAY + MINUTE)
    started = [path for path, _body in messenger.heard]

    end(waiting, State.SENT)
    tasks.keep_watch(MONDAY + 2 * MINUTE, [])
    heartbeat.tell(MONDAY + 2 * MINUTE)
    heartbeat.tell(MONDAY + 3 * MINUTE)

    assert awake == ["tell", "tell"]
    assert started == ["/uuid/start?rid=1"]
    assert [path for path, _body in messenger.heard][1:] == ["/uuid?rid=1"]


def test_the_heartbeat_says_fail_where_too_little_was_accepted(
    waiting: list[Delivery], messenger: Messenger, settings: Any
) -> None:
    settings.HEARTBEAT_URL = messenger.url("http", "/uuid")
    heartbeat.planned(MONDAY)
    end(waiting, State.FAILED, "refused")
    promise.tick(MONDAY + MINUTE)

    heartbeat.tell(MONDAY + MINUTE)

    assert [path for path, _body in messenger.heard] == ["/uuid/start", "/uuid/fail"]


def test_a_heartbeat_that_nobody_answers_is_tried_again(messenger: Messenger, settings: Any, db: None) -> None:
    settings.HEARTBEAT_URL = messenger.url("http", "/uuid")
    messenger.deaf_to = {"/uuid/start"}
    heartbeat.planned(MONDAY)

    heartbeat.tell(MONDAY)
    messenger.deaf_to = set()
    heartbeat.tell(MONDAY + MINUTE)

    assert [path for path, _body in messenger.heard] == ["/uuid/start", "/uuid/start", "/uuid"]


def test_a_failing_alarm_stops_neither_the_tick_nor_the_other_parts(
    waiting: list[Delivery], awake: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(now: datetime) -> None:
        raise RuntimeError

    monkeypatch.setattr(alarms, "tick", broken)
    end(waiting, State.SENT)

    tasks.keep_watch(MONDAY + 15 * HOUR, [])

    assert [day.kept for day in waiting[0].publication.days.all()] == [True]
    assert Heartbeat.objects.filter(name="ledger").exists()
