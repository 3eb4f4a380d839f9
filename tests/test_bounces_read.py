"""Any message from outside is read: real reports, strange ones, and bytes that mean nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bench import bounces as bench
from newsletters import bounces
from newsletters.bounces import letter, report, verdict
from newsletters.bounces.report import Failure, Report
from newsletters.models import Bounce, Subscriber
from tests import mails
from tests.outbox import MONDAY, Send, message_id

Kind = Bounce.Kind


def read(raw: bytes) -> Report | None:
    return report.read(letter.read(raw))


def failures(raw: bytes) -> list[Failure]:
    found = read(raw)
    return [] if found is None else [one for one in found.failures if one.action not in {"delivered", "relayed"}]


PROSE = {
    "qmail": """\
Hi. This is the mail program at mx.example. I wasn't able to deliver your message to the following addresses.
This is a permanent error; I've given up.

<alice@example.com>:
192.0.2.1 does not like recipient.
Remote host said: 550 sorry, no mailbox here by that name

--- Below this line is a copy of the message.

Return-Path: <bounces@lists.example>
To: carol@example.com
""",
    "exim": """\
This message was created automatically by mail delivery software.

A message that you sent could not be delivered to one or more of its recipients. The following address(es) failed:

  alice@example.com
    host mx.example.com [192.0.2.1]
    SMTP error from remote mail server after RCPT TO:<alice@example.com>:
    550 Unrouteable address

------ This is a copy of the message, including all the headers. ------

Return-path: <bounces@lists.example>
""",
    "sendmail": """\
   ----- Transcript of session follows -----
... while talking to mx.example.com.:
>>> RCPT To:<alice@example.com>
<<< 550 5.1.1 <alice@example.com>... User unknown
550 <alice@example.com>... User unknown

   ----- Original message follows -----
Received: from x
From: maud@lepasdujour.example
To: alice@example.com
""",
    "French": """\
Votre message n'a pas pu être remis au destinataire suivant :

alice@example.com : utilisateur inconnu

Le message original suit.
""",
}


@pytest.mark.parametrize("server", PROSE)
def test_it_reads_what_is_written_for_people(server: str) -> None:
    (failure,) = failures(mails.prose(PROSE[server], subject="Undelivered mail"))

    assert failure.recipient == "alice@example.com"
    assert verdict.of(failure) == Kind.HARD


def test_each_recipient_has_its_own_reason() -> None:
    text = """\
Your message could not be delivered to the following addresses.

<alice@example.com>:
550 5.1.1 User unknown

