"""Long and bad lines to the database and to the mail server: late bytes, bytes in pieces, pauses, and cuts."""

import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import connection, connections

from newsletters import sending
from newsletters.models import Delivery
from newsletters.models.outgoing import State
from tests.servers import MailServer
from tests.test_faults_points import elsewhere, time_passes
from tests.test_sending import MONDAY, mail_url, planned  # noqa: F401

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]


class Line:
    """A way to a server whose bytes come late and in pieces, stand still now and then, and end all at once."""

    def __init__(self, there: tuple[str, int], cut_after: int = 0) -> None:
        self.there, self.random, self.left = there, random.Random(11), cut_after or 10**9
        self.pauses = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _address = self.listener.accept()
                threading.Thread(target=self.meet, args=(client,), daemon=True).start()

    def meet(self, client: socket.socket) -> None:
        with client, socket.create_connection(self.there) as server:
            back = threading.Thread(target=self.pass_on, args=(server, client), daemon=True)
            back.start()
            self.pass_on(client, server)
            back.join()

    def pass_on(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while (data := one.recv(1400)) and self.left > 0:
                self.left -= 1
                time.sleep(0.005)
                if self.random.random() < 0.01:
                    # A lost packet comes again after a while, and all behind it waits.
                    self.pauses += 1
                    time.sleep(0.4)
                other.sendall(data)
        for end in (one, other):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def database() -> Iterator[Line]:
    known = connection.settings_dict
    made = Line((str(known["HOST"]), int(known["PORT"])))
    yield made
    made.listener.close()


def drain_over(database: Line, mail: Line) -> None:
    connections["default"].settings_dict.update(HOST="127.0.0.1", PORT=str(database.port))
    django_settings.MAIL_URL = f"smtp://127.0.0.1:{mail.port}"
    sending.drain(lambda: MONDAY)


@pytest.mark.parametrize("cut_after", [0, 60])
def test_a_bad_line_costs_time_and_nothing_else(
    planned: Any,  # noqa: F811
    smtp: MailServer,
    database: Line,
    cut_after: int,
) -> None:
    planned(60)
    mail = Line(("127.0.0.1", int(smtp.url.rpartition(":")[2])), cut_after)

    assert elsewhere(lambda: drain_over(database, mail)) == 0
    time_passes()
    mail.listener.close()
    assert database.pauses + mail.pauses

    uncertain = Delivery.objects.filter(state=State.UNCERTAIN).count()
    assert uncertain <= 4 * bool(cut_after)
    # After the rest that the mail server was given.
    sending.drain(lambda: MONDAY + timedelta(hours=1))
    assert Delivery.objects.filter(state=State.SENT).count() == 60 - uncertain
    assert len({one.recipients[0] for one in smtp.received}) == len(smtp.received) >= 60 - uncertain
