"""Look at everything the service stands on, and say what is wrong."""

import os
import socket
import stat
import sys
import zoneinfo
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import DatabaseError, connection
from django.utils import timezone

from funnel import health
from newsletters import transports
from newsletters.models import Heartbeat, Publication

WAIT = 10


class Command(BaseCommand):
    help = "Look at place, keys, database, broker, worker, clock, mail server and names; exit 1 if something is wrong."

    def handle(self, *args: Any, **options: Any) -> None:
        checks: list[Callable[[], str]] = [
            place, keys, health.database, clock, health.broker, worker, mail_server, address, senders,
        ]  # fmt: skip
        faults = 0
        for check in checks:
            fault = check()
            faults += bool(fault)
            self.stdout.write(f"{check.__name__.replace('_', ' '):<12} {fault or 'ok'}")
        if faults:
            sys.exit(1)


def place() -> str:
    return "" if os.access(settings.DATA_DIR, os.W_OK) else f"{settings.DATA_DIR} cannot be written to"


def keys() -> str:
    mode = stat.S_IMODE((settings.DATA_DIR / "keys").stat().st_mode)
    return f"others may read them: chmod 600 {settings.DATA_DIR / 'keys'}" if mode & 0o077 else ""


def clock() -> str:
    """Compare with the database's clock, which decides when a lease runs out."""
    if "Europe/Paris" not in zoneinfo.available_timezones():
        return "there are no time zones: install tzdata again"
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT CURRENT_TIMESTAMP")
            theirs = cursor.fetchone()[0]
    except DatabaseError:
        return "unknown, because the database cannot be reached"
    if isinstance(theirs, str):  # SQLite's, which is this machine's own
        return ""
    seconds = abs((timezone.now() - theirs).total_seconds())
    return f"this machine and the database differ by {seconds:.0f} s" if seconds > 5 else ""


def worker() -> str:
    try:
        if not Heartbeat.objects.filter(name="tick").exists():
            return "none has run yet"
    except DatabaseError:
        return "unknown, because the database cannot be reached"
    return health.tick()


def mail_server() -> str:
    options = transports.parse(settings.MAIL_URL)
    if options.scheme == "esp":
        return provider(options)
    if options.scheme != "smtp":
        return ""
    return unreachable(options.host, options.port or (465 if options.query.get("tls") == "ssl" else 25))


def provider(options: transports.Options) -> str:
    """Look whether everything that a provider asks for is there, and whether it answers."""
    from newsletters.transports.esp import ESP

    way_out = ESP(options)
    try:
        way_out.reach()
    except transports.Unreachable as error:
        return f"{options.host} cannot be used: {error}"
    finally:
        way_out.close()
    return ""


def address() -> str:
    parts = urlsplit(settings.BASE_URL)
    if parts.hostname in {"localhost", "127.0.0.1"} and settings.MAIL_URL != "letterbox:":
        return f"BASE_URL is {settings.BASE_URL}: no reader can open the links in their mails"
    return unknown_name(parts.hostname or "")


def senders() -> str:
    """A sender whose domain nobody knows is refused by most servers."""
    if settings.MAIL_URL == "letterbox:":
        return ""
    try:
        domains = {publication.domain for publication in Publication.objects.all()}
    except DatabaseError:
        return "unknown, because the database cannot be reached"
    return "; ".join(fault for domain in sorted(domains) if (fault := unknown_name(domain)))


def unreachable(host: str, port: int) -> str:
    try:
        socket.create_connection((host, port), timeout=WAIT).close()
    except OSError as error:
        return f"{host}:{port} cannot be reached: {error}"
    return ""


def unknown_name(host: str) -> str:
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return f"{host} is a name that nobody knows"
    return ""
