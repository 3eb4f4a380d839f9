"""All processes of a place killed at once, and a new version that comes while the old one still sends."""

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from django.db import connection

from newsletters.models import Delivery
from tests.processes import ROOT, environment, manage, started, wait_until
from tests.servers import WireServer
from tests.test_faults_broker import the_database
from tests.test_faults_database import another_session
from tests.test_stop import PREPARE, READERS, WAKE, ends
from tests.test_up import up

pytestmark = pytest.mark.timeout(300)
RECIPIENT = re.compile(rb"^To: .*?(r\d+)@example\.com", re.MULTILINE)
MORE = ["planned", "leased", "handoff", "retry"]


def copies(server: WireServer) -> Counter[bytes]:
    return Counter(match[1] for text in server.texts if (match := RECIPIENT.search(text)))


@pytest.mark.sqlite
def test_web_workers_and_beat_killed_at_once_go_on_where_they_were(
    tmp_path: Path, wire: Callable[..., WireServer]
) -> None:
    server, file = wire(wait={"dot": 0.05}), tmp_path / "db.sqlite3"
    settings: dict[str, str] = {"MAIL_URL": f"{server.url}?connections=4"}
    for command in (["migrate", "--verbosity", "0"], ["shell", "-c", PREPARE], ["shell", "-c", WAKE]):
        done = manage(tmp_path, *command, **settings)
        assert done.returncode == 0, done.stderr

    with up(tmp_path, **settings) as first:
        wait_until(lambda: len(server.texts) > 20)
        for pid in first.family():
            os.kill(pid, signal.SIGKILL)
    then = ends(file)
    # Five minutes pass for a lease, eleven for a hand-off.
    with sqlite3.connect(file) as database:
        database.execute("UPDATE newsletters_delivery SET leased_until = '2020-01-01 00:00:00' WHERE owner NOT NULL")
    with up(tmp_path, **settings):
        wait_until(lambda: not any(state in ends(file) for state in MORE), 120)

    assert then.get("planned", 0) + then.get("leased", 0) > 0
    uncertain = ends(file).get("uncertain", 0)
    assert ends(file).get("sent", 0) == READERS - uncertain
    assert uncertain <= 4
    assert max(copies(server).values()) == 1
    assert READERS - uncertain <= len(copies(server)) <= READERS


LATER = """
from django.db import migrations
class Migration(migrations.Migration):
    dependencies = [("newsletters", "{last}")]
    operations = [migrations.RunSQL("ALTER TABLE newsletters_delivery ADD COLUMN later integer NULL")]
"""


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """A second checkout, whose newest migration adds a column to the deliveries."""
    place = tmp_path / "newer"
    for name in ("funnel", "newsletters", "optin", "desk", "templates", "static", "locale"):
        shutil.copytree(ROOT / name, place / name)
    shutil.copy(ROOT / "manage.py", place)
    folder = place / "newsletters/migrations"
    last = max(file.stem for file in folder.glob("0*.py"))
    (folder / "0999_later.py").write_text(LATER.format(last=last))
    return place


def at(checkout: Path, env: dict[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a checkout's management command to its end."""
    command = [sys.executable, str(checkout / "manage.py"), *arguments]
    return subprocess.run(command, env=env, cwd=checkout, capture_output=True, text=True, timeout=120, check=False)


def worker_of(checkout: Path) -> list[str]:
    code = "import os, sys; os.chdir(sys.argv[1]); sys.path.insert(0, sys.argv[1]); from celery.__main__ import main; "
    code += "sys.argv[:2] = ['celery']; main()"
    worker = [sys.executable, "-P", "-c", code, str(checkout), "-A", "funnel", "--quiet", "--skip-checks", "worker"]
    return [*worker, "--pool", "prefork", "--concurrency", "1", "--loglevel", "WARNING", "--without-gossip"]


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_a_new_version_comes_while_the_old_one_sends(
    tmp_path: Path, newer: Path, wire: Callable[..., WireServer]
) -> None:
    server, place = wire(wait={"dot": 0.05}), tmp_path / "place"
    env = environment(place, DATABASE_URL=the_database(), MAIL_URL=f"{server.url}?connections=2")
    for code in (PREPARE, WAKE):
        done = at(ROOT, env, "shell", "-c", code)
        assert done.returncode == 0, done.stderr
    try:
        with started(worker_of(ROOT), tmp_path / "old.log", env) as old:
            wait_until(lambda: len(server.texts) > 20)
            # However long the new version takes to come, something is left for it.
            server.wait["dot"] = 2.0
            with another_session() as other, other.transaction():
                other.execute("SELECT 1 FROM newsletters_delivery LIMIT 1")
                waited = at(newer, env, "migrate", "--verbosity", "0")
            migrated = at(newer, env, "migrate", "--verbosity", "0")
            server.wait["dot"], sent = 0.05, len(server.texts)
            with started(worker_of(newer), tmp_path / "new.log", env):
                # The old one keeps some of them for itself.
                at(newer, env, "shell", "-c", WAKE + "\nfor _ in range(8): tasks.drain.delay()")
                wait_until(lambda: len(server.texts) > sent)
                old.terminate()
                old.wait(20)
                # No beat is there to wake anybody.
                at(newer, env, "shell", "-c", WAKE)
                wait_until(lambda: not Delivery.objects.filter(state__in=MORE).exists(), 60)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE newsletters_delivery DROP COLUMN IF EXISTS later")
            cursor.execute("DELETE FROM django_migrations WHERE name = '0999_later'")

    assert "Run it again" in waited.stderr, waited.stderr
    assert migrated.returncode == 0, migrated.stderr
    assert Counter(Delivery.objects.values_list("state", flat=True)) == {"sent": READERS}
    assert len(copies(server)) == len(server.texts) == READERS
