"""A broker that is full, away or forgetful costs wake-ups, and nothing else."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis
from django.db import connection

from bench import ground
from newsletters import sending
from newsletters.models import Delivery, Letter
from newsletters.models.outgoing import State
from optin import answering
from optin.models import OptInPage
from tests.processes import ROOT
from tests.servers import MailServer
from tests.test_sending import MONDAY, mail_url, planned  # noqa: F401


def elsewhere(port: int, code: str, **env: str) -> str:
    """Run it in a process whose broker is this one, and return what it prints."""
    run = subprocess.run(
        [sys.executable, "-c", f"import django; django.setup()\n{code}"],
        cwd=ROOT,
        env=os.environ | {"REDIS_URL": f"redis://127.0.0.1:{port}/0"} | env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def wake(port: int) -> None:
    """Wake the senders; it must not mind."""
    elsewhere(port, "from newsletters import tasks; tasks._wake()")


def the_database() -> str:
    known = connection.settings_dict
    place = f"{known['USER']}:{known['PASSWORD']}@{known['HOST']}:{known['PORT']}/{known['NAME']}"
    return f"postgres://{place}"


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


DRAIN = """
import time_machine
from newsletters import tasks
with time_machine.travel("2026-11-23T06:00:00+00:00"):
    tasks.{task}
"""


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("task", ["drain(3)", "tick(); tasks.drain()"])
def test_whoever_is_awake_works_though_the_broker_is_full(
    planned: Any,  # noqa: F811
    smtp: MailServer,
    tmp_path: Path,
    settings: Any,
    task: str,
) -> None:
    planned(5)
    server = ground.redis(tmp_path)
    with server.running():
        redis.Redis(port=server.port).config_set("maxmemory", "1")
        where = {"DATABASE_URL": the_database(), "MAIL_URL": smtp.url, "DATA_DIR": str(settings.DATA_DIR)}
        elsewhere(server.port, DRAIN.format(task=task), **where)

    assert len(smtp.received) == 5


ASK = """
import time_machine
from django.test import Client
from tests.visitor import MONDAY, join
with time_machine.travel(MONDAY) as clock:
    print(join(Client(), clock, "bob@example.com").status_code)
"""


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("full", [True, False])
def test_the_opt_in_form_is_taken_without_a_broker(page: OptInPage, tmp_path: Path, settings: Any, full: bool) -> None:
    server = ground.redis(tmp_path)
    with server.running():
        redis.Redis(port=server.port).config_set("maxmemory", "1")
        if not full:
            server.end()
        where = {"DATABASE_URL": the_database(), "DATA_DIR": str(settings.DATA_DIR), "ALLOWED_HOSTS": "testserver"}
        assert elsewhere(server.port, ASK, **where) == "303\n"

    # What is owed is written down: the next tick writes the letter.
    answering.answer(MONDAY)
    assert Letter.objects.get().kind == Letter.Kind.CONFIRM
