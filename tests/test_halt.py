"""The author stops a send, looks who has it, and decides; real workers obey within a group."""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any, cast

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, connections
from django.test import Client

from newsletters import alarms, halt, invariants, planning, promise, sending
from newsletters.models import Alarm, Day, Delivery, Halt, Issue, Member, Publication, Series, Subscriber
from newsletters.models.delivery import State
from newsletters.transports import Message, Outcome, connect
from tests.conftest import Reader
from tests.processes import wait_until
from tests.servers import MailServer
from tests.test_planning import make_issue

MONDAY = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)  # 7:00 in Paris
SUNDAY = MONDAY - timedelta(hours=18)
EVENING = MONDAY + timedelta(hours=16)


@pytest.fixture(autouse=True)
def mail_url(settings: Any, smtp: MailServer) -> None:
    settings.MAIL_URL = smtp.url


@pytest.fixture
def queue(publication: Publication) -> Series:
    queue = Series.objects.create(publication=publication, kind=Series.Kind.DAILY, name="File", slug="file")
    for name in ("d1", "d2", "d3"):
        queue.append(make_issue(publication, name))
    return queue


@pytest.fixture
def planned(queue: Series, reader: Reader) -> Callable[..., Issue]:
    """Plan Monday's issue for a number of readers."""

    def make(count: int) -> Issue:
        for number in range(count):
            reader(f"reader{number}@example.com", now=SUNDAY)
        promise.tick(MONDAY, planning.tick(MONDAY))
        return Issue.objects.get(subject="d1")

    return make


def drain(now: datetime = MONDAY) -> dict[str, int]:
    return dict(sending.drain(lambda: now))


def ends() -> dict[tuple[str, str], int]:
    rows = [(row.state, row.reason) for row in Delivery.objects.all()]
    return {end: rows.count(end) for end in set(rows)}


def some_have_it(smtp: MailServer, *names: int) -> None:
    """Let only these readers' mails through, the others are put off."""
    for number in range(10):
        if number not in names:
            smtp.replies[f"reader{number}@example.com"] = "450 4.2.0 later"
    drain()
    smtp.replies.clear()


class Stopper:
    """A way out on which the author stops the send after a number of messages."""

    group = 5

    def __init__(self, url: str, issue: Issue, after: int) -> None:
        self.inner, self.issue, self.after = connect(url), issue, after
        self.staged: list[Any] = []
        self.sent = 0

    def stage(self, message: Message) -> Outcome | None:
        self.staged.append(message.key)
        return None

    def hand_off(self, keys: set[Any]) -> dict[Any, Outcome]:
        gone, self.staged = [key for key in self.staged if key in keys], []
        self.sent += len(gone)
        if self.sent >= self.after:
            halt.stop(self.issue, MONDAY)
        return {key: Outcome(State.SENT) for key in gone}

    def close(self) -> None:
        self.inner.close()


# Stopping


def test_a_worker_in_the_middle_of_a_batch_stops_at_its_next_group(planned: Any, smtp: MailServer) -> None:
    issue = planned(30)
    ways: list[Stopper] = []

    def way_out(url: str) -> Stopper:
        ways.append(Stopper(url, issue, 10))
        return ways[-1]

    ended = sending.drain(lambda: MONDAY, way_out=way_out)

    assert ended["sent"] == 10
    assert ends() == {(State.SENT, ""): 10, (State.PLANNED, ""): 20}
    assert not Delivery.objects.filter(state=State.PLANNED).exclude(owner=None).exists()
    assert drain() == {}


def test_it_says_who_has_it_and_who_has_not(planned: Any, smtp: MailServer) -> None:
    issue = planned(6)
    some_have_it(smtp, 0, 1)

    halt.stop(issue, MONDAY)

    assert halt.figures(issue) == {"have": 2, "waiting": 4}
    assert [row.subscriber.address for row in halt.have(issue)] == ["reader0@example.com", "reader1@example.com"]
    assert halt.have_not(issue).count() == 4


