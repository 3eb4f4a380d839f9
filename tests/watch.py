"""Whoever watches over a day: twenty readers who wait, and a place elsewhere that hears alarms and signs of life."""

import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from newsletters import alarms, planning, promise
from newsletters.models import Alarm, Delivery, Publication, Series
from tests.conftest import Reader
from tests.test_planning import make_issue

MONDAY = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)  # 7:00 in Paris
SUNDAY_NOON = datetime(2026, 11, 22, 11, 0, tzinfo=UTC)
MINUTE, HOUR, ONE_DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
THE_23RD = date(2026, 11, 23)


class Messenger(ThreadingHTTPServer):
    """A server elsewhere: it keeps what it hears, and refuses the paths it is told to."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Ear)
        self.heard: list[tuple[str, str]] = []
        self.deaf_to: set[str] = set()

    def url(self, kind: str, path: str) -> str:
        return f"{kind}://127.0.0.1:{self.server_port}{path}"


class Ear(BaseHTTPRequestHandler):
    server: Messenger

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        deaf = self.path in self.server.deaf_to
        self.server.heard.append((self.path, body))
        self.send_response(500 if deaf else 200)
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def messenger() -> Iterator[Messenger]:
    with Messenger() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def twenty(publication: Publication) -> Series:
    Publication.objects.update(language="en")
    publication.refresh_from_db()
    series = Series.objects.create(publication=publication, kind=Series.Kind.DAILY, name="File", slug="file")
    for number in range(20):
        series.append(make_issue(publication, f"d{number}"))
    return series


@pytest.fixture
def waiting(twenty: Series, reader: Reader) -> list[Delivery]:
    """Twenty readers whose hour has struck."""
    for number in range(20):
        reader(f"reader{number}@example.com", now=SUNDAY_NOON)
    promise.tick(MONDAY, planning.tick(MONDAY))
    return list(Delivery.objects.order_by("subscriber_id"))


def end(rows: list[Delivery], state: str, reason: str = "", reply: str = "") -> None:
    for row in rows:
        Delivery.objects.filter(pk=row.pk).update(state=state, reason=reason, reply=reply, settled_at=MONDAY + MINUTE)


def look(now: datetime) -> None:
    promise.tick(now)
    alarms.tick(now)
    alarms.go_round(now)


def causes() -> list[tuple[str, bool]]:
    return [(alarm.cause, alarm.cleared_at is not None) for alarm in Alarm.objects.order_by("pk")]
