"""What comes back: whose it was, what it means, and what follows."""

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from newsletters import bounces, postage, promise, sending
from newsletters.bounces import breaker, origin
from newsletters.models import (
    Alarm,
    Bounce,
    Correction,
    Day,
    Delivery,
    Letter,
    Publication,
    Stop,
    Subscriber,
    Suppression,
    Tally,
    Walk,
)
from newsletters.models.delivery import State
from tests import mails
from tests.outbox import MONDAY, ONE_DAY, Send, message_id, row, send_day, token
from tests.servers import MailServer
from tests.test_planning import make_issue

LATER = MONDAY + timedelta(hours=1)
Kind = Bounce.Kind
HARD = "smtp; 550 5.1.1 User unknown"
SOFT = "smtp; 451 4.3.0 Local error, connection timed out"


def status(reader: Subscriber) -> str:
    reader.refresh_from_db()
    return reader.status


def suppressed(reader: Subscriber) -> list[str]:
    return list(Suppression.objects.filter(address_hash=reader.address_hash).values_list("reason", flat=True))


def test_a_dead_address_is_written_to_no_more(sent: Send) -> None:
    alice, bob = sent(2)

    what = bounces.take(mails.dsn(alice.address, to=f"bounces+{token(alice)}@lists.example"), LATER)

    assert what == "bounce"
    assert (status(alice), suppressed(alice)) == ("bounced", ["dead"])
    assert (row(alice).state, row(alice).reason) == (State.FAILED, "address")
    assert (status(bob), row(bob).state) == ("active", State.SENT)
    bounce = Bounce.objects.get()
    assert (bounce.kind, bounce.subscriber, bounce.date, bounce.known) == (Kind.HARD, alice, MONDAY.date(), True)
    assert "reader0" not in bounce.text


@pytest.mark.parametrize("case", ["upper case", "envelope id", "message id", "answered", "bare text"])
def test_a_token_of_ours_says_whose_it_was(sent: Send, case: str) -> None:
    alice, _bob = sent(2)
    somebody = "postmaster@gateway.example"
    report = {
        "upper case": mails.dsn(somebody, to=f"BOUNCES+{token(alice).upper()}@LISTS.EXAMPLE"),
        "envelope id": mails.dsn(somebody, envelope=token(alice)),
        "message id": mails.dsn(somebody, message_id=message_id(alice)),
        "answered": mails.prose(f"<{somebody}>:\n550 User unknown").replace(
            b"Subject:", f"References: <{message_id(alice)}>\nSubject:".encode(), 1
        ),
        "bare text": mails.prose(f"<{somebody}>:\n550 User unknown\n\nMessage-ID: <{message_id(alice)}>"),
    }[case]

    bounces.take(report, LATER)

    assert status(alice) == "bounced"


def test_the_return_path_comes_before_what_the_report_holds(sent: Send) -> None:
    alice, bob = sent(2)
    to = f"bounces+{token(alice)}@lists.example"

    bounces.take(mails.dsn(bob.address, to=to, envelope=token(bob), message_id=message_id(bob)), LATER)

    assert (status(alice), status(bob)) == ("bounced", "active")


def test_an_address_alone_costs_nobody(sent: Send) -> None:
    (alice,) = sent()

    bounces.take(mails.dsn(alice.address), LATER)

    assert (status(alice), suppressed(alice), row(alice).state) == ("active", [], State.SENT)
    assert not Bounce.objects.get().known


def test_a_forged_token_costs_nobody(sent: Send) -> None:
    (alice,) = sent()
    real = token(alice)
    forged = ("b" if real[20] != "b" else "c").join([real[:20], real[21:]])

    bounces.take(mails.dsn("x@example.com", to=f"bounces+{forged}@lists.example"), LATER)

    assert (status(alice), Bounce.objects.count()) == ("active", 0)


def test_a_report_on_what_never_left_or_long_ago_counts_nothing(sent: Send) -> None:
    (alice,) = sent()
    report = mails.dsn(alice.address, message_id=message_id(alice))

    bounces.take(report, LATER + origin.LASTS + ONE_DAY)
    Delivery.objects.update(handoff_at=None, state=State.PLANNED)
    bounces.take(report, LATER)

    assert status(alice) == "active"


def test_twice_is_once(sent: Send) -> None:
    (alice,) = sent()

    for number in range(46):
        bounces.take(mails.dsn(alice.address, message_id=message_id(alice), name=f"{number}@mx.example"), LATER)

    assert Bounce.objects.count() == 1


def test_news_of_a_delay_changes_nothing(sent: Send) -> None:
    (alice,) = sent()

    what = bounces.take(mails.dsn(alice.address, "4.4.1", SOFT, action="delayed", message_id=message_id(alice)), LATER)

    assert (what, status(alice), row(alice).state) == ("delayed", "active", State.SENT)


