"""What providers tell by webhook: only what is signed, each event once, in any order."""

import base64
import hashlib
import hmac
import json
import uuid
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.test import Client
from django.urls import get_resolver

from newsletters.claims import End
from newsletters.models import Bounce, Delivery, Letter, Publication, Stop, Subscriber, Walk
from newsletters.models.outgoing import State
from tests import mails
from tests.conftest import Reader
from tests.outbox import MONDAY, Send, message_id, row, token
from tests.test_bounces import suppressed
from tests.test_walks import came, live, make_sequence

KEY = "key-for-hooks"
SECRET = {"HTTP_AUTHORIZATION": "Basic " + base64.b64encode(b"hook:secret").decode()}


@pytest.fixture(autouse=True)
def secrets(settings: Any) -> Any:
    settings.ANYMAIL = {"MAILGUN_WEBHOOK_SIGNING_KEY": KEY, "WEBHOOK_SECRET": "hook:secret"}
    with time_machine.travel(MONDAY + timedelta(hours=1), tick=False):
        yield


def post(path: str, data: Any, **head: str) -> int:
    text = data if isinstance(data, str) else json.dumps(data)
    return Client().post(f"/hooks/{path}/", text, content_type="application/json", **(SECRET | head)).status_code  # type: ignore[arg-type]


def mailgun(name: str, event: str = "failed", mark: str = "t1", /, **facts: Any) -> dict[str, Any]:
    stamp, recipient = "1700000000", facts.pop("recipient", "reader0@example.com")
    signature = hmac.new(KEY.encode(), f"{stamp}{mark}".encode(), hashlib.sha256).hexdigest()
    data = {"event": event, "timestamp": 1, "recipient": recipient, "user-variables": {"message_id": name}, **facts}
    return {"signature": {"token": mark, "timestamp": stamp, "signature": signature}, "event-data": data}


DEAD: dict[str, Any] = {
    "severity": "permanent",
    "reason": "generic",
    "delivery-status": {"message": "550 5.1.1 no such user", "code": 550},
}


def look(reader: Subscriber) -> tuple[str, list[str], str]:
    reader.refresh_from_db()
    return reader.status, suppressed(reader), row(reader).state


def test_an_event_is_matched_by_our_own_metadata(sent: Send) -> None:
    alice, bob = sent(2)

    # One id of the provider's may stand for a whole batch, and an address for several mails.
    assert post("mailgun/tracking", mailgun(message_id(alice), recipient=bob.address, **DEAD)) == 200

    assert look(alice) == ("bounced", ["dead"], State.FAILED)
    assert look(bob)[0] == "active"
    assert Bounce.objects.get().door == "hook"


def test_a_wrong_signature_changes_nothing(sent: Send) -> None:
    (alice,) = sent()
    forged = mailgun(message_id(alice), **DEAD)
    forged["signature"]["signature"] = "0" * 64

    assert post("mailgun/tracking", forged) == 400

    assert look(alice) == ("active", [], State.SENT)


def test_what_comes_46_times_counts_once(sent: Send) -> None:
    (alice,) = sent()

    for number in range(46):
        assert post("mailgun/tracking", mailgun(message_id(alice), "failed", f"t{number % 3}", **DEAD)) == 200

    assert Bounce.objects.count() == 1


def test_the_same_event_never_says_something_else(sent: Send) -> None:
    alice, bob = sent(2)
    post("mailgun/tracking", mailgun(message_id(alice), recipient="x@example.com", **DEAD))

    post("mailgun/tracking", mailgun(message_id(bob), "complained", recipient="x@example.com"))

    assert look(bob)[0] == "active"


def test_an_event_may_come_before_our_own_settling(sent: Send) -> None:
    (alice,) = sent()
    Delivery.objects.update(state=State.HANDOFF, settled_at=None)
    row_before = row(alice)

    post("mailgun/tracking", mailgun(message_id(alice), **DEAD))
    if row_before.owner:
        Delivery.objects.hand_off([], row_before.owner, MONDAY, [End(row_before.pk, State.SENT)])

    assert look(alice) == ("bounced", ["dead"], State.FAILED)


