"""Answers to our mails: a machine's is dropped, a person's reaches the author, a bare “stop” gets the way out."""

import io
import sys
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command

from newsletters import bounces, links, sending
from newsletters.links import Purpose
from newsletters.models import Bounce, Letter, Publication
from newsletters.models.outgoing import State
from tests import mails
from tests.outbox import MONDAY, Send, row, token
from tests.servers import MailServer

LATER = MONDAY + timedelta(hours=1)


@pytest.fixture(autouse=True)
def mailbox(settings: Any, smtp: MailServer) -> None:
    settings.MAIL_URL = smtp.url
    settings.BOUNCE_ADDRESS = "answers@lists.example"


def written(reader: Any) -> str:
    """Return the address that the reader's mail asks to answer to."""
    return f"answers+{token(reader)}@lists.example"


def test_a_mail_asks_for_answers_to_a_signed_address(sent: Send, smtp: MailServer) -> None:
    (alice,) = sent()

    reply_to = str(smtp.messages[0]["Reply-To"])

    assert reply_to == f"Maud Castéra <{written(alice)}>"
    assert len(written(alice).partition("@")[0]) <= 64


def test_without_a_mailbox_answers_go_to_the_author(sent: Send, smtp: MailServer, settings: Any) -> None:
    settings.BOUNCE_ADDRESS = ""

    sent()

    assert str(smtp.messages[0]["Reply-To"]) == "Maud Castéra <maud@lepasdujour.example>"


def test_a_persons_answer_reaches_the_author(sent: Send, smtp: MailServer, publication: Publication) -> None:
    (alice,) = sent()
    text = "Merci, ça m’a aidée <b>vraiment</b>.\n.\nAlice"

    what = bounces.take(mails.answer(written(alice), text, subject="Re: L’élan"), LATER)
    sending.drain(lambda: LATER)

    assert what == "answer"
    event = Bounce.objects.get()
    assert (event.kind, event.subscriber, event.date) == ("replied", alice, MONDAY.date())
    mail = smtp.messages[-1]
    assert smtp.received[-1].recipients == ["maud@lepasdujour.example"]
    assert (mail["Subject"], mail["Reply-To"]) == ("Re: L’élan", "Alice Martin <alice@example.com>")
    assert mail["From"] == "Alice Martin <maud@lepasdujour.example>"
    assert mail["Auto-Submitted"] == "auto-generated"
    plain = mail.get_body(("plain",)).get_content()  # type: ignore[union-attr]
    assert "ça m’a aidée <b>vraiment</b>.\r\n.\r\nAlice" in plain
    page = plain.partition("/reader/")[2].partition("/")[0]
    assert links.unseal(Purpose.READER, page).number == alice.pk
    assert "&lt;b&gt;" in mail.get_body(("html",)).get_content()  # type: ignore[union-attr]


def test_the_same_answer_is_passed_on_once(sent: Send) -> None:
    (alice,) = sent()

    for _time in range(3):
        bounces.take(mails.answer(written(alice), "Merci."), LATER)
    bounces.take(mails.answer(written(alice), "Encore merci.", name="another@home.example"), LATER)

    assert Letter.objects.filter(kind="answer").count() == 2


@pytest.mark.parametrize(
    ("subject", "head"),
    [
        ("Re: Le carnet", {"Auto_Submitted": "auto-replied"}),
        ("Re: Le carnet", {"Auto_Submitted": "auto-generated (vacation)"}),
        ("Re: Le carnet", {"Precedence": "bulk"}),
        ("Re: Le carnet", {"X_Autoreply": "yes"}),
        ("Re: Le carnet", {"Return_Path": "<>"}),
        ("Réponse automatique : Le carnet", {}),
        ("Out of office: Le carnet", {}),
        ("Automatic reply: Le carnet", {}),
        ("Absence du bureau", {}),
    ],
)
def test_a_machines_answer_is_dropped(sent: Send, subject: str, head: dict[str, str]) -> None:
    (alice,) = sent()

    what = bounces.take(mails.answer(written(alice), "I am away. Stop.", subject=subject, **head), LATER)

    assert (what, Letter.objects.count(), Bounce.objects.count()) == ("automatic", 0, 0)


def test_a_receipt_is_no_answer(sent: Send) -> None:
    (alice,) = sent()
    receipt = f"""\
From: Alice <alice@example.com>
To: {written(alice)}
Subject: Lu : Le carnet
Content-Type: multipart/report; report-type=disposition-notification; boundary=x

--x
Content-Type: text/plain

Votre message a été lu.
--x
Content-Type: message/disposition-notification

Final-Recipient: rfc822;alice@example.com
Disposition: manual-action/MDN-sent-manually; displayed
--x--
"""

    assert bounces.take(receipt.encode(), LATER) == "automatic"
    assert not Letter.objects.exists()


