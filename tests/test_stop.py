"""A worker that is told to stop in the middle of a send: nothing is lost, doubled or in doubt."""

import os
import signal
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.processes import environment, manage, started, wait_until
from tests.servers import WireServer

READERS = 400
PREPARE = f"""
from datetime import timedelta
from django.utils import timezone
from newsletters.models import Delivery, Issue, Publication, Subscriber
now = timezone.now()
pas = Publication.objects.create(name="Pas", slug="pas", language="fr", author="Maud", sender="maud@pas.example",
    reply_to="maud@pas.example", postal_address="Bayonne")
issue = Issue.objects.create(publication=pas, subject="Le carnet", body="Bonjour.", state="queued", public_id="carnet")
readers = [Subscriber(publication=pas, address=f"r{{n}}@example.com", address_key=f"r{{n}}@example.com",
    address_hash=str(n), status="active", zone="Europe/Paris", language="fr") for n in range({READERS})]
for reader in Subscriber.objects.bulk_create(readers):
    Delivery.objects.create(local_date=now.date(), subscriber=reader, publication=pas, issue=issue, way="daily",
        due_at=now, try_at=now, late_until=now + timedelta(hours=5))
"""
TICK = "from newsletters import tasks; tasks.tick()"
WAKE = "from newsletters import tasks; tasks.drain.delay()"


@pytest.mark.sqlite
@pytest.mark.timeout(240)
@pytest.mark.parametrize("pool", ["prefork", "threads"])
@pytest.mark.parametrize("whole_group", [False, True])
def test_sigterm_ends_a_send_between_two_groups(
    tmp_path: Path, wire: Callable[..., WireServer], pool: str, whole_group: bool
) -> None:
    server = wire(wait={"dot": 0.05})
    env = environment(tmp_path, MAIL_URL=f"{server.url}?connections=4")
    for command in (["migrate", "--verbosity", "0"], ["shell", "-c", PREPARE], ["shell", "-c", WAKE]):
        done = manage(tmp_path, *command)
        assert done.returncode == 0, done.stderr
    worker = [sys.executable, "-m", "celery", "-A", "funnel", "--quiet", "--skip-checks", "worker", "--pool", pool]
    worker += ["--concurrency", "1", "--loglevel", "WARNING", "--without-gossip"]

    with started(worker, tmp_path / "worker.log", env) as process:
        wait_until(lambda: len(server.texts) > 20)
        for pid in [process.pid, *(children(process.pid) if whole_group else [])]:
            os.kill(pid, signal.SIGTERM)
        process.wait(10)

    assert not children(process.pid)
    states = ends(tmp_path / "db.sqlite3")
    assert states == {"sent": len(server.texts), "planned": READERS - len(server.texts)}
    assert 20 < len(server.texts) < READERS


@pytest.mark.sqlite
@pytest.mark.timeout(240)
def test_sigterm_waits_for_a_mute_server_no_longer_than_ten_seconds(
    tmp_path: Path, wire: Callable[..., WireServer]
) -> None:
    server = wire(offers=["SIZE"], replies={"dot": [*["250 Ok"] * 8, None]})
    env = environment(tmp_path, MAIL_URL=f"{server.url}?connections=4")
    for command in (["migrate", "--verbosity", "0"], ["shell", "-c", PREPARE], ["shell", "-c", WAKE]):
        done = manage(tmp_path, *command)
        assert done.returncode == 0, done.stderr
    worker = [sys.executable, "-m", "celery", "-A", "funnel", "--quiet", "--skip-checks", "worker", "--pool", "prefork"]
    worker += ["--concurrency", "1", "--loglevel", "WARNING", "--without-gossip"]

    with started(worker, tmp_path / "worker.log", env) as process:
        wait_until(lambda: len(server.texts) >= 8)
        time.sleep(1)
        process.terminate()
        process.wait(10)

    # What the server has all of and says nothing about is in doubt: one message a connection.
    assert ends(tmp_path / "db.sqlite3") == {"sent": 8, "uncertain": 4, "planned": READERS - 12}


@pytest.mark.sqlite
@pytest.mark.timeout(240)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_send_in_the_foreground_ends_between_two_groups_too(
    tmp_path: Path, wire: Callable[..., WireServer], number: signal.Signals
) -> None:
    server = wire(wait={"dot": 0.05})
    env = environment(tmp_path, MAIL_URL=f"{server.url}?connections=4")
    for command in (["migrate", "--verbosity", "0"], ["shell", "-c", PREPARE]):
        done = manage(tmp_path, *command)
        assert done.returncode == 0, done.stderr

    with started([sys.executable, "manage.py", "send_due"], tmp_path / "send.log", env) as process:
        wait_until(lambda: len(server.texts) > 20)
        process.send_signal(number)
        process.wait(20)

    assert ends(tmp_path / "db.sqlite3") == {"sent": len(server.texts), "planned": READERS - len(server.texts)}
    assert 20 < len(server.texts) < READERS


@pytest.mark.sqlite
@pytest.mark.timeout(240)
def test_one_tick_sets_every_process_to_work(tmp_path: Path, wire: Callable[..., WireServer]) -> None:
    server = wire(wait={"dot": 0.05})
    env = environment(tmp_path, MAIL_URL=f"{server.url}?connections=4")
    for command in (["migrate", "--verbosity", "0"], ["shell", "-c", PREPARE], ["shell", "-c", TICK]):
        done = manage(tmp_path, *command)
        assert done.returncode == 0, done.stderr
    worker = [sys.executable, "-m", "celery", "-A", "funnel", "--quiet", "--skip-checks", "worker", "--pool", "prefork"]
    worker += ["--concurrency", "2", "--loglevel", "WARNING", "--without-gossip"]

    with started(worker, tmp_path / "worker.log", env) as process:
        wait_until(lambda: len(server.chunks) == 2 * 4)
        process.terminate()
        process.wait(20)

    assert ends(tmp_path / "db.sqlite3")["sent"] == len(server.texts)


def children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in tasks.read_text().split()] if tasks.exists() else []


def ends(database: Path) -> dict[str, int]:
    with sqlite3.connect(database) as connection:
        return dict(Counter(state for (state,) in connection.execute("SELECT state FROM newsletters_delivery")))