def test_a_delivery_that_is_told_during_the_call_outlasts_its_silent_end(sent: Send) -> None:
    (alice,) = sent()
    owner = uuid.uuid4()
    Delivery.objects.update(state=State.HANDOFF, owner=owner, settled_at=None, reply="")
    number = {"message": {"headers": {"message-id": "7@mailgun.example"}}}

    post("mailgun/tracking", mailgun(message_id(alice), "delivered", **number))
    before = row(alice)
    Delivery.objects.hand_off([], owner, MONDAY, [End(before.pk, State.UNCERTAIN, "no reply")])
    put_off = Delivery.objects.put_off([before.pk], owner, MONDAY, "", states=(State.LEASED, State.HANDOFF))

    assert (row(alice).state, row(alice).reason, put_off) == (State.SENT, "", 0)
    assert row(alice).reply == "<7@mailgun.example>"


def test_a_step_that_is_told_delivered_is_had_although_its_worker_died(
    publication: Publication, reader: Reader
) -> None:
    make_sequence(publication, "s", 3, welcome=True)
    alice = reader(now=MONDAY - timedelta(hours=18))
    live(0, 0)
    # The worker's last commit was the hand-off.
    Delivery.objects.update(state=State.HANDOFF, settled_at=None, leased_until=MONDAY)
    reached = alice.walks.get().reached
    Walk.objects.update(reached=0)

    post("mailgun/tracking", mailgun(message_id(alice), "delivered"))
    post("mailgun/tracking", mailgun(message_id(alice), "opened", "t2"))

    assert alice.walks.get().reached == reached > 0
    live(1, 2)

    assert came(alice) == ["s1", "s2", "s3"]


def test_events_may_come_in_the_wrong_order(sent: Send) -> None:
    (alice,) = sent()
    name = message_id(alice)

    post("mailgun/tracking", mailgun(name, "complained", "t2"))
    post("mailgun/tracking", mailgun(name, "delivered", "t1"))
    post("mailgun/tracking", mailgun(name, "accepted", "t0"))

    assert look(alice) == ("complained", ["complained"], State.SENT)


def test_a_delivery_that_is_told_settles_what_nobody_knew(sent: Send) -> None:
    (alice,) = sent()
    Delivery.objects.update(state=State.UNCERTAIN)

    post("mailgun/tracking", mailgun(message_id(alice), "delivered"))

    assert row(alice).state == State.SENT


def test_a_failure_for_now_changes_nothing(sent: Send) -> None:
    (alice,) = sent()

    post("mailgun/tracking", mailgun(message_id(alice), severity="temporary", reason="generic"))

    assert (look(alice), Bounce.objects.count()) == (("active", [], State.SENT), 0)


def test_whoever_leaves_at_the_provider_has_left(sent: Send) -> None:
    (alice,) = sent()

    post("mailgun/tracking", mailgun(message_id(alice), "unsubscribed"))

    assert look(alice) == ("unsubscribed", ["left"], State.SENT)


@pytest.mark.parametrize("event", ["unsubscribe", "blocked"])
def test_who_stands_on_the_list_of_a_provider_that_tracks_has_left(sent: Send, event: str) -> None:
    """Brevo blocks whoever clicked the way out that it adds, and nothing of ours would reach them any more."""
    (alice,) = sent()
    told = {"event": event, "email": alice.address, "id": 7, "ts_epoch": 1700000000000, "message-id": "<x@y>"}

    assert post("brevo/tracking", told | {"X-Mailin-custom": json.dumps({"message_id": message_id(alice)})}) == 200

    assert look(alice) == ("unsubscribed", ["left"], State.SENT)


def test_who_stands_on_another_providers_list_has_not(sent: Send) -> None:
    (alice,) = sent()

    post("mailgun/tracking", mailgun(message_id(alice), severity="permanent", reason="suppress-bounce"))

    assert "left" not in look(alice)[1]


def test_a_lack_of_proof_told_by_a_provider_stops_the_publication(sent: Send) -> None:
    (alice,) = sent()
    said: Any = {"message": "550-5.7.26 unauthenticated email is not accepted - gsmtp"}
    Subscriber.objects.update(address="alice@gmail.com")

    post("mailgun/tracking", mailgun(message_id(alice), severity="permanent", **{"delivery-status": said}))

    assert (Stop.objects.get().cause, look(alice)[0]) == ("auth", "active")