def test_stopping_twice_is_once(planned: Any) -> None:
    issue = planned(1)

    assert halt.stop(issue, MONDAY) == halt.stop(issue, MONDAY)

    assert Halt.objects.count() == 1


def test_other_issues_and_letters_go_on(planned: Any, publication: Publication, reader: Reader) -> None:
    issue = planned(2)
    other = make_issue(publication, "autre")
    Delivery.objects.filter(subscriber_id=Subscriber.objects.latest("pk").pk).update(issue=other)

    halt.stop(issue, MONDAY)

    assert drain() == {"sent": 1}


def test_it_holds_for_zones_whose_hour_is_to_come(planned: Any, reader: Reader) -> None:
    reader("tahiti@example.com", zone="Pacific/Tahiti", now=MONDAY - timedelta(hours=6))
    issue = planned(1)
    halt.stop(issue, MONDAY)

    evening = MONDAY + timedelta(hours=11)
    planning.tick(evening)

    assert ends() == {(State.PLANNED, ""): 2}
    assert drain(evening) == {}


def test_a_stop_nobody_decides_on_ends_as_one(planned: Any) -> None:
    issue = planned(2)
    halt.stop(issue, MONDAY)

    sending.sweep(EVENING)

    assert ends() == {(State.MISSED, "stopped"): 2}


def test_nobody_is_alarmed_by_what_the_author_did(planned: Any) -> None:
    issue = planned(5)
    halt.stop(issue, MONDAY)

    for minutes in (11, 61):
        now = MONDAY + timedelta(minutes=minutes)
        promise.tick(now)
        alarms.tick(now)
        alarms.look_back(now)

    assert not Alarm.objects.exists()


# Going on


def test_it_goes_on_in_the_new_words(planned: Any, smtp: MailServer) -> None:
    issue = planned(4)
    some_have_it(smtp, 0)
    stopped = halt.stop(issue, MONDAY)
    Issue.objects.filter(pk=issue.pk).update(subject="d1, corrigé")
    Delivery.objects.filter(state=State.RETRY).update(try_at=MONDAY)

    assert halt.go_on(stopped, MONDAY)
    assert not halt.go_on(stopped, MONDAY)
    assert drain(MONDAY + halt.NOTICED) == {"sent": 3}

    assert [one["Subject"] for one in smtp.messages] == ["d1", *["d1, corrigé"] * 3]


def test_what_was_staged_before_the_stop_never_goes_in_its_old_words(planned: Any, smtp: MailServer) -> None:
    issue = planned(1)
    rows, owner = Delivery.objects.filter(issue=issue), uuid.uuid4()
    [held] = rows.lease(10, MONDAY, owner)

    halt.go_on(halt.stop(issue, MONDAY), MONDAY)

    assert rows.hand_off([held.pk], owner, MONDAY) == set()
    # Nobody takes it again before every worker has noticed.
    assert drain() == {}
    assert drain(MONDAY + halt.NOTICED) == {"sent": 1}


# Another issue instead


def test_those_without_it_get_the_other_one(planned: Any, smtp: MailServer, publication: Publication) -> None:
    issue = planned(4)
    some_have_it(smtp, 0)
    other = make_issue(publication, "remplaçant", state=Issue.State.DRAFT)

    halt.instead(halt.stop(issue, MONDAY), other, MONDAY)
    assert drain(MONDAY + halt.NOTICED) == {"sent": 3}

    assert [one["Subject"] for one in smtp.messages] == ["d1", *["remplaçant"] * 3]
    assert Delivery.objects.count() == 4
    assert Day.objects.get().issue == other
    assert list(
        Issue.objects.filter(subject__in=["d1", "remplaçant"]).order_by("pk").values_list("state", flat=True)
    ) == [
        Issue.State.DRAFT,
        Issue.State.QUEUED,
    ]
    assert not list(invariants.standing(publication, MONDAY.date(), MONDAY))


