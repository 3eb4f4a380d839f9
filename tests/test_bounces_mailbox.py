"""The mailbox that bounces come to, on a real server."""

from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.db import OperationalError

from newsletters import bounces, mailbox_url, tasks
from newsletters.bounces import mailbox as reading
from newsletters.models import Bounce, Heartbeat, Seen
from tests import mails
from tests.mailboxes import MailBox
from tests.outbox import MONDAY, Send, message_id, token

LATER = MONDAY + timedelta(hours=1)
PROTOCOLS = ["imap", "pop3"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_it_takes_what_is_ours_and_leaves_the_rest(sent: Send, mailbox: MailBox, protocol: str) -> None:
    alice, bob = sent(2)
    spam = b"From: x@y.example\nTo: bounces@lists.example\nSubject: Cheap!\n\nBuy.\n"
    mailbox.put(mails.dsn(alice.address, message_id=message_id(alice)))
    mailbox.put(spam)
    mailbox.put(mails.answer(f"answers+{token(bob)}@lists.example", "Merci.\n.\nBob"))

    assert reading.collect(mailbox.urls[protocol], LATER) == 2

    alice.refresh_from_db()
    assert alice.status == "bounced"
    assert [one.replace(b"\r\n", b"\n") for one in mailbox.left()] == [spam]
    assert sorted(Bounce.objects.values_list("kind", flat=True)) == ["hard", "replied"]
    assert reading.collect(mailbox.urls[protocol], LATER) == 0


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_could_not_be_committed_stays(sent: Send, mailbox: MailBox, protocol: str) -> None:
    (alice,) = sent()
    mailbox.put(mails.dsn(alice.address, message_id=message_id(alice)))

    def breaks(raw: bytes, now: Any) -> str:
        raise OperationalError("the database went away")

    with pytest.raises(OperationalError):
        reading.collect(mailbox.urls[protocol], LATER, breaks)
    assert len(mailbox.left()) == 1
    assert reading.collect(mailbox.urls[protocol], LATER) == 1
    assert mailbox.left() == []


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_message_that_nobody_can_read_holds_up_no_other(sent: Send, mailbox: MailBox, protocol: str) -> None:
    (alice,) = sent()
    mailbox.put(b"Subject: poison\n\n")
    mailbox.put(mails.dsn(alice.address, message_id=message_id(alice)))
    mailbox.put(b"Subject: poison\n\n")

    def stumbles(raw: bytes, now: Any) -> str:
        if b"poison" in raw:
            raise ValueError("what is this?")
        return bounces.take(raw, now)

    assert reading.collect(mailbox.urls[protocol], LATER, stumbles) == 1
    assert len(mailbox.left()) == 2


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_lines_may_be_longer_than_they_should(sent: Send, mailbox: MailBox, protocol: str) -> None:
    (alice,) = sent()
    report = mails.dsn(alice.address, message_id=message_id(alice))
    mailbox.put(report.replace(b"--=_1--", b"x" * 300_000 + b"\r\n--=_1--"))
    mailbox.put(b"Subject: x\n\n" + b"x" * 5_000 + b"\n")

    assert reading.collect(mailbox.urls[protocol], LATER) == 1

    alice.refresh_from_db()
    assert alice.status == "bounced"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_real_bounces_among_ten_times_as_many_other_mails(sent: Send, mailbox: MailBox, protocol: str) -> None:
    readers = sent(5)
    for number in range(50):
        mailbox.put(mails.answer("answers@lists.example", f"Bonjour {number}", name=f"{number}@x.example"))
        if number % 10 == 0:
            reader = readers[number // 10]
            mailbox.put(mails.dsn(reader.address, message_id=message_id(reader)))

    assert reading.collect(mailbox.urls[protocol], LATER) == 5

    assert len(mailbox.left()) == 50
    assert Bounce.objects.filter(kind="hard").count() == 5


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_any_number_of_mails_is_read_in_the_end(
    sent: Send, mailbox: MailBox, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MOST", 20)
    (alice,) = sent()
    spam = [f"Subject: {number}\n\nBuy.\n".encode() for number in range(30)]
    for raw in [*spam, mails.dsn(alice.address, message_id=message_id(alice)), *spam]:
        mailbox.put(raw)
    read: list[bytes] = []

    def notes(raw: bytes, now: Any) -> str:
        read.append(raw)
        return bounces.take(raw, now)

    assert [reading.collect(mailbox.urls[protocol], LATER, notes) for _round in range(5)] == [0, 1, 0, 0, 0]

    alice.refresh_from_db()
    assert alice.status == "bounced"
    assert len(read) == 61
    assert read[0].startswith(b"Subject: 0\r\n")
    assert len(mailbox.left()) == 60


def test_what_is_gone_from_the_mailbox_is_forgotten(mailbox: MailBox, db: None) -> None:
    mailbox.put(b"Subject: one\n\n")
    mailbox.put(b"Subject: two\n\n")
    reading.collect(mailbox.urls["pop3"], LATER)
    assert Seen.objects.count() == 2

    mailbox.empty()
    mailbox.put(b"Subject: three\n\n")
    reading.collect(mailbox.urls["pop3"], LATER)

    assert Seen.objects.count() == 1


def test_the_worker_reads_it_now_and_then(sent: Send, mailbox: MailBox, settings: Any) -> None:
    (alice,) = sent()
    settings.BOUNCE_MAILBOX = mailbox.urls["imap"]
    mailbox.put(mails.dsn(alice.address, message_id=message_id(alice)))

    with time_machine.travel(LATER, tick=False):
        assert reading.due(LATER)
        tasks.collect()
        assert len(mailbox.left()) == 1
        Heartbeat.objects.update(at=LATER - reading.EVERY)
        tasks.collect()

    assert mailbox.left() == []


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_wrong_password_is_an_error_of_the_log_alone(
    protocol: str, mailbox: MailBox, settings: Any, db: None, caplog: pytest.LogCaptureFixture
) -> None:
    settings.BOUNCE_MAILBOX = mailbox.urls[protocol].replace("secret", "wrong")

    tasks.collect()

    assert "mailbox.collect failed" in caplog.text


@pytest.mark.parametrize(
    "url", ["", "x", "imaps://host", "http://user:x@host", "imap://user:x@host:port", "imaps://user:x@"]
)
def test_an_address_that_names_no_mailbox_is_refused(url: str) -> None:
    with pytest.raises(mailbox_url.MailboxURLError, match="Give imaps://"):
        mailbox_url.parse(url)


def test_an_address_is_taken_apart() -> None:
    box = mailbox_url.parse("imaps://bounces%40lists.example:p%2Fw@mail.example/My%20Box")

    assert (box.host, box.port, box.user, box.password, box.folder) == (
        "mail.example", 993, "bounces@lists.example", "p/w", "My Box",
    )  # fmt: skip