EVERY = ["amazon_ses", "brevo", "mailersend", "mailgun", "mailjet", "mailtrap", "mandrill", "postal", "postmark"]
EVERY += ["resend", "sparkpost", "unisender_go"]
PROVIDERS: dict[str, Any] = {
    "postmark hard": ("postmark", lambda name, to: {
        "RecordType": "Bounce", "Type": "HardBounce", "ID": 42, "Email": to, "Metadata": {"message_id": name},
        "Details": "smtp;550 5.1.1 The account does not exist", "Description": "No delivery"}, "bounced"),
    "postmark soft": ("postmark", lambda name, to: {
        "RecordType": "Bounce", "Type": "SoftBounce", "ID": 43, "Email": to,
        "Metadata": {"message_id": name}}, "active"),
    "postmark complaint": ("postmark", lambda name, to: {
        "RecordType": "SpamComplaint", "Type": "SpamComplaint", "ID": 44, "Email": to,
        "Metadata": {"message_id": name}}, "complained"),
    "brevo hard": ("brevo", lambda name, to: {
        "event": "hard_bounce", "email": to, "id": 1, "ts_epoch": 1700000000000, "message-id": "<x@y>",
        "X-Mailin-custom": json.dumps({"message_id": name})}, "bounced"),
    "brevo soft": ("brevo", lambda name, to: {
        "event": "soft_bounce", "email": to, "id": 2, "ts_epoch": 17, "message-id": "<x@y>",
        "X-Mailin-custom": json.dumps({"message_id": name})}, "active"),
    "mailjet hard": ("mailjet", lambda name, to: [{
        "event": "bounce", "time": 1, "MessageID": 1, "email": to, "hard_bounce": True,
        "error_related_to": "recipient", "error": "user unknown",
        "Payload": json.dumps({"message_id": name})}], "bounced"),
    "mailjet full": ("mailjet", lambda name, to: [{
        "event": "bounce", "time": 1, "MessageID": 1, "email": to, "hard_bounce": False,
        "error_related_to": "recipient", "error": "quota exceeded",
        "Payload": json.dumps({"message_id": name})}], "active"),
    "sparkpost hard": ("sparkpost", lambda name, to: [{"msys": {"message_event": {
        "type": "bounce", "event_id": "e1", "bounce_class": "10", "rcpt_to": to, "raw_reason": "550 5.1.1 unknown user",
        "rcpt_meta": {"message_id": name}, "message_id": "1", "timestamp": "1700000000"}}}], "bounced"),
}  # fmt: skip


@pytest.mark.parametrize("case", PROVIDERS)
def test_it_understands_each_provider(sent: Send, case: str) -> None:
    (alice,) = sent()
    provider, event, expected = PROVIDERS[case]

    assert post(f"{provider}/tracking", event(message_id(alice), alice.address)) == 200

    assert look(alice)[0] == expected
    assert Bounce.objects.count() == 1


def test_where_nothing_proves_who_calls_there_is_no_such_address(sent: Send, settings: Any) -> None:
    settings.ANYMAIL = {}
    hooks = [
        str(one.pattern)
        for one in get_resolver("newsletters.urls").url_patterns
        if str(one.pattern).startswith("hooks/")
    ]

    answers = {Client().post(f"/{hook}", "{}", content_type="application/json").status_code for hook in hooks}

    assert len(hooks) > 25
    assert answers == {404}


def test_what_could_not_be_written_down_is_to_be_told_again(sent: Send, monkeypatch: pytest.MonkeyPatch) -> None:
    (alice,) = sent()
    event = mailgun(message_id(alice), **DEAD)

    with monkeypatch.context() as broken:
        broken.setattr(Bounce._meta, "db_table", "nowhere")
        failed = Client(raise_request_exception=False)
        head: Any = SECRET
        assert (
            failed.post("/hooks/mailgun/tracking/", event, content_type="application/json", **head).status_code == 500
        )

    assert post("mailgun/tracking", event) == 200
    assert look(alice)[0] == "bounced"


