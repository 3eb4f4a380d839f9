from contextlib import suppress
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.utils import timezone

from funnel import keys
from newsletters.models import Heartbeat
from tests.daemons import free_port


def test_it_is_alive_without_a_database(client: Client) -> None:
    assert client.get("/healthz").content == b"ok\n"


@pytest.mark.django_db
def test_it_is_ready_with_tables_and_a_fresh_tick(client: Client, settings: Any, redis_url: str) -> None:
    settings.REDIS_URL = redis_url
    Heartbeat.objects.create(name="tick", at=timezone.now())

    answer = client.get("/readyz")

    assert answer.status_code == 200
    assert answer.content == b"database: ok\nbroker: ok\ntick: ok\n"


@pytest.mark.django_db
def test_it_is_not_ready_when_nobody_ticks(client: Client) -> None:
    Heartbeat.objects.create(name="tick", at=timezone.now() - timedelta(minutes=4))

    answer = client.get("/readyz")

    assert answer.status_code == 503
    assert b"tick: none for 240 seconds" in answer.content


@pytest.mark.django_db
def test_it_is_not_ready_without_broker(client: Client, settings: Any) -> None:
    settings.REDIS_URL = f"redis://127.0.0.1:{free_port()}/0"

    answer = client.get("/readyz")

    assert answer.status_code == 503
    assert b"broker: cannot be reached" in answer.content


@pytest.mark.django_db
def test_it_is_not_ready_before_its_migrations(client: Client) -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'optin'")

    answer = client.get("/readyz")

    assert answer.status_code == 503
    assert b"migrations are not applied" in answer.content


@pytest.mark.django_db
def test_it_answers_a_supervisor_by_any_name_and_without_tls(client: Client, settings: Any) -> None:
    settings.SECURE_SSL_REDIRECT = True

    for path in ("/healthz", "/readyz"):
        assert client.get(path, HTTP_HOST="10.0.0.7:8000").status_code == 200


@pytest.mark.django_db
def test_the_doctor_finds_nothing_on_a_place_that_works(settings: Any, data_dir: Path) -> None:
    keys.load(data_dir / "keys")
    Heartbeat.objects.create(name="tick", at=timezone.now())

    said = doctor()

    assert said["place"] == said["keys"] == said["database"] == said["worker"] == said["mail server"] == "ok"
    assert set(said.values()) == {"ok"}


@pytest.mark.django_db
def test_the_doctor_names_what_is_wrong(settings: Any, data_dir: Path) -> None:
    (data_dir / "keys").touch(mode=0o644)
    settings.MAIL_URL = f"smtp://127.0.0.1:{free_port()}"
    settings.REDIS_URL = f"redis://127.0.0.1:{free_port()}"

    said = doctor()

    assert said["keys"].startswith("others may read them")
    assert said["broker"] == "cannot be reached"
    assert said["worker"] == "none has run yet"
    assert "cannot be reached" in said["mail server"]
    assert said["address"].endswith("no reader can open the links in their mails")


def doctor() -> dict[str, str]:
    said = StringIO()
    with suppress(SystemExit):
        call_command("doctor", stdout=said)
    return {line[:12].strip(): line[13:] for line in said.getvalue().splitlines()}
