"""Kill -9 while a provider is being called: what it may have taken is in doubt, and everything else is sent once."""

import os
import signal
import sqlite3
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

from tests.processes import environment, manage, started, wait_until
from tests.providers import StandIn, open_provider
from tests.providers.day import Open
from tests.test_stop import PREPARE, READERS, TICK, WAKE, children, ends

__all__ = ["open_provider"]

WORKER = [sys.executable, "-m", "celery", "-A", "funnel", "--quiet", "--skip-checks", "worker", "--pool", "prefork"]
WORKER += ["--concurrency", "1", "--loglevel", "WARNING", "--without-gossip"]
OPEN = {"planned", "leased", "retry", "handoff"}


class Held:
    """A provider that keeps its first call waiting, before it has read it or after, until the caller is gone."""

    def __init__(self, provider: StandIn, takes: bool) -> None:
        self.called, self.gone, self.provider = threading.Event(), threading.Event(), provider
        if takes:
            provider.replies = [lambda call: self.wait() and provider.yes(call)]
        else:
            provider.reads = self.turn_away

    def wait(self) -> bool:
        self.called.set()
        return self.gone.wait(60)

    def turn_away(self) -> bool:
        self.provider.reads = lambda: True
        return not self.wait()


def run(place: Path, settings: dict[str, str], *commands: list[str]) -> None:
    for command in commands:
        done = manage(place, *command, **settings)
        assert done.returncode == 0, done.stderr


def kill(pid: int) -> None:
    for one in [pid, *children(pid)]:
        os.kill(one, signal.SIGKILL)


def time_passes(file: Path) -> None:
    """Let every lease and every hand-off run out."""
    with sqlite3.connect(file) as database:
        database.execute("UPDATE newsletters_delivery SET leased_until = '2020-01-01 00:00:00' WHERE owner NOT NULL")


@pytest.mark.sqlite
@pytest.mark.timeout(240)
@pytest.mark.parametrize(("name", "takes"), [("mailjet", True), ("mailjet", False), ("resend", True)])
def test_a_worker_killed_in_a_call_leaves_that_call_alone_in_doubt(
    name: str, takes: bool, tmp_path: Path, open_provider: Open
) -> None:
    provider, file = open_provider(name), tmp_path / "db.sqlite3"
    held = Held(provider, takes)
    settings = {f"ANYMAIL_{key}": value for key, value in provider.settings.items()} | {"MAIL_URL": f"esp:{name}"}
    settings["ANYMAIL_REQUESTS_TIMEOUT"] = "60"
    env = environment(tmp_path, **settings)
    run(tmp_path, settings, ["migrate", "--verbosity", "0"], ["shell", "-c", PREPARE], ["shell", "-c", WAKE])

    with started(WORKER, tmp_path / "first.log", env) as worker:
        assert held.called.wait(60)
        kill(worker.pid)
        worker.wait(10)
    held.gone.set()
    doubt = ends(file)["handoff"]
    assert len(provider.mails()) == (doubt if takes else 0)
    assert 0 < doubt < READERS

    time_passes(file)
    run(tmp_path, settings, ["shell", "-c", TICK])
    assert ends(file) == {"uncertain": doubt, "planned": READERS - doubt}
    with started(WORKER, tmp_path / "second.log", env):
        wait_until(lambda: not OPEN & set(ends(file)), 120)
    time_passes(file)
    run(tmp_path, settings, ["shell", "-c", TICK], ["send_due"])

    assert ends(file) == {"uncertain": doubt, "sent": READERS - doubt}
    copies = Counter(mail.address for mail in provider.mails())
    assert (len(copies), max(copies.values())) == (READERS if takes else READERS - doubt, 1)
