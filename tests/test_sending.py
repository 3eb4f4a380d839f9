"""From planned row to settled row, against a real mail server."""

import uuid
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection, connections

from newsletters import figures, letters, planning, sender, sending
from newsletters.models import Delivery, Issue, Letter, Publication, Relay, Series, Subscriber
from newsletters.models.outgoing import State
from newsletters.transports import Message, Outcome, connect, line
from tests.conftest import Reader
from tests.processes import wait_until
from tests.servers import MailServer
from tests.test_planning import make_issue

MONDAY = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)  # 7:00 in Paris
OWNER = uuid.UUID(int=7)
SUNDAY = MONDAY - timedelta(hours=18)


@pytest.fixture(autouse=True)
def mail_url(settings: Any, smtp: MailServer) -> None:
    settings.MAIL_URL = smtp.url


@pytest.fixture
def planned(publication: Publication, reader: Reader) -> Callable[..., list[Subscriber]]:
    """Plan Monday's issue for a number of readers."""

    def make(count: int = 1) -> list[Subscriber]:
        queue = Series.objects.create(publication=publication, kind=Series.Kind.DAILY, name="File", slug="file")
        issue = make_issue(publication, "Le carnet")
        issue.body = "Bonjour {{ first_name|vous }},\n\nUne ligne.\n\n.\n\n..et un point."
        issue.save()
        queue.append(issue)
        readers = [reader(f"reader{n}@example.com", first_name=f"Nadia{n}", now=SUNDAY) for n in range(count)]
        planning.tick(MONDAY)
        return readers

    return make


def drain(now: datetime = MONDAY) -> dict[str, int]:
    return dict(sending.drain(lambda: now))


def the_row() -> Delivery:
    return Delivery.objects.get()


def test_it_sends_what_is_planned_over_a_few_connections(planned: Any, smtp: MailServer) -> None:
    planned(30)

    ended = drain()

    assert ended == {"sent": 30}
    assert smtp.connections == 4
    assert {one.recipients[0] for one in smtp.received} == {f"reader{n}@example.com" for n in range(30)}
    assert set(Delivery.objects.values_list("state", flat=True)) == {State.SENT}
    assert all(row.revision_id and row.handoff_at and row.settled_at for row in Delivery.objects.all())


def test_a_line_of_one_dot_arrives_as_written(planned: Any, smtp: MailServer) -> None:
    planned()

    drain()

    text = smtp.messages[0].get_body(("plain",)).get_content().replace("\r\n", "\n")  # type: ignore[union-attr]
    assert "\n.\n" in text
    assert "\n..et un point.\n" in text


def test_a_put_off_message_is_tried_again_under_the_same_id(planned: Any, smtp: MailServer) -> None:
    planned()
    smtp.replies["DATA"] = "452 4.2.2 try later"

    assert drain() == {"retry": 1}
    assert drain() == {}
    put_off = the_row()
    smtp.replies.clear()
    assert drain(put_off.try_at) == {"sent": 1}

    assert put_off.attempts == 1
    assert timedelta(seconds=30) < put_off.try_at - MONDAY < timedelta(minutes=2)
    assert len(smtp.received) == 1


def test_delays_grow_to_half_an_hour() -> None:
    delays = [sender.delay(attempts).total_seconds() / 60 for attempts in range(12)]

    assert 0.9 <= delays[0] <= 1.1
    assert 7 <= delays[3] <= 9
    assert all(27 <= minutes <= 33 for minutes in delays[5:])


def test_a_dead_address_fails_alone(planned: Any, smtp: MailServer) -> None:
    planned(3)
    smtp.replies["reader1@example.com"] = "550 5.1.1 no such user"

    assert drain() == {"sent": 2, "failed": 1}

    failed = Delivery.objects.get(state=State.FAILED)
    assert (failed.reason, failed.reply[:9]) == ("address", "550 5.1.1")


def test_a_server_that_hangs_up_after_the_dot_leaves_doubt_and_nothing_is_sent_twice(
    planned: Any, smtp: MailServer
) -> None:
    planned()
    smtp.replies["DATA"] = ""

    assert drain() == {"uncertain": 1}
    smtp.replies.clear()
    assert drain(MONDAY + timedelta(hours=1)) == {}

    assert the_row().state == State.UNCERTAIN
    assert smtp.received == []


def test_a_server_that_cannot_be_reached_puts_all_off(planned: Any, settings: Any) -> None:
    settings.MAIL_URL = "smtp://127.0.0.1:9"
    planned(3)

    assert drain() == {"retry": 3}
    assert drain() == {}


def test_a_server_that_goes_away_puts_the_rest_off(planned: Any, smtp: MailServer) -> None:
    planned(3)
    smtp.replies["reader1@example.com"] = "421 closing"

    ended = drain()

    assert ended["retry"] >= 1
    assert sum(ended.values()) == 3


