"""A mailbox as it fills in years: real bounces of others, and thousands of mails that blame nobody."""

import random
import string
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest

from newsletters import bounces
from newsletters.bounces import mailbox as reading
from newsletters.models import Bounce, Delivery, Stop, Subscriber
from tests import mails
from tests.mailboxes import MailBox
from tests.outbox import MONDAY, Send, message_id, token
from tests.test_bounces_read import PROSE

LATER = MONDAY + timedelta(hours=1)
ORDINARY = 3_000
SAID = (
    "Merci pour ce texte, il m’a fait du bien.",
    "My mailbox was full yesterday: 552 5.2.2 over quota. Did I miss one?",
    "550 5.1.1 User unknown, says my server when I write to Bob.",
    "STOP",
    "Je suis absente jusqu’au 3 décembre. Delivery to me is delayed.",
)
Maker = Callable[[random.Random, "Ours"], bytes]


class Ours(NamedTuple):
    """One of our readers, and the word by which a mail to them is known again."""

    address: str
    token: str


def answer(chance: random.Random, reader: Ours) -> bytes:
    return mails.answer(f"bounces+{reader.token}@lists.example", chance.choice(SAID), name=word(chance))


def stranger(chance: random.Random, reader: Ours) -> bytes:
    return mails.answer("bounces@lists.example", f"{chance.choice(SAID)} {reader.address}", name=word(chance))


def away(chance: random.Random, reader: Ours) -> bytes:
    head = chance.choice([{"Auto-Submitted": "auto-replied"}, {"Precedence": "bulk"}, {"Return-Path": "<>"}, {}])
    to, text = f"bounces+{reader.token}@lists.example", chance.choice(SAID)
    return mails.answer(to, text, subject="Réponse automatique : Le carnet", name=word(chance), **head)


def other_newsletter(chance: random.Random, reader: Ours) -> bytes:
    text = f"{chance.choice(SAID)} To leave, <https://x.example/{word(chance)}>." * chance.randint(1, 50)
    return mails.answer("bounces@lists.example", text, subject="Undeliverable? Not us!", List_Id="<x.example>")


def spam(chance: random.Random, reader: Ours) -> bytes:
    noise = chance.randbytes(chance.randint(0, 3_000))
    return b"Subject: =?utf-8?q?=00=ff" + noise[:40].hex().encode() + b"\nFrom: \xff\xfe <x@>\n\n" + noise


def forged(chance: random.Random, reader: Ours) -> bytes:
    """Say that one of our readers is gone, without knowing what we sent."""
    return mails.dsn(reader.address, message_id=f"{word(chance, 50)}@lepasdujour.example", name=word(chance))


def delayed(chance: random.Random, reader: Ours) -> bytes:
    said = {"status": "4.4.1", "diagnostic": "smtp; 451 4.4.1 try again later", "action": "delayed"}
    return mails.dsn(reader.address, **said, message_id=f"{reader.token}@lepasdujour.example", name=word(chance))


def cut_off(chance: random.Random, reader: Ours) -> bytes:
    raw = chance.choice((forged, delayed, answer, stranger))(chance, reader)
    return raw[: chance.randrange(len(raw))]


def word(chance: random.Random, length: int = 20) -> str:
    return "".join(chance.choices(string.ascii_lowercase + "234567", k=length))


MAKERS: tuple[Maker, ...] = (answer, stranger, away, other_newsletter, spam, forged, delayed, cut_off)


def others_bounces(corpora: Path | None) -> Iterator[bytes]:
    """Yield bounces of mails that were never ours: real ones where they are at hand."""
    if corpora:
        yield from (file.read_bytes() for file in sorted((corpora / "corpora" / "bounces").glob("*.eml")))
    for text in PROSE.values():
        yield mails.prose(text)
    for number in range(50):
        yield mails.dsn(f"x{number}@elsewhere.example", name=f"{number}@mx.example")
        yield mails.complaint(f"{number}@elsewhere.example")


@pytest.mark.parametrize("protocol", ["imap", "pop3"])
def test_among_thousands_of_mails_the_one_real_bounce_is_found_and_nobody_else_is_blamed(
    sent: Send, mailbox: MailBox, corpora: Path | None, protocol: str
) -> None:
    chance, (gone, *others) = random.Random(1), sent(200)
    readers = [Ours(one.address, token(one)) for one in others]
    crowd = [chance.choice(MAKERS)(chance, chance.choice(readers)) for _ in range(ORDINARY)]
    crowd += others_bounces(corpora)
    chance.shuffle(crowd)
    crowd.insert(len(crowd) // 2, mails.dsn(gone.address, message_id=message_id(gone)))
    for raw in crowd:
        mailbox.put(raw)
    read: list[str] = []

    def notes(raw: bytes, now: datetime) -> str:
        read.append(bounces.take(raw, now))
        return read[-1]

    rounds = [reading.collect(mailbox.urls[protocol], LATER, notes) for _ in range(len(crowd) // reading.MOST + 2)]

    assert len(read) == len(crowd)
    assert len(mailbox.files()) == read.count("unplaced") == len(crowd) - sum(rounds)
    assert [one.pk for one in Subscriber.objects.exclude(status="active")] == [gone.pk]
    assert [row.subscriber_id for row in Delivery.objects.exclude(state="sent")] == [gone.pk]
    assert set(Bounce.objects.filter(known=True).exclude(subscriber=gone).values_list("kind", flat=True)) == {"replied"}
    assert not Stop.objects.exists()