@pytest.mark.parametrize(
    ("code", "said", "kind"),
    [
        ("5.2.2", "552 5.2.2 Mailbox full", Kind.FULL),
        ("5.7.1", "554 5.7.1 Service unavailable; client host blocked using zen.spamhaus.org", Kind.BLOCKED),
        ("5.7.1", "550 5.7.1 Message contains spam or virus", Kind.CONTENT),
        ("5.7.1", "554 5.7.1 Rejected because of poor reputation", Kind.REPUTATION),
        ("5.3.4", "552 5.3.4 Message size exceeds fixed limit", Kind.SIZE),
    ],
)
def test_what_is_not_the_readers_fault_never_costs_them(sent: Send, code: str, said: str, kind: str) -> None:
    (alice,) = sent(days=9)

    for day in range(9):
        bounces.take(
            mails.dsn(alice.address, code, f"smtp; {said}", message_id=message_id(alice, day)), LATER + 9 * ONE_DAY
        )

    assert set(Bounce.objects.values_list("kind", flat=True)) == {kind}
    assert (status(alice), suppressed(alice)) == ("active", [])
    assert (row(alice).state, row(alice).reason) == (State.FAILED, "server")


def test_seven_days_in_a_row_without_reaching_a_mailbox_are_enough(sent: Send) -> None:
    (alice,) = sent(days=7)
    order = [3, 0, 6, 1, 5, 2]

    for day in order:
        bounces.take(mails.dsn(alice.address, "4.3.0", SOFT, message_id=message_id(alice, day)), LATER + 7 * ONE_DAY)
    before = status(alice)
    bounces.take(mails.dsn(alice.address, "4.3.0", SOFT, message_id=message_id(alice, 4)), LATER + 7 * ONE_DAY)

    assert (before, status(alice)) == ("active", "bounced")


def test_one_email_that_arrives_begins_the_count_anew(sent: Send) -> None:
    (alice,) = sent(days=12)

    for day in [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]:
        bounces.take(mails.dsn(alice.address, "4.3.0", SOFT, message_id=message_id(alice, day)), LATER + 12 * ONE_DAY)

    assert status(alice) == "active"


def test_a_complaint_ends_everything(sent: Send) -> None:
    alice, bob = sent(2)

    what = bounces.take(mails.complaint(message_id(alice)), LATER)

    assert what == "complaint"
    assert (status(alice), suppressed(alice), row(alice).state) == ("complained", ["complained"], State.SENT)
    assert status(bob) == "active"


@pytest.mark.parametrize("kind", ["not-spam", "auth-failure", "virus", ""])
def test_other_feedback_blames_nobody(sent: Send, kind: str) -> None:
    (alice,) = sent()

    assert bounces.take(mails.complaint(message_id(alice), kind), LATER) == "notice"

    assert status(alice) == "active"


def test_a_closed_day_is_corrected(sent: Send) -> None:
    alice, _bob = sent(2)
    closing = MONDAY + ONE_DAY * 3
    promise.go_round(closing)
    assert Day.objects.get(date=MONDAY.date()).on_time == 2

    bounces.take(mails.dsn(alice.address, message_id=message_id(alice)), closing)
    promise.go_round(closing + timedelta(minutes=10))

    day = Day.objects.get(date=MONDAY.date())
    assert [one.changes for one in Correction.objects.filter(day=day)] == [{"on_time": -1, "failed": 1}]
    assert promise.figures(day) == promise.recount(day)
    assert day.on_time == 2


def test_a_step_that_did_not_arrive_is_owed_again(publication: Publication, reader: Any) -> None:
    steps = publication.series.create(name="Accueil", slug="accueil", welcome=True)
    for number in range(3):
        steps.append(make_issue(publication, f"step{number}"))
    alice = reader(now=MONDAY - timedelta(hours=18))
    send_day(0)
    send_day(1)
    bounces.take(
        mails.dsn(alice.address, "5.2.2", "smtp; 552 mailbox full", message_id=message_id(alice, 1)), LATER + ONE_DAY
    )

    send_day(2)

    subjects = [row(alice, day).issue.subject for day in range(3)]  # type: ignore[union-attr]
    assert subjects == ["step0", "step1", "step1"]
    assert Walk.objects.get().reached == steps.entries.order_by("rank")[1].rank


