"""Web, worker and beat as one process tree: all that a machine of one's own needs."""

import os
import socket
import sys
import time
from argparse import ArgumentParser
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from django.conf import settings
from django.core.management import CommandError, call_command
from django.core.management.base import BaseCommand
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor

from funnel import children
from newsletters.models import Publication

HERE = "127.0.0.1"


class Command(BaseCommand):
    help = "Start web, worker and beat together; Ctrl-C stops them all."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--prepare", action="store_true", help="first migrate, and load the demo where there is no publication"
        )

    def handle(self, *args: Any, prepare: bool, **options: Any) -> None:
        check_place()
        check_port()
        waiting = check_database()
        if prepare:
            if waiting:
                call_command("migrate", verbosity=0)
            call_command("demo")
        elif waiting:
            raise CommandError("The database lacks migrations. Run `python manage.py migrate` first.")
        connection.close()
        children.run(family(), self.say, Greeting(self.say))
        self.say("Stopped.")

    def say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()


def check_place() -> None:
    if not os.access(settings.DATA_DIR, os.W_OK):
        raise CommandError(f"DATA_DIR ({settings.DATA_DIR}) cannot be written to. Give a folder this user may write.")


def check_port() -> None:
    port = int(settings.PORT)
    if not is_free(port):
        other = next((number for number in range(port + 1, 65536) if is_free(number)), port + 1)
        raise CommandError(f"PORT {port} is in use by another program. Choose another, for example PORT={other}.")


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As gunicorn does: connections of a server that has just stopped do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HERE, port))
        except OSError:
            return False
    return True


def check_database() -> bool:
    """Return whether migrations wait to be applied."""
    try:
        executor = MigrationExecutor(connection)
    except DatabaseError as error:
        reason = str(error).strip().splitlines()[0]
        raise CommandError(f"DATABASE_URL names a database that cannot be used: {reason}.") from None
    return bool(executor.migration_plan(executor.loader.graph.leaf_nodes()))


def family() -> list[children.Child]:
    python = [sys.executable, "-m"]
    web = ["gunicorn", "funnel.wsgi:application", "--bind", f"{HERE}:{settings.PORT}", "--threads", "8"]
    # Who may speak for a client is decided by TRUSTED_PROXIES alone.
    web += ["--forwarded-allow-ips", "", "--log-level", "warning", "--no-control-socket"]
    # A browser that has begun a request and says no more keeps nobody from ending.
    web += ["--graceful-timeout", str(children.GRACE)]
    jobs = ["celery", "-A", "funnel", "--quiet", "--skip-checks"]
    worker = [*jobs, "worker", "--pool", "threads", "--concurrency", "4", "--loglevel", "WARNING", "--without-gossip"]
    beat = [*jobs, "beat", "--pidfile", "", "--loglevel", "WARNING"]
    return [
        children.Child("web", python + web),
        # In a container everyone is root; Celery would say at length that it is unwise.
        children.Child("worker", python + worker, {"PYTHONWARNINGS": "ignore:::celery.platforms"}),
        children.Child("beat", python + beat),
    ]


class Greeting:
    """Say where to go, once the pages answer."""

    def __init__(self, say: Any) -> None:
        self.say, self.started_at = say, time.monotonic()

    def __call__(self) -> bool:
        try:
            urlopen(f"http://{HERE}:{settings.PORT}/healthz", timeout=5).close()
        except (URLError, OSError):
            return False
        self.say(f"Running after {time.monotonic() - self.started_at:.1f} s; Ctrl-C stops it.")
        for name, address in addresses():
            self.say(f"  {name:<12} {address}")
        return True


def addresses() -> list[tuple[str, str]]:
    found = []
    if publication := Publication.objects.filter(pages__main=True).order_by("pk").first():
        found.append(("Opt-in page", f"{publication.root}/"))
    found.append(("Desk", f"{settings.BASE_URL}/desk/"))
    if settings.MAIL_URL.startswith("letterbox"):
        found.append(("Letterbox", f"{settings.BASE_URL}/letterbox/"))
    return found
