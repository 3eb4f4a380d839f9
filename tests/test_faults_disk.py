"""A disk is full, of the deliveries, of the letterbox, of the logs: what cannot go on stops, and goes on with room."""

import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import OperationalError, connection

from newsletters import sending
from newsletters.models import Delivery
from newsletters.models.outgoing import State
from tests.servers import MailServer
from tests.test_faults_points import elsewhere, time_passes
from tests.test_sending import MONDAY, mail_url, planned  # noqa: F401

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def tiny() -> Iterator[Path]:
    """A disk of a megabyte that PostgreSQL may write, and the deliveries on it."""
    folder = Path(tempfile.mkdtemp(prefix="funnel-disk-"))
    try:
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=False).returncode:
            pytest.skip("no disk of its own: mounting one needs root")
        try:
            yield folder
        finally:
            subprocess.run(["umount", folder], check=True)
    finally:
        folder.rmdir()


def run(statement: str) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall()) if cursor.description else []


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass


@pytest.mark.postgresql
def test_a_full_disk_stops_sending_and_costs_nobody_an_email(
    tiny: Path,
    planned: Any,  # noqa: F811
    smtp: MailServer,
) -> None:
    planned(150)
    server = Path(run("SHOW data_directory")[0][0]).stat()
    os.chown(tiny, server.st_uid, server.st_gid)
    run(f"CREATE TABLESPACE tiny LOCATION '{tiny}'")
    try:
        run("ALTER TABLE newsletters_delivery SET TABLESPACE tiny")
        fill(tiny / "full")

        with pytest.raises(OperationalError, match="No space left"):
            sending.drain(lambda: MONDAY)
        connection.close()
        assert smtp.received == []

        (tiny / "full").unlink()
        time_passes()
        assert sending.drain(lambda: MONDAY) == {"sent": 150}
        assert set(Delivery.objects.values_list("state", flat=True)) == {State.SENT}
        assert len({one.recipients[0] for one in smtp.received}) == len(smtp.received) == 150
    finally:
        run("ALTER TABLE newsletters_delivery SET TABLESPACE pg_default")
        run("DROP TABLESPACE tiny")


def test_a_full_letterbox_puts_off_and_goes_on_with_room(
    tiny: Path,
    planned: Any,  # noqa: F811
    settings: Any,
) -> None:
    planned(5)
    settings.MAIL_URL = "letterbox:"
    settings.DATA_DIR = tiny
    for folder in ("tmp", "new", "cur"):
        (tiny / "letterbox" / folder).mkdir(parents=True)
    fill(tiny / "full")

    assert sending.drain(lambda: MONDAY) == {"retry": 5}
    assert all("No space left" in row.reply for row in Delivery.objects.all())
    assert not list(tiny.glob("letterbox/new/*"))

    (tiny / "full").unlink()
    assert sending.drain(lambda: MONDAY + timedelta(minutes=2)) == {"sent": 5}
    assert len(list(tiny.glob("letterbox/new/*"))) == 5


def drain_without_logs() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, 1)
    os.dup2(full, 2)
    logging.basicConfig(level=logging.DEBUG, force=True)
    call_command("send_due", at=MONDAY.isoformat(), stdout=sys.stderr)


def test_logs_that_nobody_can_write_stop_nobody(
    planned: Any,  # noqa: F811
    smtp: MailServer,
) -> None:
    planned(20)
    smtp.replies["reader3@example.com"] = "450 4.2.0 later"

    elsewhere(drain_without_logs)

    assert len(smtp.received) == 19
    assert set(Delivery.objects.values_list("state", flat=True)) == {State.SENT, State.RETRY}