def test_whoever_had_the_other_one_is_not_given_it_again(
    planned: Any, smtp: MailServer, publication: Publication
) -> None:
    other = make_issue(publication, "remplaçant")
    issue = planned(3)
    alice = Subscriber.objects.get(address="reader0@example.com")
    Subscriber.objects.filter(pk=alice.pk).update(member_since=MONDAY - timedelta(days=9))
    past = Delivery.objects.get(subscriber_id=alice.pk)
    past.local_date, past.issue, past.state = MONDAY.date() - timedelta(days=3), other, State.SENT
    past.due_at = past.handoff_at = MONDAY - timedelta(days=3)
    past.save(force_insert=True)

    halt.instead(halt.stop(issue, MONDAY), other, MONDAY)
    drain(MONDAY + halt.NOTICED)

    today = Delivery.objects.filter(local_date=MONDAY.date())
    assert today.get(subscriber_id=alice.pk).reason == "stopped"
    assert today.filter(state=State.SENT, issue=other).count() == 2
    assert not list(invariants.standing(publication, MONDAY.date(), MONDAY))


def test_zones_to_come_get_the_other_one_too(planned: Any, reader: Reader, publication: Publication) -> None:
    reader("tahiti@example.com", zone="Pacific/Tahiti", now=MONDAY - timedelta(hours=6))
    issue = planned(1)
    other = make_issue(publication, "remplaçant")
    halt.instead(halt.stop(issue, MONDAY), other, MONDAY)

    planning.tick(MONDAY + timedelta(hours=11))

    assert set(Delivery.objects.values_list("issue__subject", flat=True)) == {"remplaçant"}


def test_an_issue_with_a_date_of_its_own_stands_in_for_none(planned: Any, publication: Publication) -> None:
    issue = planned(1)
    other = make_issue(publication, "hier")
    Day.objects.create(publication=publication, date=SUNDAY.date(), issue=other, fixed_at=SUNDAY)
    stopped = halt.stop(issue, MONDAY)

    for wrong in (other, issue):
        with pytest.raises(halt.CannotDecide):
            halt.instead(stopped, wrong, MONDAY)

    assert Halt.objects.standing().count() == 1
    assert ends() == {(State.PLANNED, ""): 1}


# Leaving it


def test_left_it_is_in_the_ledger_as_stopped_by_the_author(
    planned: Any, smtp: MailServer, publication: Publication
) -> None:
    issue = planned(3)
    some_have_it(smtp, 0)

    halt.leave(halt.stop(issue, MONDAY), MONDAY)
    sending.sweep(EVENING)
    promise.tick(EVENING)
    promise.close(EVENING + timedelta(days=1))

    day = Day.objects.get()
    assert (day.missed, day.on_time, day.kept) == ({"stopped": 2}, 1, False)
    issue.refresh_from_db()
    assert issue.state == Issue.State.DRAFT


def test_what_was_left_is_owed_another_day(planned: Any, smtp: MailServer) -> None:
    issue = planned(2)
    some_have_it(smtp, 0)
    halt.leave(halt.stop(issue, MONDAY), MONDAY)

    planning.tick(MONDAY + timedelta(days=1))

    tuesday = Delivery.objects.filter(local_date=MONDAY.date() + timedelta(days=1))
    assert set(tuesday.values_list("issue__subject", flat=True)) == {"d2"}


# Doors


def command(*arguments: str) -> str:
    from io import StringIO

    out = StringIO()
    call_command("stop_send", *arguments, stdout=out)
    return out.getvalue()


def test_the_command_stops_and_decides(planned: Any, publication: Publication, now: Any) -> None:
    issue = planned(2)
    other = make_issue(publication, "remplaçant")

    assert f"Issue {issue.pk}, “d1”, is stopped." in (said := command("pas"))
    assert "0 have it, 0 may have it, 2 wait, 0 do without." in said
    assert "goes on" in command("pas", "--go-on")
    with pytest.raises(CommandError, match="is not stopped"):
        command("pas", "--issue", str(issue.pk), "--leave")
    command("pas", "--issue", str(issue.pk))
    assert "goes to those without" in command("pas", "--instead", str(other.pk))
    assert f"Issue {other.pk}" in command("pas")
    assert "to nobody more" in command("pas", "--leave")
    assert ends() == {(State.MISSED, "stopped"): 2}


