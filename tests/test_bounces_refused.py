"""What a server says while a mail is sent."""

from collections import Counter
from typing import Any

import pytest

from newsletters import sending
from newsletters.models import Alarm, Bounce, Delivery, Stop
from newsletters.models.outgoing import State
from tests.outbox import MONDAY, Send, row
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
