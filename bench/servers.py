"""A PostgreSQL for measuring: as durable as in real life, with room for its data in memory."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.daemons import NOBODY, free_port, postgresql_programs, running

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "2GB",
    "work_mem": "64MB",
    "maintenance_work_mem": "1GB",
    "max_wal_size": "16GB",
    "checkpoint_timeout": "1h",
    "random_page_cost": "1.1",
    "autovacuum": "off",  # between two measurements the bench itself looks after the tables
    "jit": "off",
}


@contextmanager
def place() -> Iterator[Path]:
    """Yield a folder that is removed afterwards, large enough for a history: BENCH_DIR or the system's own."""
    folder = Path(tempfile.mkdtemp(prefix="funnel-bench-", dir=os.environ.get("BENCH_DIR")))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """Yield the URL of a new PostgreSQL. Raises NoServer."""
    programs, data, port = postgresql_programs(folder), folder / "data", free_port()
    user = NOBODY if os.geteuid() == 0 else None
    data.mkdir()
    if user:
        os.chown(data, user, -1)
    initdb: list[str | Path] = [
        programs / "initdb",
        "-D",
        data,
        "-U",
        "postgres",
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--locale=C",
        "-N",
    ]
    subprocess.run(initdb, user=user, cwd=data, check=True, stdout=subprocess.DEVNULL)
    server: list[str | Path] = [programs / "postgres", "-D", data, "-p", str(port)]
    for name, value in SETTINGS.items():
        server += ["-c", f"{name}={value}"]
    with running(server, port, data / "log", user):
        yield f"postgres://postgres@127.0.0.1:{port}/postgres"


def django(url: str, folder: Path) -> None:
    """Set Django up on a database, with keys and files of its own, and make the tables."""
    for name in ("BASE_URL", "DEBUG", "MAIL_URL", "REDIS_URL", "SECRET_KEY"):
        os.environ.pop(name, None)
    os.environ |= {"DATABASE_URL": url, "DATA_DIR": str(folder / "var"), "DJANGO_SETTINGS_MODULE": "funnel.settings"}
    import django as framework
    from django.core.management import call_command

    framework.setup()
    call_command("migrate", verbosity=0)