def test_the_command_says_what_is_wrong(publication: Publication) -> None:
    for arguments in (("nobody",), ("pas",), ("pas", "--issue", "99")):
        with pytest.raises(CommandError):
            command(*arguments)


def test_the_desk_stops_shows_and_decides(planned: Any, desk: Client, smtp: MailServer) -> None:
    issue = planned(3)
    some_have_it(smtp, 0)
    promise.tick(MONDAY)
    assert "Stop this send" in desk.get("/desk/pas/").content.decode()
    assert desk.get("/desk/pas/stop/").status_code == 405

    page = desk.post("/desk/pas/stop/", {"issue": issue.pk}, follow=True).content.decode()
    have = desk.get(f"/desk/pas/stop/{issue.pk}/?list=have").content.decode()
    today = desk.get("/desk/pas/").content.decode()
    desk.get(f"/desk/pas/stop/{issue.pk}/?go_on=1&leave=1")
    assert Halt.objects.standing().exists()
    desk.post(f"/desk/pas/stop/{issue.pk}/", {"go_on": "1"})

    assert "reader1@example.com" in page
    assert "reader0@example.com" not in page
    assert "reader0@example.com" in have
    assert "reader1@example.com" not in have
    assert "You stopped today’s email." in today
    assert not Halt.objects.standing().exists()


def test_the_desk_sends_another_or_leaves(planned: Any, desk: Client, publication: Publication) -> None:
    issue = planned(2)
    other = make_issue(publication, "remplaçant")
    for pk, choice in ((issue.pk, {"instead": str(other.pk)}), (other.pk, {"leave": "1"})):
        desk.post("/desk/pas/stop/", {"issue": pk})
        desk.post(f"/desk/pas/stop/{pk}/", {"instead": str(pk)})
        desk.post(f"/desk/pas/stop/{pk}/", choice)

    assert list(Halt.objects.order_by("pk").values_list("decision", flat=True)) == ["instead", "leave"]
    assert ends() == {(State.MISSED, "stopped"): 2}


def test_nobody_stops_another_publications_send(planned: Any, desk: Client, publication: Publication) -> None:
    issue = planned(1)
    other = Publication.objects.create(name="Autre", slug="autre", author="Bob", sender="b@b.example")
    foreign = make_issue(other, "foreign")
    halt.stop(foreign, MONDAY)

    assert desk.post("/desk/pas/stop/", {"issue": foreign.pk}).status_code == 404
    assert desk.post("/desk/autre/stop/", {"issue": foreign.pk}).status_code == 404
    assert desk.get(f"/desk/pas/stop/{foreign.pk}/").status_code == 404
    Member.objects.update(role=Member.Role.VIEWER)
    assert desk.post("/desk/pas/stop/", {"issue": issue.pk}).status_code == 403

    assert Halt.objects.count() == 1


def test_numbers_from_outside_are_read_with_care(planned: Any, desk: Client) -> None:
    issue = planned(1)
    for wrong in ("", "-1", "x", "9" * 40, "²"):
        assert desk.post("/desk/pas/stop/", {"issue": wrong}).status_code == 404
    halt.stop(issue, MONDAY)
    for wrong in ("-1", "x", "9" * 40, "²"):
        assert desk.get(f"/desk/pas/stop/{issue.pk}/", {"after": wrong}).status_code == 200
        assert desk.post(f"/desk/pas/stop/{issue.pk}/", {"instead": wrong}).status_code == 404


# Real workers


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
def test_four_workers_stop_and_go_on(planned: Any, slow: Slow) -> None:
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