def test_whoever_leaves_before_the_hand_off_gets_nothing(planned: Any, smtp: MailServer) -> None:
    (alice,) = planned()
    rows = Delivery.objects.lease(10, MONDAY, OWNER)

    alice.leave(MONDAY)

    assert Delivery.objects.hand_off([row.pk for row in rows], OWNER, MONDAY) == set()
    assert the_row().state == State.SKIPPED


def test_a_row_planned_while_its_reader_left_is_skipped_at_the_hand_off(planned: Any, smtp: MailServer) -> None:
    (alice,) = planned()
    Subscriber.objects.filter(pk=alice.pk).update(status=Subscriber.Status.UNSUBSCRIBED)

    drain()

    assert smtp.received == []
    assert (the_row().state, the_row().reason) == (State.SKIPPED, "left")


def test_a_worker_that_overslept_sends_nothing(planned: Any) -> None:
    planned()
    (row,) = Delivery.objects.lease(10, MONDAY, OWNER)
    Delivery.objects.update(leased_until=datetime(2020, 1, 1, tzinfo=UTC))

    sending.sweep(MONDAY)

    assert Delivery.objects.hand_off([row.pk], OWNER, MONDAY) == set()
    assert the_row().state == State.PLANNED


def test_a_hand_off_that_nobody_settled_becomes_uncertain(planned: Any) -> None:
    planned()
    (row,) = Delivery.objects.lease(10, MONDAY, OWNER)
    Delivery.objects.hand_off([row.pk], OWNER, MONDAY)
    Delivery.objects.update(leased_until=datetime(2020, 1, 1, tzinfo=UTC))

    sending.sweep(MONDAY)

    assert the_row().state == State.UNCERTAIN


def test_what_comes_too_late_is_missed(planned: Any, smtp: MailServer) -> None:
    planned()
    night = MONDAY + timedelta(hours=16)

    assert drain(night) == {}
    sending.sweep(night)

    assert (the_row().state, the_row().reason) == (State.MISSED, "late")


def test_a_mailbox_that_is_put_off_all_day_breaks_no_promise(planned: Any, smtp: MailServer) -> None:
    planned(2)
    smtp.replies["reader0@example.com"] = "450 4.2.0 Greylisted"
    smtp.replies["reader1@example.com"] = "451 4.3.0 No room on this server"

    assert drain() == {"retry": 2}
    sending.sweep(MONDAY + timedelta(hours=16))

    ends = dict(Delivery.objects.order_by("subscriber_id").values_list("subscriber__address", "reason"))
    assert ends == {"reader0@example.com": "deferred", "reader1@example.com": "late"}
    assert figures.read([("missed", "deferred", False, 1), ("sent", "", True, 9)], "").kept
    assert not figures.read([("missed", "late", False, 1), ("sent", "", True, 9)], "").kept


def test_a_server_in_trouble_is_left_alone_until_the_next_wake_up(planned: Any, smtp: MailServer) -> None:
    planned(50)
    smtp.replies["MAIL"] = "421 4.3.2 Shutting down"

    ended = drain()

    assert ended.keys() == {"retry"}
    assert ended["retry"] < 50
    assert set(Delivery.objects.values_list("state", flat=True)) == {State.PLANNED, State.RETRY}


def test_a_stop_gives_back_what_has_not_been_handed_off(planned: Any, smtp: MailServer) -> None:
    planned(50)
    asked = iter([False] * 3)

    ended = dict(sending.drain(lambda: MONDAY, stopping=lambda: next(asked, True)))

    assert len(smtp.received) == ended.get("sent", 0) < 50
    assert Delivery.objects.filter(state=State.PLANNED).count() == 50 - len(smtp.received)
    assert drain()["sent"] == 50 - ended.get("sent", 0)


def test_an_issue_taken_out_of_the_queue_is_not_sent(planned: Any, smtp: MailServer) -> None:
    planned()
    Issue.objects.update(state=Issue.State.DRAFT)

    drain()

    assert smtp.received == []
    assert (the_row().state, the_row().reason) == (State.MISSED, "withdrawn")


def test_an_edit_reaches_whoever_has_not_had_it(planned: Any, smtp: MailServer) -> None:
    planned(2)
    _, second = Delivery.objects.order_by("subscriber_id")
    Delivery.objects.filter(pk=second.pk).update(try_at=MONDAY + timedelta(hours=1))
    drain()
    issue = Issue.objects.get()
    issue.subject = "Le carnet, corrigé"
    issue.save()

    drain(MONDAY + timedelta(hours=1))

    assert [message["Subject"] for message in smtp.messages] == ["Le carnet", "Le carnet, corrigé"]
    assert Delivery.objects.values("revision").distinct().count() == 2


def test_a_publications_own_relay_comes_first(planned: Any, publication: Publication, smtp: MailServer) -> None:
    planned()
    own = Relay(publication=publication, name="own")
    own.url = "smtp://user:secret@127.0.0.1:9"
    own.save()

    assert drain() == {"retry": 1}

    assert b"secret" not in bytes(Relay.objects.get(name="own").sealed_url)


