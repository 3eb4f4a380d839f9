"""What comes back: whose it was, what it means, and what follows."""

from datetime import timedelta
from typing import Any

import pytest

from newsletters import bounces, postage, promise
from newsletters.bounces import origin
from newsletters.models import (
    Bounce,
    Correction,
    Day,
    Delivery,
    Letter,
    Publication,
    Subscriber,
    Suppression,
    Walk,
)
from newsletters.models.outgoing import State
from tests import mails
from tests.outbox import MONDAY, ONE_DAY, Send, message_id, row, send_day, token
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


@pytest.mark.parametrize("line", ["Version: 1", "User-Agent: Provider/1.0", "Feedback-Type: abuse"])
@pytest.mark.parametrize("times", [0, 2])
def test_feedback_that_is_none_blames_nobody(sent: Send, line: str, times: int) -> None:
    """RFC 5965 section 3.1 wants each of these once."""
    (alice,) = sent()
    forged = mails.complaint(message_id(alice)).replace(f"{line}\n".encode(), f"{line}\n".encode() * times)

    assert bounces.take(forged, LATER) == "notice"

    assert (status(alice), suppressed(alice)) == ("active", [])


def test_who_opts_out_at_the_provider_has_left(sent: Send) -> None:
    (alice,) = sent()

    bounces.take(mails.complaint(message_id(alice), "opt-out"), LATER)

    assert (status(alice), suppressed(alice)) == ("unsubscribed", ["left"])


def test_a_complaint_of_an_address_alone_costs_nobody(sent: Send) -> None:
    (alice,) = sent()

    bounces.take(mails.complaint("forged@elsewhere.example", recipient=alice.address), LATER)

    assert (status(alice), suppressed(alice)) == ("active", [])


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
