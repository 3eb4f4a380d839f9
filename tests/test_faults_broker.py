"""A broker that is full, away or forgetful costs wake-ups, and nothing else."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis

from bench import ground
from newsletters import sending
from newsletters.models import Delivery, Letter
from newsletters.models.delivery import State
from tests.processes import ROOT
from tests.servers import MailServer
from tests.test_sending import MONDAY, mail_url, planned  # noqa: F401


def wake(port: int) -> None:
    """Wake the senders from a process whose broker is this one, and tell whether it minded."""
    code = "import django; django.setup(); from newsletters import tasks; tasks._wake()"
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"REDIS_URL": f"redis://127.0.0.1:{port}/0"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr


def test_a_broker_that_is_full_or_gone_stops_nobody(tmp_path: Path) -> None:
    server = ground.redis(tmp_path)
    with server.running():
        broker = redis.Redis(port=server.port)
        wake(server.port)
        assert broker.llen("celery") == 1

        broker.config_set("maxmemory", "1")
        wake(server.port)
        assert broker.llen("celery") == 1

        broker.config_set("maxmemory", "0")
        wake(server.port)
        assert broker.llen("celery") == 2
        broker.close()
    wake(server.port)


@pytest.mark.django_db(transaction=True)
def test_a_wake_up_that_comes_again_and_again_sends_once(
    planned: Any,  # noqa: F811
    smtp: MailServer,
) -> None:
    planned(5)

    for _ in range(20):
        sending.drain(lambda: MONDAY)
        sending.sweep(MONDAY)

    assert len(smtp.received) == 5
    assert set(Delivery.objects.values_list("state", flat=True)) == {State.SENT}
    assert not Letter.objects.exists()
