"""What a database can do to a sender in the middle of its work. On PostgreSQL, with processes of their own."""

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import connection, connections, transaction
from django.test import Client

from newsletters import sending
from newsletters.models import Delivery
from newsletters.models.outgoing import State
from newsletters.transports import Message, connect, line
from tests.processes import wait_until
from tests.servers import MailServer
from tests.test_faults_points import Deadly, begun, elsewhere, time_passes
from tests.test_sending import MONDAY, OWNER, mail_url, planned  # noqa: F401

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]


def another_session() -> "psycopg.Connection[Any]":
    """Return a session in the same database that Django knows nothing of."""
    known = connection.settings_dict
    return psycopg.connect(
        host=known["HOST"], port=known["PORT"], user=known["USER"], dbname=known["NAME"], autocommit=True
    )


class Deaf:
    """A way to PostgreSQL that goes silent as soon as a hand-off is committed, and before its answer comes back."""

    def __init__(self) -> None:
        self.database = another_session()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.there = str(connection.settings_dict["HOST"]), int(connection.settings_dict["PORT"])
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        while True:
            try:
                client, _address = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.converse, args=(client,), daemon=True).start()

    def converse(self, client: socket.socket) -> None:
        with client, socket.create_connection(self.there) as server:
            up = threading.Thread(target=self.pass_on, args=(client, server), daemon=True)
            up.start()
            self.pass_on(server, client, self.deaf)
            up.join()

    def pass_on(self, one: socket.socket, other: socket.socket, stop: Callable[[], bool] = lambda: False) -> None:
        try:
            while (data := one.recv(65_536)) and not stop():
                other.sendall(data)
        except OSError:
            pass
        for end in (one, other):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def deaf(self) -> bool:
        row = self.database.execute("SELECT 1 FROM newsletters_delivery WHERE state = 'handoff'").fetchone()
        return row is not None

    def close(self) -> None:
        self.listener.close()
        self.database.close()


def test_a_commit_whose_answer_is_lost_is_never_sent_blindly(
    planned: Any,  # noqa: F811
    smtp: MailServer,
) -> None:
    planned()
    way = Deaf()

    assert elsewhere(lambda: drain_through(way.port)) == 1
    way.close()
    assert Delivery.objects.get().state == State.HANDOFF
    time_passes()

    assert Delivery.objects.get().state == State.UNCERTAIN
    assert sending.drain(lambda: MONDAY) == {}
    assert smtp.received == []


def drain_through(port: int) -> None:
    connections["default"].settings_dict.update(HOST="127.0.0.1", PORT=str(port))
    sending.drain(lambda: MONDAY)


class Locked(Deadly):
    """A line at whose first message somebody else locks the rows."""

    BEGIN = "SELECT 1 FROM newsletters_delivery FOR UPDATE"

    def __init__(self, way: Any) -> None:
        super().__init__(way, "never")
        self.holder: psycopg.Connection[Any] | None = None

    def stage(self, message: Message) -> None:
        if self.holder is None:
            self.holder = another_session()
            self.holder.execute("BEGIN")
            self.holder.execute(self.BEGIN)
            threading.Thread(target=self.go_on, args=(self.holder,), daemon=True).start()
        super().stage(message)

    def go_on(self, holder: "psycopg.Connection[Any]") -> None:
        """Do what the other one does while the hand-off waits: nothing."""


class Crossed(Locked):
    """The other one waits for a table that the hand-off holds, while the hand-off waits for its table."""

    BEGIN = "LOCK TABLE newsletters_subscriber"

    def go_on(self, holder: "psycopg.Connection[Any]") -> None:
        holder.execute("SET deadlock_timeout = '1min'")
        time.sleep(0.5)
        holder.execute("LOCK TABLE newsletters_delivery")
        holder.execute("COMMIT")


class Overtaken(Locked):
    """The other one writes to a row that the hand-off waits for."""

    BEGIN = "UPDATE newsletters_delivery SET reply = 'overtaken'"

    def go_on(self, holder: "psycopg.Connection[Any]") -> None:
        time.sleep(0.5)
        holder.execute("COMMIT")


