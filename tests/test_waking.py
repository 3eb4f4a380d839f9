"""One wake-up is enough: whoever leaves with rows still due wakes the next one. No beat runs here."""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from bench import ground
from tests.processes import environment, manage, started, wait_until
from tests.servers import WireServer
from tests.test_stop import PREPARE, READERS, WAKE, ends

pytestmark = [pytest.mark.sqlite, pytest.mark.timeout(240)]
WORKER = [sys.executable, "-m", "celery", "-A", "funnel", "--quiet", "--skip-checks", "worker", "--pool", "prefork"]
WORKER += ["--concurrency", "1", "--loglevel", "WARNING", "--without-gossip"]
# A drain leases nothing more after so many seconds.
DRAIN = 60


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[str]:
    server = ground.redis(tmp_path)
    with server.running():
        yield f"redis://127.0.0.1:{server.port}/0"


def woken_once(place: Path, broker: str, server: WireServer) -> dict[str, str]:
    """Let many rows be due, send one wake-up, and return the environment for workers."""
    settings = {"MAIL_URL": f"{server.url}?connections=4", "REDIS_URL": broker}
    for command in (["migrate", "--verbosity", "0"], ["shell", "-c", PREPARE], ["shell", "-c", WAKE]):
        done = manage(place, *command, **settings)
        assert done.returncode == 0, done.stderr
    assert queued(broker) == 1
    return environment(place, **settings)


def queued(broker: str) -> int:
    with redis.Redis.from_url(broker) as client:
        return int(client.llen("celery"))


def test_what_one_drain_has_no_time_for_the_next_one_sends(
    tmp_path: Path, broker: str, wire: Callable[..., WireServer]
) -> None:
    server = wire(wait={"dot": 2.0})
    env = woken_once(tmp_path, broker, server)

    with started(WORKER, tmp_path / "worker.log", env):
        wait_until(lambda: server.texts)
        time.sleep(DRAIN + 1)
        in_time = len(server.texts)
        server.wait["dot"] = 0
        wait_until(lambda: ends(tmp_path / "db.sqlite3") == {"sent": READERS}, 60)

    assert in_time < READERS / 2
    assert len(server.texts) == READERS


def test_what_a_stopped_worker_leaves_the_next_one_sends(
    tmp_path: Path, broker: str, wire: Callable[..., WireServer]
) -> None:
    server = wire(wait={"dot": 0.05})
    env = woken_once(tmp_path, broker, server)

    with started(WORKER, tmp_path / "first.log", env) as process:
        wait_until(lambda: len(server.texts) > 20)
        process.terminate()
        process.wait(20)
    left = ends(tmp_path / "db.sqlite3")["planned"]
    with started(WORKER, tmp_path / "second.log", env):
        wait_until(lambda: ends(tmp_path / "db.sqlite3") == {"sent": READERS}, 60)

    assert left > 0
    assert len(server.texts) == READERS
