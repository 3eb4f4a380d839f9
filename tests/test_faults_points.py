"""Kill -9 at each named point between a row and its end."""

import multiprocessing
import os
import resource
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, connections

from newsletters import sending
from newsletters.models import Delivery
from newsletters.models.outgoing import State
from newsletters.transports import Line, Message, Outcome, connect, line
from tests.servers import MailServer
from tests.test_sending import MONDAY, mail_url, planned  # noqa: F401
from tests.through import Through

pytestmark = pytest.mark.django_db(transaction=True)
FORK = multiprocessing.get_context("fork")


class Deadly(Through):
    """A line at one point of which the process ends as by kill -9."""

    def __init__(self, way: Line, point: str) -> None:
        super().__init__(way)
        self.point = point

    def at(self, point: str, happens: bool = True) -> None:
        if happens and point == self.point:
            os.kill(os.getpid(), signal.SIGKILL)

    def stage(self, message: Message) -> None:
        self.at("after the lease")
        self.way.stage(message)

    def poll(self, seconds: float) -> dict[Any, Outcome]:
        ended = self.way.poll(seconds)
        self.at("before the hand-off", bool(self.way.staged))
        self.at("after the reply", bool(ended))
        return ended

    def hand_off(self, passed: set[Any], dropped: set[Any]) -> None:
        self.at("after the hand-off", bool(passed))
        self.way.hand_off(passed, dropped)
        self.at("after the dot", bool(passed))


def begun(act: Callable[[], object]) -> ForkProcess:
    """Let a process of its own do it."""
    name, url = connection.settings_dict["NAME"], django_mail_url()
    connections.close_all()
    process = FORK.Process(target=_elsewhere, args=(str(name), url, act))
    process.start()
    return process


def elsewhere(act: Callable[[], object]) -> int | None:
    """Let a process of its own do it, and return how that ended."""
    process = begun(act)
    process.join(60)
    ended = process.exitcode
    # What it still holds in the database would keep the tests after this one waiting.
    process.kill()
    process.join()
    return ended


def django_mail_url() -> str:
    from django.conf import settings

    return str(settings.MAIL_URL)


def _elsewhere(database: str, url: str, act: Callable[[], object]) -> None:
    from django.conf import settings

    settings.MAIL_URL = url
    connections["default"].settings_dict["NAME"] = database
    connections["default"].close()
    act()


def time_passes() -> None:
    """Let every lease run out, and do what the tick does then."""
    Delivery.objects.exclude(leased_until=None).update(leased_until=datetime(2020, 1, 1, tzinfo=UTC))
    sending.sweep(MONDAY)


def drain_until(point: str) -> None:
    sending.drain(lambda: MONDAY, way_out=lambda url: Deadly(line(connect(url)), point))


@pytest.mark.parametrize(
    ("point", "state", "arrived"),
    [
        ("after the lease", State.PLANNED, 0),
        ("before the hand-off", State.PLANNED, 0),
        ("after the hand-off", State.UNCERTAIN, 0),
        ("after the dot", State.UNCERTAIN, 1),
        ("after the reply", State.UNCERTAIN, 1),
    ],
)
def test_only_what_was_handed_off_is_in_doubt(
    planned: Any,  # noqa: F811
    smtp: MailServer,
    point: str,
    state: str,
    arrived: int,
) -> None:
    planned()

    assert elsewhere(lambda: drain_until(point)) == -signal.SIGKILL
    time_passes()

    assert Delivery.objects.get().state == state
    ended = sending.drain(lambda: MONDAY)
    assert ended == ({"sent": 1} if state == State.PLANNED else {})
    assert len(smtp.received) == (1 if state == State.PLANNED else arrived)


def test_a_worker_without_memory_costs_nobody_an_email(
    planned: Any,  # noqa: F811
    smtp: MailServer,
) -> None:
    planned(20)

    elsewhere(drain_with_no_memory)
    time_passes()
    sending.drain(lambda: MONDAY)

    uncertain = Delivery.objects.filter(state=State.UNCERTAIN).count()
    assert Delivery.objects.filter(state=State.SENT).count() == 20 - uncertain
    assert len(smtp.received) == len({one.recipients[0] for one in smtp.received})
    assert 20 - uncertain <= len(smtp.received) <= 20


def drain_with_no_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    size = pages * resource.getpagesize() + 2_000_000
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    sending.drain(lambda: MONDAY)
