"""Four real workers obey a stop, and go on."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any, cast

import pytest
from django.db import connection, connections

from newsletters import halt, sending
from tests.processes import wait_until
from tests.test_halt import MONDAY, mail_url, planned, queue  # noqa: F401


def _work(database: str, url: str, seconds: float) -> int:
    """Drain again and again, as a worker does on each wake-up."""
    from django.conf import settings

    settings.MAIL_URL = url
    connections["default"].settings_dict["NAME"] = database
    connections["default"].close()
    end, sent = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        sent += sending.drain(lambda: MONDAY, seconds=end - time.monotonic())["sent"]
        time.sleep(0.1)
    connections["default"].close()
    return sent


class Dialogue(StreamRequestHandler):
    """A server that takes its time over each message, and notes the recipient just before it accepts."""

    def handle(self) -> None:
        self.wfile.write(b"220 slow.example\r\n")
        recipient = ""
        while line := self.rfile.readline():
            if line.startswith(b"RCPT"):
                recipient = line.decode().strip()
            if not line.startswith(b"DATA"):
                self.wfile.write(b"250 OK\r\n")
                continue
            self.wfile.write(b"354 go on\r\n")
            while (text := self.rfile.readline()) != b".\r\n":
                if not text:
                    return
            time.sleep(0.05)
            cast(Any, self.server).received.append(recipient)
            self.wfile.write(b"250 OK\r\n")


class Slow(ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Dialogue)
        self.received: list[str] = []
        self.url = f"smtp://127.0.0.1:{self.server_address[1]}"


@pytest.fixture
def slow() -> Iterator[Slow]:
    with Slow() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_four_workers_stop_and_go_on(planned: Any, slow: Slow) -> None:  # noqa: F811
    issue = planned(300)
    database = str(connection.settings_dict["NAME"])
    connections.close_all()

    with ProcessPoolExecutor(4) as workers:
        runs = [workers.submit(_work, database, slow.url, 30) for _ in range(4)]
        wait_until(lambda: len(slow.received) > 20)
        stopped = halt.stop(issue, MONDAY)
        # Each worker ends the group it has handed off.
        time.sleep(2)
        then = len(slow.received)
        time.sleep(2)
        after = len(slow.received)
        halt.count(issue)
        figures = halt.figures(issue)
        halt.go_on(stopped, MONDAY + halt.NOTICED)
        sent = sum(run.result(timeout=60) for run in runs)

    assert then == after < 300
    assert figures == {"have": then, "waiting": 300 - then}
    assert sent == len(slow.received) == len(set(slow.received)) == 300