def drain_impatiently(limit: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SET {limit} = '300ms'")
    sending.drain(lambda: MONDAY, way_out=lambda url: Locked(line(connect(url))))


@pytest.mark.parametrize("limit", ["statement_timeout", "lock_timeout"])
def test_a_statement_that_is_cut_off_is_made_up_for(
    planned: Any,  # noqa: F811
    smtp: MailServer,
    limit: str,
) -> None:
    planned(5)

    assert elsewhere(lambda: drain_impatiently(limit)) == 1
    assert smtp.received == []
    time_passes()

    assert sending.drain(lambda: MONDAY) == {"sent": 5}
    assert len(smtp.received) == 5


def drain_against(other: type[Locked], setting: str, log: Path) -> None:
    logging.getLogger("newsletters").addHandler(logging.FileHandler(log))
    with connection.cursor() as cursor:
        cursor.execute(f"SET {setting}")
    sending.drain(lambda: MONDAY, way_out=lambda url: other(line(connect(url))))


@pytest.mark.parametrize(
    ("other", "setting", "said"),
    [
        (Crossed, "deadlock_timeout = '2s'", "deadlock detected"),
        (Overtaken, "default_transaction_isolation = 'repeatable read'", "could not serialize access"),
    ],
)
def test_a_hand_off_that_the_database_throws_out_is_made_again(
    planned: Any,  # noqa: F811
    smtp: MailServer,
    tmp_path: Path,
    other: type[Locked],
    setting: str,
    said: str,
) -> None:
    planned(3)

    assert elsewhere(lambda: drain_against(other, setting, tmp_path / "log")) == 0

    assert said in (tmp_path / "log").read_text()
    sending.drain(lambda: MONDAY)
    assert set(Delivery.objects.values_list("state", flat=True)) == {State.SENT}
    assert len({one.recipients[0] for one in smtp.received}) == len(smtp.received) == 3


def fall_asleep_in_a_lease() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SHOW idle_in_transaction_session_timeout")
        assert cursor.fetchone() == ("2min",)
        cursor.execute("SET idle_in_transaction_session_timeout = '300ms'")
    with transaction.atomic():
        assert Delivery.objects.lease(10, MONDAY, OWNER)
        os.kill(os.getpid(), signal.SIGSTOP)


def test_whoever_falls_asleep_in_a_lease_keeps_nobody_waiting(
    planned: Any,  # noqa: F811
    smtp: MailServer,
) -> None:
    planned(5)
    sleeper = begun(fall_asleep_in_a_lease)
    _pid, status = os.waitpid(sleeper.pid or 0, os.WUNTRACED)
    assert os.WIFSTOPPED(status)

    wait_until(lambda: sending.drain(lambda: MONDAY) == {"sent": 5})
    sleeper.kill()
    sleeper.join()

    assert len(smtp.received) == 5


@contextmanager
def crowded_role() -> Iterator[str]:
    """Yield a user who is given no session; other tests on the same server go on having theirs."""
    role = f"crowded_{os.getpid()}"
    with another_session() as session:
        session.execute(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 0")
        yield role
        session.execute(f"DROP ROLE {role}")


def drain_as(role: str) -> None:
    connections.close_all()
    connections["default"].settings_dict["USER"] = role
    sending.drain(lambda: MONDAY)


def test_without_a_free_session_nothing_happens_and_then_all_is_sent(
    planned: Any,  # noqa: F811
    smtp: MailServer,
) -> None:
    planned(5)

    with crowded_role() as role:
        assert elsewhere(lambda: drain_as(role)) == 1
    assert smtp.received == []

    assert sending.drain(lambda: MONDAY) == {"sent": 5}


def test_a_database_that_goes_away_leaves_no_doubt(planned: Any, smtp: MailServer) -> None:  # noqa: F811
    planned(100)
    connection.ensure_connection()
    parameters, turns = connection.get_connection_params(), iter(range(1000))

    def cut() -> bool:
        if next(turns) in {5, 12, 20}:
            with psycopg.connect(**{name: parameters[name] for name in ("host", "port", "user", "dbname")}) as other:
                other.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE pid <> pg_backend_pid() AND datname = current_database()"
                )
        return False

    for _ in range(10):
        sending.drain(lambda: MONDAY, stopping=cut)

    assert set(Delivery.objects.values_list("state", flat=True)) == {State.SENT}
    assert len({one.recipients[0] for one in smtp.received}) == len(smtp.received) == 100


def test_a_page_says_when_to_come_back_while_the_database_is_away(page: Any, client: Client) -> None:
    client.raise_request_exception = False
    known = dict(connection.settings_dict)
    connection.close()
    connection.settings_dict["PORT"] = "9"
    try:
        answer = client.post("/pas/join/accueil/", {"email": "bob@example.com"})
    finally:
        connection.close()
        connection.settings_dict.update(known)

    assert answer.status_code == 503
    assert answer["Retry-After"]