def test_an_international_domain_goes_out_in_its_ascii_form(
    planned: Any, publication: Publication, reader: Reader, smtp: MailServer
) -> None:
    Publication.objects.update(sender="maud@château.example")
    planned()

    assert drain() == {"sent": 1}

    assert smtp.received[0].sender == "maud@xn--chteau-xta.example"


def test_a_message_that_drops_out_is_dropped_with_its_connection(smtp: MailServer) -> None:
    way = line(connect(f"{smtp.url}?connections=1"))
    for n in (1, 2):
        way.stage(Message(n, f"{n}@x", "maud@x.example", "a@x.example", b"Subject: x\r\n\r\nx\r\n"))
    outcomes: dict[int, Any] = {}

    wait_until(lambda: way.poll(0.1) or way.staged)
    way.hand_off(set(), {1})
    wait_until(lambda: way.poll(0.1) or way.staged)
    way.hand_off({2}, set())
    wait_until(lambda: outcomes.update(way.poll(0.1)) or outcomes)
    way.close()

    assert {key: outcome.state for key, outcome in outcomes.items()} == {2: "sent"}
    assert len(smtp.received) == 1


def test_a_reply_that_makes_no_sense_leaves_doubt(planned: Any, smtp: MailServer) -> None:
    planned()
    smtp.replies["DATA"] = "gibberish"

    assert drain() == {"uncertain": 1}


def test_a_mail_of_the_reserve_says_that_it_comes_from_the_archive(
    publication: Publication, reader: Reader, smtp: MailServer
) -> None:
    reserve = Series.objects.create(publication=publication, kind=Series.Kind.RESERVE, name="Réserve", slug="reserve")
    reserve.append(make_issue(publication, "La chaise vide"))
    reader(now=SUNDAY)
    planning.tick(MONDAY)

    assert drain() == {"sent": 1}

    text = smtp.messages[0].get_body(("plain",)).get_content()  # type: ignore[union-attr]
    assert "Lundi 23 novembre, tiré des archives" in text


def test_send_due_plans_and_sends_at_an_instant(
    publication: Publication, reader: Reader, smtp: MailServer, capsys: Any
) -> None:
    queue = Series.objects.create(publication=publication, kind=Series.Kind.DAILY, name="File", slug="file")
    queue.append(make_issue(publication, "Le carnet"))
    reader(now=SUNDAY)

    call_command("send_due", at="2026-11-23T07:00+01:00")
    call_command("send_due", at="2026-11-23T07:10+01:00")

    out = capsys.readouterr().out
    assert "pas: 1 emails planned for 2026-11-23 in Europe/Paris" in out
    assert "1 sent" in out
    assert "nothing was due" in out
    assert len(smtp.received) == 1


def _drain_elsewhere(database: str, url: str) -> dict[str, int]:
    from django.conf import settings

    settings.MAIL_URL = url
    connections["default"].settings_dict["NAME"] = database
    connections["default"].close()
    return dict(sending.drain(lambda: MONDAY))


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_four_workers_send_each_email_once(planned: Any, smtp: MailServer) -> None:
    planned(100)
    database = connection.settings_dict["NAME"]
    connections.close_all()

    with ProcessPoolExecutor(4) as workers:
        runs = [workers.submit(_drain_elsewhere, str(database), smtp.url) for _ in range(4)]
        ended = [run.result(timeout=60) for run in runs]

    assert sum(end.get("sent", 0) for end in ended) == 100
    assert len({one.recipients[0] for one in smtp.received}) == len(smtp.received) == 100


class Fickle:
    """A server that refuses the first address it is given, and takes the same one afterwards."""

    group = 50

    def __init__(self) -> None:
        self.asked = 0
        self.taken: set[Any] = set()

    def stage(self, message: Message) -> Outcome | None:
        self.asked += 1
        return Outcome("failed", "address", "550 5.1.1 No such user") if self.asked == 1 else None

    def hand_off(self, keys: set[Any]) -> dict[Any, Outcome]:
        self.taken |= keys
        return {key: Outcome("sent", reply="250 2.0.0 OK") for key in keys}

    def close(self) -> None:
        """Nothing to let go of."""


def test_an_address_found_dead_is_handed_nothing_in_the_same_commit(planned: Any, publication: Publication) -> None:
    (alice,) = planned()
    welcome = Letter.Kind.WELCOME
    letters.write(publication, welcome, alice.address, "1", language="fr", subscriber=alice, now=MONDAY)
    server = Fickle()

    sending.drain(lambda: MONDAY, way_out=lambda url: server)

    alice.refresh_from_db()
    assert (server.asked, server.taken) == (2, set())
    assert (alice.status, the_row().state, the_row().reason) == ("bounced", State.SKIPPED, "bounced")