def test_a_flood_of_answers_is_left_where_it_lies(sent: Send) -> None:
    alice, bob = sent(2)

    for number in range(30):
        bounces.take(mails.answer(written(alice), "Merci.", name=f"{number}@home.example"), LATER)
    other = bounces.take(mails.answer(written(bob), "Merci.", name="bob@home.example"), LATER)
    next_day = mails.answer(written(alice), "Merci.", name="next@home.example")

    assert (other, Letter.objects.count()) == ("answer", 21)
    assert bounces.take(next_day, LATER + timedelta(days=1, minutes=1)) == "answer"


@pytest.mark.parametrize("part", ["body", "subject", "name"])
def test_letters_that_no_database_takes_are_replaced(sent: Send, smtp: MailServer, part: str) -> None:
    (alice,) = sent()
    half = {
        "body": (b"\nMerci\n", b"\nMerci +2AA- a\0b\n"),
        "subject": (b"Subject: Re: Le carnet", b"Subject: =?utf-7?q?+2AA-?= =?utf-8?q?a=00b?="),
        "name": (b"From: Alice Martin <", b"From: =?utf-7?q?+2AA-?= <"),
    }
    raw = mails.answer(written(alice), "Merci").replace(b'"utf-8"', b'"utf-7"')
    assert half[part][0] in raw

    assert bounces.take(raw.replace(*half[part]), LATER) == "answer"
    sending.drain(lambda: LATER)

    assert Letter.objects.get().state == State.SENT


@pytest.mark.parametrize(
    "text",
    [
        "stop", "STOP.", "Désinscription", "désinscription svp", "unsubscribe", "Please unsubscribe me", "Stop !",
        "unsubscribe\n\nLe lun. 23 nov. 2026 à 07:00, Maud Castéra <x@y.example> a écrit :\n> Bonjour",
        "Me désinscrire, merci", "Remove me from this list",
    ],
)  # fmt: skip
def test_a_bare_stop_gets_the_way_out_and_ends_nothing(sent: Send, smtp: MailServer, text: str) -> None:
    (alice,) = sent()

    what = bounces.take(mails.answer(written(alice), text), LATER)
    bounces.take(mails.answer(written(alice), text, name="again@home.example"), LATER)
    sending.drain(lambda: LATER)

    alice.refresh_from_db()
    assert (what, alice.status, Letter.objects.get().kind) == ("offer", "active", "offer")
    mail = smtp.received[-1]
    assert mail.recipients == [alice.address]
    said = mail.message.get_body(("plain",)).get_content()  # type: ignore[union-attr]
    assert f"/leave/{links.seal(Purpose.LEAVE, alice.pk, MONDAY.date())}/" in said
    assert mail.message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"


def test_an_empty_answer_whose_subject_says_stop_gets_it_too(sent: Send) -> None:
    (alice,) = sent()

    assert bounces.take(mails.answer(written(alice), "", subject="STOP"), LATER) == "offer"


@pytest.mark.parametrize(
    "text",
    ["Stop, I love it! Never stop writing to me.", "Je n’arrête pas d’y penser.", "Unsubscribe my husband, not me"],
)
def test_more_than_a_bare_stop_is_an_answer(sent: Send, text: str) -> None:
    (alice,) = sent()

    assert bounces.take(mails.answer(written(alice), text), LATER) == "answer"


def test_a_stranger_who_writes_there_is_left_where_he_lies(sent: Send) -> None:
    sent()

    assert bounces.take(mails.answer("answers@lists.example", "Stop"), LATER) == bounces.UNPLACED
    assert not Letter.objects.exists()


def test_an_answer_proves_that_an_uncertain_email_arrived(sent: Send) -> None:
    (alice,) = sent()
    type(row(alice)).objects.update(state=State.UNCERTAIN)

    bounces.take(mails.answer(written(alice), "Merci."), LATER)

    assert row(alice).state == State.SENT


def test_an_author_who_cannot_be_reached_costs_no_reader(sent: Send, smtp: MailServer) -> None:
    (alice,) = sent()
    bounces.take(mails.answer(written(alice), "Merci."), LATER)
    smtp.replies["maud@lepasdujour.example"] = "550 5.1.1 user unknown"

    sending.drain(lambda: LATER)

    alice.refresh_from_db()
    assert (alice.status, Letter.objects.get().state) == ("active", State.FAILED)


def test_a_header_from_outside_starts_no_new_line(sent: Send, smtp: MailServer) -> None:
    (alice,) = sent()
    raw = mails.answer(written(alice), "Bonjour").replace(
        b"Subject: Re: Le carnet", b"Subject: =?utf-8?q?a=0D=0ABcc:_victim@example.com?="
    )

    bounces.take(raw, LATER)
    sending.drain(lambda: LATER)

    assert smtp.messages[-1]["Bcc"] is None
    assert smtp.received[-1].recipients == ["maud@lepasdujour.example"]


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def take(raw: bytes) -> str:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))
        call_command("take_mail")
        return capsys.readouterr().out.strip()

    return take


def test_a_mail_server_hands_messages_in_by_a_pipe(sent: Send, pipe: Any) -> None:
    (alice,) = sent()

    assert pipe(mails.answer(written(alice), "Merci.")) == "answer"
    assert pipe(mails.dsn(alice.address, to=written(alice))) == "bounce"
    assert pipe(b"\xff\x00" * 600_000) == "unplaced"
