"""What became of an email is read in a real Postfix's own log and queue."""

import io
from datetime import UTC, datetime
from typing import Any

import pytest
from django.core.management import call_command

from newsletters import planning, sending
from newsletters.bounces import mailbox
from newsletters.models import Bounce, Delivery, Publication, Subscriber
from newsletters.models.outgoing import State
from tests.conftest import Reader
from tests.outbox import ONE_DAY
from tests.postoffice import PostOffice, post_office
from tests.processes import wait_until
from tests.test_mta import hour_that_has_struck, office, queued

__all__ = ["office", "post_office"]

DELIVERED, REFUSED, WAITING = "alice@example.com", "bob@gone.example", "carol@closed.example"
NEVER_SEEN = "reader1@example.com"


@pytest.fixture
def doubtful(office: PostOffice, publication: Publication, reader: Reader) -> dict[str, Subscriber]:
    """Four readers of whose emails nobody knows the end: one of them is Postfix's no more, one still, one never was."""
    now = datetime.now(UTC)
    publication.zone = hour_that_has_struck(now)
    publication.save()
    readers = {name: reader(name, now=now - ONE_DAY) for name in (DELIVERED, REFUSED, WAITING, NEVER_SEEN)}
    queued(publication)
    planning.tick(now)
    in_doubt = {"state": State.UNCERTAIN, "reason": "no reply", "handoff_at": now, "settled_at": None}
    Delivery.objects.filter(subscriber=readers[NEVER_SEEN]).update(**in_doubt)

    with office.inside():
        while sending.drain(lambda: now):
            pass
    said = ["status=sent", "status=bounced", "status=deferred"]
    wait_until(lambda: all(word in (office.place / "log").read_text() for word in said))
    assert state_of(readers[WAITING]) == State.SENT
    Delivery.objects.exclude(subscriber=readers[NEVER_SEEN]).update(state=State.UNCERTAIN, settled_at=None)
    return readers


def state_of(one: Subscriber) -> str:
    return Delivery.objects.get(subscriber=one).state


def states(readers: dict[str, Subscriber]) -> dict[str, str]:
    return {name: state_of(one) for name, one in readers.items()}


def settled(office: PostOffice, **options: Any) -> str:
    out = io.StringIO()
    with office.inside():
        call_command("stuck", stdout=out, **options)
    return out.getvalue()


def test_postfixs_own_log_settles_what_nobody_knows(office: PostOffice, doubtful: dict[str, Subscriber]) -> None:
    said = settled(office, from_log=str(office.place / "log"), whole=True)

    assert states(doubtful) == {DELIVERED: "sent", REFUSED: "failed", WAITING: "sent", NEVER_SEEN: "planned"}
    assert "Settled: 1 failed, 1 planned, 2 sent" in said
    bounce = Bounce.objects.get()
    assert (bounce.subscriber, bounce.kind, bounce.door, bounce.status) == (doubtful[REFUSED], "hard", "log", "5.1.1")
    doubtful[REFUSED].refresh_from_db()
    assert doubtful[REFUSED].status == "bounced"


def test_what_postfix_never_saw_arrives_once_and_what_it_had_never_again(
    office: PostOffice, doubtful: dict[str, Subscriber]
) -> None:
    settled(office, from_log=str(office.place / "log"), whole=True)

    with office.inside():
        while sending.drain(lambda: datetime.now(UTC)):
            pass
        office.returned(1)
        mailbox.collect(office.mailbox.urls["imap"], datetime.now(UTC))

    assert states(doubtful) == {DELIVERED: "sent", REFUSED: "failed", WAITING: "sent", NEVER_SEEN: "sent"}
    assert len(office.mails(NEVER_SEEN)) == len(office.mails(DELIVERED)) == 1
    # The log and the mail that came back tell of one bounce.
    assert Bounce.objects.count() == 1


def test_a_log_that_may_go_on_proves_no_absence(office: PostOffice, doubtful: dict[str, Subscriber]) -> None:
    settled(office, from_log=str(office.place / "log"))

    assert states(doubtful) == {DELIVERED: "sent", REFUSED: "failed", WAITING: "sent", NEVER_SEEN: "uncertain"}


def test_what_lies_in_postfixs_queue_is_sent_and_the_rest_stays_open(
    office: PostOffice, doubtful: dict[str, Subscriber], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAIL_CONFIG", str(office.place / "conf"))

    settled(office, queue=True)

    assert states(doubtful) == {DELIVERED: "uncertain", REFUSED: "uncertain", WAITING: "sent", NEVER_SEEN: "uncertain"}