def test_the_shared_secret_is_asked_for(sent: Send) -> None:
    (alice,) = sent()
    _provider, event, _expected = PROVIDERS["postmark hard"]

    wrong = "Basic " + base64.b64encode(b"hook:guess").decode()
    assert post("postmark/tracking", event(message_id(alice), alice.address), HTTP_AUTHORIZATION=wrong) == 400

    assert look(alice)[0] == "active"


@pytest.mark.parametrize(
    "data", ["", "{", "[]", "[1]", '"x"', '{"event-data": 3}', "null", "{}", "\x00", '{"signature":{}}']
)
@pytest.mark.parametrize("kind", ["tracking", "inbound"])
def test_nonsense_changes_nothing(sent: Send, data: str, kind: str) -> None:
    (alice,) = sent()

    answers = {provider: post(f"{provider}/{kind}", data) for provider in EVERY}

    assert set(answers.values()) <= {200, 400, 404, 503}, answers

    assert look(alice) == ("active", [], State.SENT)


def test_an_event_without_metadata_is_matched_by_the_providers_own_number(sent: Send) -> None:
    alice, bob = sent(2)
    for reader, number in ((alice, "id-1"), (bob, "id-2")):
        Delivery.objects.filter(subscriber_id=reader.pk).update(reply=number)
    event = {"RecordType": "Bounce", "Type": "HardBounce", "Details": "550 5.1.1 unknown user"}

    post("postmark/tracking", event | {"ID": 9, "Email": alice.address, "MessageID": "id-1"})
    post("postmark/tracking", event | {"ID": 10, "Email": bob.address, "MessageID": "another"})

    assert look(alice) == ("bounced", ["dead"], State.FAILED)
    assert look(bob) == ("active", [], State.SENT)


ABOUT: dict[str, dict[str, Any]] = {
    "delivered": {},
    "opened": {},
    "complained": {},
    "unsubscribed": {},
    "failed": DEAD | {"reason": "suppress-bounce"},
}


@pytest.mark.parametrize("variables", [{"message_id": "an-invoice-of-the-shop"}, {"order": 7}, {}])
@pytest.mark.parametrize("event", ABOUT)
@pytest.mark.parametrize("state", [State.SENT, State.UNCERTAIN])
def test_another_mail_to_the_same_address_changes_nothing(
    sent: Send, event: str, variables: dict[str, Any], state: State
) -> None:
    (alice,) = sent()
    Delivery.objects.update(state=state)
    facts = ABOUT[event] | {"recipient": alice.address, "user-variables": variables}

    assert post("mailgun/tracking", mailgun("", event, **facts)) == 200

    assert look(alice) == ("active", [], state)
    assert not Bounce.objects.filter(known=True).exists()
    assert not (variables and Bounce.objects.exists())


@pytest.mark.parametrize(("event", "status"), [("complained", "complained"), ("unsubscribed", "unsubscribed")])
def test_whoever_wants_no_more_may_say_so_after_months(sent: Send, event: str, status: str) -> None:
    (alice,) = sent()
    Delivery.objects.update(handoff_at=MONDAY - timedelta(days=100))

    post("mailgun/tracking", mailgun(message_id(alice), "failed", "t1", recipient=alice.address, **DEAD))
    assert look(alice) == ("active", [], State.SENT)
    post("mailgun/tracking", mailgun(message_id(alice), event, "t2", recipient=alice.address))

    assert look(alice)[0] == status


def test_mail_that_a_provider_received_is_taken(sent: Send) -> None:
    alice, bob = sent(2)
    bounce = mails.dsn(alice.address, to="someone@gateway.example").decode()
    answer = mails.answer("answers@lists.example", "Merci.").decode()

    for text, reader in ((bounce, alice), (answer, bob)):
        event = {
            "RawEmail": text,
            "FromFull": {"Email": "a@b.example"},
            "OriginalRecipient": f"x+{token(reader)}@lists.example",
        }
        assert post("postmark/inbound", event) == 200

    assert look(alice)[0] == "bounced"
    assert Letter.objects.get().kind == "answer"
