"""The disk of the deliveries is full: sending stops, and goes on once there is room."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connection

from newsletters import sending
from newsletters.models import Delivery
from newsletters.models.delivery import State
from tests.servers import MailServer
from tests.test_faults_points import time_passes
from tests.test_sending import MONDAY, mail_url, planned  # noqa: F401

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]


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
