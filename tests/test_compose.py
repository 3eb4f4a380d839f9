import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from tests.daemons import free_port
from tests.processes import ROOT, environment, manage, started, status, wait_until

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


@pytest.fixture
def database_url() -> Iterator[str]:
    """An empty PostgreSQL database."""
    server = os.environ.get("TEST_DATABASE_URL", "")
    if not server:
        pytest.skip("no PostgreSQL: run `python -m tests`, or give TEST_DATABASE_URL")
    name = f"compose_{os.getpid()}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield re.sub(r"/[^/]*$", f"/{name}", server)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def command(service: str, port: int) -> list[str]:
    """Return a service's very command, on a free port of this machine alone."""
    return [word.replace("0.0.0.0:8000", f"127.0.0.1:{port}") for word in SERVICES[service]["command"]]


@pytest.mark.postgresql
@pytest.mark.timeout(240)
def test_its_services_run_in_production_settings(tmp_path: Path, database_url: str, redis_url: str) -> None:
    port = free_port()
    production = {
        "BASE_URL": "https://letters.example.com",
        "MAIL_URL": "smtp://127.0.0.1:9",
        "DATABASE_URL": database_url,
        "REDIS_URL": re.sub(r"/\d*$", "/7", redis_url),
        "TRUSTED_PROXIES": "127.0.0.1/32",
    }
    assert set(SERVICES["web"]["environment"]) <= {"DATA_DIR", *production}
    env = environment(tmp_path, **production)
    migrated = manage(tmp_path, *SERVICES["migrate"]["command"][2:], **production)
    assert migrated.returncode == 0, migrated.stderr

    with (
        started(command("web", port), tmp_path / "web.log", env),
        started(command("worker", port), tmp_path / "worker.log", env),
        started(command("beat", port), tmp_path / "beat.log", env),
    ):
        address = f"http://127.0.0.1:{port}"
        by_proxy = {"Host": "letters.example.com", "X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}
        wait_until(lambda: status(f"{address}/healthz") == 200)
        assert status(f"{address}/admin/login/", **by_proxy) == 200
        assert status(f"{address}/static/look.css", **by_proxy) == 200
        assert status(f"{address}/admin/login/", Host="evil.example") == 404
        with psycopg.connect(database_url, autocommit=True) as connection:
            beats = "SELECT count(*) FROM newsletters_heartbeat WHERE name = 'tick'"
            wait_until(lambda: connection.execute(beats).fetchone() == (1,), seconds=60)
        assert status(f"{address}/readyz") == 200

    assert "Traceback" not in "".join(log.read_text() for log in tmp_path.glob("*.log"))


def test_nothing_in_it_is_secret() -> None:
    text = (ROOT / "docker-compose.yml").read_text() + (ROOT / ".env.example").read_text()

    for line in text.splitlines():
        if re.search("PASSWORD|SECRET|KEY", line) and not line.startswith("#"):
            assert re.search(r"\$\{\w+:\?|USER:PASSWORD@|=$", line), line


def test_every_service_is_watched_and_comes_back() -> None:
    assert set(SERVICES) == {"proxy", "migrate", "web", "worker", "beat", "postgres", "redis"}
    for name, service in SERVICES.items():
        if name == "migrate":
            continue
        assert service["restart"] == "unless-stopped", name
        assert service["healthcheck"]["test"], name


def test_the_proxy_speaks_to_a_trusted_network() -> None:
    (network,) = COMPOSE["networks"]["default"]["ipam"]["config"]

    assert SERVICES["web"]["environment"]["TRUSTED_PROXIES"] == network["subnet"]


def test_the_image_runs_as_nobody_important() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()

    assert dockerfile.count("FROM ") == 2
    assert re.search(r"^USER (?!root)\w+$", dockerfile, re.MULTILINE)
    assert "--require-hashes" in dockerfile
