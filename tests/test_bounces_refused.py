"""What a server says while a mail is sent."""

from collections import Counter
from typing import Any

import pytest
from django.db import connection

from newsletters import promise, sending
from newsletters.models import Alarm, Bounce, Day, Delivery, Stop
from newsletters.models.outgoing import State
from tests.outbox import MONDAY, ONE_DAY, Send, row
from tests.servers import MailServer
from tests.test_bounces import status

Kind = Bounce.Kind


@pytest.fixture
def server(settings: Any, smtp: MailServer) -> MailServer:
    settings.MAIL_URL = smtp.url
    return smtp


def test_a_refused_recipient_is_a_bounce(server: MailServer, sent: Send) -> None:
    server.replies["reader0@example.com"] = "550 5.1.1 no such user here"

    alice, bob = sent(2)

    assert (status(alice), row(alice).state, row(bob).state) == ("bounced", State.FAILED, State.SENT)
    assert (Bounce.objects.get().kind, Bounce.objects.get().door) == (Kind.HARD, Bounce.Door.SERVER)


def test_a_refused_text_is_not_the_readers_fault(server: MailServer, sent: Send) -> None:
    server.replies["DATA"] = "550 5.1.1 user unknown"

    (alice,) = sent()

    assert (status(alice), row(alice).state) == ("active", State.FAILED)
    assert Bounce.objects.get().kind == Kind.BLOCKED


def test_a_text_that_is_refused_again_and_again_stops_the_publication(server: MailServer, sent: Send) -> None:
    server.replies["DATA"] = "554 5.7.1 Message contains spam"

    sent(200)

    assert Stop.objects.get().cause == "refusals"
    assert sending.drain(lambda: MONDAY) == {}
    states = Counter(Delivery.objects.values_list("state", flat=True))
    # What a worker has leased by then may still be refused.
    assert set(states) == {State.FAILED, State.PLANNED}
    assert states.total() == 200


def test_a_warning_for_lack_of_proof_stops_at_once(server: MailServer, sent: Send) -> None:
    server.replies["DATA"] = "421 4.7.30 DKIM did not pass. https://support.google.com/mail - gsmtp"
    server.replies["MAIL"] = "451 4.7.30 DKIM did not pass. https://support.google.com/mail - gsmtp"

    (alice,) = sent()

    assert Stop.objects.get().cause == "auth"
    assert "DKIM" in Alarm.objects.get(cause="stop_auth").text
    assert (status(alice), row(alice).state) == ("active", State.RETRY)


@pytest.mark.parametrize(
    ("reply", "reason", "kept"),
    [
        ("554 5.7.1 <reader@example.com>: Relay access denied", "refused", False),
        ("550 5.7.26 This mail is unauthenticated (SPF, DKIM)", "refused", False),
        ("550 5.7.1 Our system has detected that this message is spam", "refused", False),
        ("550 5.1.1 No such user here", "address", True),
        ("552 5.2.2 Mailbox full", "address", True),
        ("550 No.", "address", True),
    ],
)
def test_what_is_said_of_us_in_place_of_a_recipient_breaks_the_promise(
    server: MailServer, sent: Send, reply: str, reason: str, kept: bool
) -> None:
    server.replies["RCPT"] = reply

    readers = sent(3)
    promise.go_round(MONDAY + ONE_DAY)

    assert {row(one).reason for one in readers} == {reason}
    assert Day.objects.get(date=MONDAY.date()).kept is kept


def test_a_nul_in_a_reply_is_only_a_letter(server: MailServer, sent: Send) -> None:
    server.replies["reader0@example.com"] = "450 4.2.0 Grey\x00listed"
    server.replies["reader1@example.com"] = "550 5.1.1 No such\x00 user"

    alice, bob, cecile = sent(3)

    assert [row(one).state for one in (alice, bob, cecile)] == [State.RETRY, State.FAILED, State.SENT]
    assert (row(alice).reply, row(bob).reply) == ("450 4.2.0 Greylisted", "550 5.1.1 No such user")


NO_ROOM = {
    "postgresql": "ALTER TABLE newsletters_bounce ADD CHECK (FALSE) NOT VALID",
    "sqlite": "CREATE TRIGGER full BEFORE INSERT ON newsletters_bounce BEGIN SELECT RAISE(ABORT, 'full'); END",
}


def test_what_follows_from_a_refusal_may_fail_and_all_is_settled(
    server: MailServer, sent: Send, caplog: pytest.LogCaptureFixture
) -> None:
    server.replies["reader1@example.com"] = "550 5.1.1 No such user here"
    with connection.cursor() as cursor:
        cursor.execute(NO_ROOM[connection.vendor])

    alice, bob, cecile = sent(3)

    assert [row(one).state for one in (alice, bob, cecile)] == [State.SENT, State.FAILED, State.SENT]
    assert len(server.received) == 2
    assert "no more followed from it: 550 5.1.1 No such user here" in caplog.text