<bob@example.com>:
552 5.2.2 Mailbox full
"""
    found = failures(mails.prose(text))

    assert [(one.recipient, verdict.of(one)) for one in found] == [
        ("alice@example.com", Kind.HARD),
        ("bob@example.com", Kind.FULL),
    ]


@pytest.mark.parametrize(
    ("status", "said", "kind"),
    [
        ("5.2.1", "550 5.2.1 Recipient address rejected: user unknown in virtual mailbox table", Kind.HARD),
        ("5.1.1", "550 5.1.1 Mailbox over quota, try later", Kind.FULL),
        ("5.1.2", "", Kind.HARD),
        ("5.4.4", "Host or domain name not found. Name service error for name=nowhere.example", Kind.HARD),
        ("4.4.3", "Host or domain name not found. Name service error: Host not found, try again", Kind.SOFT),
        ("5.1.8", "553 5.1.8 Sender address rejected: Domain not found", Kind.BLOCKED),
        ("5.7.1", "550 5.7.1 Client host rejected: cannot find your reverse hostname", Kind.BLOCKED),
        ("5.0.0", "550 user unknown (in reply to end of DATA command)", Kind.SOFT),
        ("4.1.1", "", Kind.SOFT),
        ("5.2.1", "550 5.2.1 The account is disabled", Kind.SOFT),
        ("5.7.26", "550-5.7.26 This mail is unauthenticated", Kind.AUTH),
        ("5.7.1", "550 5.7.1 SPF check failed", Kind.AUTH),
        ("5.1.10", "550 5.1.10 RESOLVER.ADR.RecipientNotFound", Kind.HARD),
        ("5.1.1", "550 5.1.1 Adresse d au moins un destinataire invalide", Kind.HARD),
        ("4.2.0", "450 4.2.0 Greylisted, please try again in 5 minutes", Kind.SOFT),
        ("", "", Kind.SOFT),
    ],
)
def test_the_text_says_more_than_the_code(status: str, said: str, kind: str) -> None:
    assert verdict.of(Failure("alice@example.com", status=status, said=said)) == kind


@pytest.mark.parametrize(
    "raw",
    [
        mails.answer("x@lists.example", "Merci pour ce texte, il m’a fait du bien."),
        mails.answer("x@lists.example", "My mail to Bob was not delivered, do you know why?"),
        mails.answer("x@lists.example", "550 5.1.1 User unknown", subject="Automatic reply: away", Return_Path="<>"),
        b"",
        b"\n\n",
    ],
)
def test_what_people_write_is_no_report(raw: bytes) -> None:
    assert read(raw) is None


def test_a_text_that_is_folded_and_encoded_is_read() -> None:
    raw = mails.dsn("alice@example.com", diagnostic="smtp; 550 5.7.0\n    Unknown\n    user")
    (failure,) = failures(raw)

    assert "Unknown user" in failure.said


# --- Any bytes at all


def pieces() -> Iterator[bytes]:
    yield mails.dsn("alice@example.com")
    yield mails.complaint("x@y.example")
    yield from (mails.prose(text) for text in PROSE.values())


def mangled() -> st.SearchStrategy[bytes]:
    """Real reports cut off, repeated, nested and strewn with garbage, up to a megabyte."""
    report_or_noise = st.one_of(st.sampled_from(list(pieces())), st.binary(max_size=2000))
    cut = st.builds(lambda raw, at: raw[: at % (len(raw) + 1)], report_or_noise, st.integers(0, 5000))
    joined = st.lists(cut, min_size=1, max_size=5).map(b"\n".join)
    return st.builds(lambda raw, times: (raw * times)[: 1 << 20], joined, st.sampled_from([1, 1, 1, 2, 50, 5000]))


NESTED = b"".join(b'Content-Type: multipart/mixed; boundary="%d"\n\n--%d\n' % (n, n) for n in range(20_000))
FORWARDED = b"Content-Type: message/rfc822\n\n" * 30_000


@given(raw=mangled())
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@example(raw=NESTED)
@example(raw=FORWARDED)
@example(raw=b"From: MAILER-DAEMON\nSubject: undeliverable\n\n" + b"a@" * 500_000)
@example(raw=b"From: MAILER-DAEMON\nSubject: undeliverable\n\n" + b"<a@b.c>\n" * 130_000)
@example(raw=b"From: MAILER-DAEMON\nSubject: undeliverable\n\n" + b"user user account " * 50_000)
@example(raw=b"From: MAILER-DAEMON\nSubject: undeliverable\n\n" + b"rcpt to:<" * 110_000)
@example(raw=b"Content-Type: text/html\nSubject: undeliverable\n\n" + b"<br " * 260_000)
@example(raw=b"Content-Type: text/html\nSubject: undeliverable\n\n" + b"<style>" * 150_000)
@example(raw=b"Subject: " + b"=?utf-8?q?=00" * 80_000)
@example(raw=b"X: y\n " * 150_000)
@example(raw=b"To: " + b"a" * 50 + b" " + b"b2" * 500_000)
@example(raw=b"Content-Type: message/delivery-status\n\n" + b"Final-Recipient: rfc822;a@b.c\n\n" * 30_000)
def test_no_bytes_crash_or_hang_it_and_nobody_is_suppressed(raw: bytes, db: None) -> None:
    bounces.take(raw, MONDAY)

    assert not Bounce.objects.filter(known=True).exists()


@given(at=st.integers(0, 1500), noise=st.binary(max_size=300))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_report_cut_off_costs_nobody_else(at: int, noise: bytes, sent: Send) -> None:
    if not Subscriber.objects.exists():
        sent(2)
    alice, bob = Subscriber.objects.order_by("pk")
    raw = mails.dsn(bob.address, message_id=message_id(alice))

    bounces.take(raw[:at] + noise, MONDAY)

    bob.refresh_from_db()
    assert bob.status == "active"


# --- Real reports, with the answers published beside them


def test_real_reports_are_read_as_published(corpora: Path | None) -> None:
    if corpora is None:
        pytest.skip("no real reports: give CORPORA")

    folder = corpora / "corpora" / "bounces"
    found, (_cuts, worse) = bench.judge(folder), bench.cut(folder, 2, 1)

    assert found.detected >= 0.97, found.miscounted
    assert found.right >= 0.95, found.misjudged
    assert not found.unsaid
    assert not worse