def test_a_letter_that_cannot_arrive_is_failed(publication: Publication) -> None:
    letter = Letter.objects.create(
        publication=publication, kind=Letter.Kind.WELCOME, cause="x", address="typo@example.com", language="fr",
        address_key="typo@example.com", due_at=MONDAY, try_at=MONDAY, late_until=MONDAY + ONE_DAY,
        state=State.SENT, handoff_at=MONDAY,
    )  # fmt: skip

    bounces.take(mails.dsn("typo@example.com", message_id=postage.message_id(letter)), LATER)

    letter.refresh_from_db()
    assert (letter.state, letter.reason) == (State.FAILED, "address")


def test_an_erased_readers_bounce_changes_nothing(sent: Send) -> None:
    from newsletters import privacy

    (alice,) = sent()
    report = mails.dsn(alice.address, message_id=message_id(alice))
    privacy.erase(alice, LATER)

    bounces.take(report, LATER)

    assert Bounce.objects.get().subscriber is None


# --- The breaker


def complain(readers: list[Subscriber]) -> None:
    for one in readers:
        bounces.take(mails.complaint(message_id(one)), LATER)


def test_five_complaints_stop_a_publication(sent: Send, publication: Publication) -> None:
    readers = sent(20, days=1)

    complain(readers[:4])
    assert not Stop.objects.exists()
    assert Alarm.objects.get().cause == "many_complaints"
    complain(readers[4:5])

    assert Stop.objects.get().cause == "complaints"
    alarm = Alarm.objects.get(cause="stop_complaints")
    assert "5" in alarm.text
    assert "stuck --go-on pas" in alarm.text
    send_day(1)
    assert set(Delivery.objects.filter(local_date=MONDAY.date() + ONE_DAY).values_list("state", flat=True)) == {
        "planned"
    }
    letters = Letter.objects.filter(state="planned").count()
    assert letters == 0


def test_a_stopped_publication_goes_on_when_its_author_says_so(sent: Send, publication: Publication) -> None:
    readers = sent(20)
    complain(readers[:5])

    assert breaker.go_on(publication, LATER)
    bounces.take(mails.complaint(message_id(readers[6])), LATER + timedelta(minutes=1))
    send_day(1)

    assert not Stop.objects.standing().exists()
    assert not Alarm.objects.filter(cause="stop_complaints", cleared_at=None).exists()
    assert set(Delivery.objects.filter(local_date=MONDAY.date() + ONE_DAY).values_list("state", flat=True)) != {
        "planned"
    }


def test_complaints_that_are_few_among_many_stop_nothing(sent: Send, publication: Publication) -> None:
    readers = sent(6)
    Tally.objects.filter(publication=publication).update(count=10_000)

    complain(readers)

    assert not Stop.objects.exists()


def test_twenty_dead_addresses_above_a_twentieth_stop_a_publication(sent: Send) -> None:
    readers = sent(25)

    for one in readers[:19]:
        bounces.take(mails.dsn(one.address, message_id=message_id(one)), LATER)
    assert not Stop.objects.exists()
    assert Alarm.objects.get().cause == "many_bounces"
    bounces.take(mails.dsn(readers[19].address, message_id=message_id(readers[19])), LATER)

    assert Stop.objects.get().cause == "bounces"


GMAIL = "smtp; 550-5.7.27 SPF [lepasdujour.example] did not pass. https://support.google.com/mail/?p=x - gsmtp"
OUTLOOK = "smtp; 550 5.7.515 Access denied, sending domain does not meet the required authentication level."


@pytest.mark.parametrize(
    ("address", "said", "advice"),
    [
        ("alice@gmail.com", GMAIL, "SPF"),
        ("alice@outlook.com", OUTLOOK, "DMARC"),
        ("alice@firm.example", OUTLOOK, "DKIM"),
    ],
)
def test_a_provider_that_asks_for_proof_stops_the_publication(
    sent: Send, publication: Publication, address: str, said: str, advice: str
) -> None:
    (alice,) = sent()
    Subscriber.objects.update(address=address)

    bounces.take(mails.dsn(address, "5.7.27", said, message_id=message_id(alice)), LATER)

    assert Stop.objects.get().cause == "auth"
    text = Alarm.objects.get(cause="stop_auth").text
    assert advice in text
    assert "lepasdujour.example" in text
    assert (status(alice), row(alice).reason) == ("active", "refused")


def test_one_reader_who_forwards_stops_nothing(sent: Send) -> None:
    readers = sent(3)

    for one in readers[:2]:
        bounces.take(mails.dsn("me@gmail.com", "5.7.26", GMAIL.replace("27", "26"), message_id=message_id(one)), LATER)
    assert (Stop.objects.count(), Alarm.objects.get().cause) == (0, "unproven")
    bounces.take(mails.dsn("me@gmail.com", "5.7.26", GMAIL, message_id=message_id(readers[2])), LATER)

    assert Stop.objects.get().cause == "auth"


# --- While sending


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
