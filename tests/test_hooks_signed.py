"""Providers' documented events, signed as they sign them: what becomes of reader and mail, once however often told."""

import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from string import Template
from typing import Any
from urllib.parse import parse_qs

import pytest
import time_machine

from newsletters.models import Bounce, Delivery, Subscriber
from newsletters.models.outgoing import State
from tests.outbox import MONDAY, Send, message_id
from tests.providers import PLACE
from tests.providers.signing import ANOTHER, OWN, SIGN, SNS, Call, amazon_ses, resend, settings_of
from tests.test_hooks import look

GIVEN = "0102019a4d1e-7c1f2b44"
EVENTS: dict[str, Any] = {name: json.loads((PLACE / f"events/{name}.json").read_text()) for name in SIGN}
TOLD = [(name, kind) for name, events in EVENTS.items() for kind in events if kind != "sources"]
ENDS: dict[str, Any] = {
    "hard": ("bounced", ["dead"], State.FAILED),
    "soft": ("active", [], State.FAILED),
    "complaint": ("complained", ["complained"], State.SENT),
}


@pytest.fixture
def alice(sent: Send) -> Iterator[Subscriber]:
    """Alice has had Monday's mail, for which its provider gave a number."""
    (reader,) = sent()
    Delivery.objects.update(reply=GIVEN)
    with time_machine.travel(MONDAY + timedelta(hours=1), tick=False):
        yield reader


def event(provider: str, kind: str, reader: Subscriber) -> Any:
    text = Template(json.dumps(EVENTS[provider][kind]))
    return json.loads(text.substitute(number=message_id(reader), address=reader.address, given=GIVEN))


@pytest.mark.parametrize(("provider", "kind"), TOLD)
def test_an_event_is_obeyed_once_however_often_it_is_told(
    provider: str, kind: str, alice: Subscriber, settings: Any
) -> None:
    settings.ANYMAIL = settings_of(provider)
    call, word = SIGN[provider](event(provider, kind, alice), OWN), kind.split()[0]

    assert call.to(provider) == 200
    assert look(alice) == ENDS[word]
    assert list(Bounce.objects.values_list("kind", "door", "known")) == [(word, "hook", True)]

    assert {call.to(provider) for _ in range(45)} == {200}
    assert look(alice) == ENDS[word]
    assert Bounce.objects.count() == 1


@pytest.mark.parametrize("provider", SIGN)
def test_what_another_key_signs_changes_nothing(provider: str, alice: Subscriber, settings: Any) -> None:
    settings.ANYMAIL = settings_of(provider)
    told = event(provider, "hard", alice)
    right = SIGN[provider](told, OWN)

    assert SIGN[provider](told, ANOTHER).to(provider) == 400
    assert Call(json.dumps(told), {}, right.kind, right.tail).to(provider) in {400, 401}

    assert look(alice) == ("active", [], State.SENT)
    assert not Bounce.objects.exists()


@pytest.mark.parametrize(("seconds", "answer"), [(280, 200), (320, 400), (-280, 200), (-320, 400)])
def test_a_call_that_was_recorded_proves_nothing_later(
    seconds: int, answer: int, alice: Subscriber, settings: Any
) -> None:
    settings.ANYMAIL = settings_of("resend")

    assert resend(event("resend", "hard", alice), OWN, seconds=seconds).to("resend") == answer

    assert look(alice)[0] == ("bounced" if answer == 200 else "active")


@pytest.mark.parametrize("secret", ["whsec_", "whsec_A", ""])
def test_a_key_that_cannot_be_read_opens_no_door(secret: str, alice: Subscriber, settings: Any) -> None:
    settings.ANYMAIL = {"RESEND_SIGNING_SECRET": secret}

    assert resend(event("resend", "hard", alice), "").to("resend") == 404

    assert look(alice)[0] == "active"


def test_settings_that_cannot_be_read_open_no_door(alice: Subscriber, settings: Any) -> None:
    settings.ANYMAIL = settings_of("amazon_ses") | {"AMAZON_SES_CLIENT_PARAMS": "not json"}

    assert amazon_ses(event("amazon_ses", "hard", alice), OWN).to("amazon_ses") == 404


SUBSCRIPTION = SNS | {
    "Type": "SubscriptionConfirmation",
    "Token": "2336412f37fb",
    "SubscribeURL": "http://127.0.0.1:9/",
}
CONFIRMED = "<ConfirmSubscriptionResponse><ConfirmSubscriptionResult/></ConfirmSubscriptionResponse>"


@pytest.fixture
def asked(settings: Any) -> Iterator[list[dict[str, list[str]]]]:
    """What Amazon's notification service is asked, which listens on loopback."""
    questions: list[dict[str, list[str]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            questions.append(parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode()))
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONFIRMED)))
            self.end_headers()
            self.wfile.write(CONFIRMED.encode())

        def log_message(self, *args: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        where = {"endpoint_url": f"http://127.0.0.1:{server.server_port}"}
        keys = {"aws_access_key_id": "AKIA", "aws_secret_access_key": "s"}
        settings.ANYMAIL = settings_of("amazon_ses") | {"AMAZON_SES_CLIENT_PARAMS": json.dumps(where | keys)}
        yield questions
        server.shutdown()


def test_a_subscription_that_shows_the_secret_is_confirmed(asked: list[Any]) -> None:
    assert amazon_ses(None, OWN, SUBSCRIPTION).to("amazon_ses") == 200

    (question,) = asked
    assert question["Action"] == ["ConfirmSubscription"]
    assert (question["TopicArn"], question["Token"]) == ([SNS["TopicArn"]], [SUBSCRIPTION["Token"]])


def test_a_subscription_without_the_secret_is_confirmed_to_nobody(asked: list[Any]) -> None:
    bare = amazon_ses(None, OWN, SUBSCRIPTION)
    bare.headers.pop("Authorization")

    assert bare.to("amazon_ses") == 401
    assert amazon_ses(None, ANOTHER, SUBSCRIPTION).to("amazon_ses") == 400

    assert asked == []
