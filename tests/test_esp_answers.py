"""From planned row to settled row: what a provider answers, and what becomes of each reader."""

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import time_machine

from newsletters import choosing, letters, sending
from newsletters.models import Alarm, Bounce, Delivery, Letter, Publication, Relay, Rest, Stop, Subscriber
from newsletters.models.outgoing import State
from newsletters.transports import parse
from newsletters.transports.esp import ESP
from newsletters.transports.providers import PROVIDERS
from tests.daemons import free_port
from tests.providers import NAMES, Call, StandIn, open_provider
from tests.providers.day import DOUBTFUL, MONDAY, ONCE, Open, drain, messages, planned, states
from tests.servers import MailServer
from tests.test_failover import second
from tests.test_hooks import KEY, mailgun, post

__all__ = ["open_provider", "planned", "second"]

HOOK = {"MAILGUN_WEBHOOK_SIGNING_KEY": KEY, "WEBHOOK_SECRET": "hook:secret"}


@pytest.mark.parametrize("name", NAMES)
def test_the_providers_id_is_kept_for_each_reader(name: str, planned: Any, open_provider: Open) -> None:
    open_provider(name)
    planned("Nadia", "Ali", "Zoé")

    drain()

    replies = set(Delivery.objects.values_list("reply", flat=True))
    assert all(replies)
    assert len(replies) == (1 if PROVIDERS[name].ids == "call" else 3)


@pytest.mark.parametrize("name", NAMES)
def test_a_provider_that_is_asked_too_much_is_left_alone(name: str, planned: Any, open_provider: Open) -> None:
    provider = open_provider(name)
    publication = planned("Nadia", "Ali")[0].publication
    for cause in "123":  # no call takes an address twice
        letters.write(publication, Letter.Kind.CONFIRM, "a@example.com", cause, language="fr",
                      context={"request": int(cause)}, now=MONDAY)  # fmt: skip
    provider.replies = [(429, {"Retry-After": "1800"}, {"message": "slow down", "__type": "TooManyRequestsException"})]

    assert drain() == {"retry": 3}

    assert len(provider.calls) == 1
    assert Rest.objects.get(host="").until == MONDAY + timedelta(seconds=1800)
    assert drain(MONDAY + timedelta(minutes=29)) == {}
    assert drain(MONDAY + timedelta(minutes=31)) == {"sent": 5}


@pytest.mark.parametrize(
    ("reply", "end", "rest"),
    [
        ((429, {"Retry-After": "1800"}, {"message": "slow down"}), "retry", 1800),
        ((503, {"Retry-After": "600"}, {"message": "back soon"}), "uncertain", 600),
        ((401, {}, {"message": "no such key"}), "retry", 15),
        ((403, {}, {"message": "not allowed"}), "retry", 15),
        ("drop", "uncertain", 15),
    ],
)
def test_a_list_of_many_calls_waits_after_the_first_that_fails(
    reply: Any, end: str, rest: int, planned: Any, open_provider: Open
) -> None:
    provider = open_provider("mailjet")
    planned(*(f"n{n}" for n in range(120)))
    provider.replies = [reply]

    ended = drain()

    relay = Relay.objects.get()
    assert (len(provider.calls), ended[end] >= 50, set(ended) <= {end, "retry"}) == (1, True, True)
    # A provider that has spoken would say the same to any host.
    assert list(Rest.objects.values_list("host", "until")) == [("", MONDAY + timedelta(seconds=rest))]
    assert bool(relay.slowed_at) == (rest == 1800)
    later = MONDAY + timedelta(seconds=max(rest, 120))
    assert drain(later) == {"sent": 120 - (50 if end == "uncertain" else 0)}


def test_another_relay_takes_over_from_a_provider_that_wants_to_be_left_alone(
    planned: Any,
    open_provider: Open,
    second: MailServer,
) -> None:
    provider = open_provider("mailjet")
    Relay.objects.create(name="MAIL_URL", rank=0)
    planned(*(f"n{n}" for n in range(70)))
    provider.replies = [(429, {"Retry-After": "1800"}, {"message": "slow down"})]

    assert drain() == {"retry": 50, "sent": 20, "planned": 20}
    assert drain(MONDAY + timedelta(minutes=3)) == {"sent": 50}

    assert (len(provider.calls), len(second.received)) == (1, 70)


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_key_costs_no_reader_their_mail(name: str, planned: Any, open_provider: Open) -> None:
    provider = open_provider(name)
    planned("Nadia", "Ali")
    provider.replies = [(401, {}, {"message": "no such key", "ErrorCode": "mj-0001", "StatusCode": 401})]

    assert drain() == {"retry": 2}
    assert drain(MONDAY + timedelta(minutes=3)) == {"sent": 2}


@pytest.mark.parametrize("reply", [(500, {}, {"message": "oops"}), "drop", "hang", (200, {}, {"strange": 1})])
@pytest.mark.parametrize("name", DOUBTFUL)
def test_what_may_have_arrived_is_never_sent_again(
    name: str, reply: Any, planned: Any, open_provider: Open, settings: Any
) -> None:
    provider = open_provider(name)
    settings.ANYMAIL["REQUESTS_TIMEOUT"] = "0.5"
    planned("Nadia", "Ali")
    provider.replies = [reply]

    assert drain() == {"uncertain": 2}

    assert drain(MONDAY + timedelta(hours=1)) == {}
    assert len(provider.calls) == 1


def test_what_a_provider_says_it_delivered_during_a_slow_call_is_not_sent_again(
    planned: Any, open_provider: Open, settings: Any
) -> None:
    provider = open_provider("mailgun")
    settings.ANYMAIL |= HOOK | {"REQUESTS_TIMEOUT": "1"}
    Publication.objects.update(when_uncertain=Publication.WhenUncertain.TWICE)
    planned("Nadia", "Ali")
    provider.replies = ["hang"]

    def told() -> bool:
        with time_machine.travel(MONDAY, tick=False):
            for mail in provider.mails()[:1]:
                post("mailgun/tracking", mailgun(mail.number, "delivered"))
        return False

    assert drain(stopping=told) == {"uncertain": 2}

    assert sorted(states().values()) == [(State.SENT, ""), (State.UNCERTAIN, "no reply")]
    assert choosing.by_choice(MONDAY + timedelta(hours=1)) == 1


@pytest.mark.parametrize("name", NAMES)
def test_a_stop_does_not_wait_for_a_silent_provider(
    name: str, planned: Any, open_provider: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = open_provider(name)
    planned("Nadia", "Ali")
    monkeypatch.setattr(sending, "LAST_REPLIES", 1.0)
    held = threading.Event()
    provider.replies = [lambda call: held.wait(60) and provider.yes(call)]
    began = time.monotonic()

    assert drain(stopping=lambda: bool(provider.calls)) == {"uncertain": 2}

    assert time.monotonic() - began < 10
    assert drain() == {}
    held.set()


def test_a_stop_waits_for_an_answer_that_comes(planned: Any, open_provider: Open) -> None:
    provider = open_provider("mailgun")
    planned("Nadia", "Ali")

    def slow(call: Call) -> Any:
        time.sleep(2)
        return provider.yes(call)

    provider.replies = [slow]

    assert drain(stopping=lambda: bool(provider.calls)) == {"sent": 2}


@pytest.mark.parametrize("reply", [(502, {}, {"message": "oops"}), "drop"])
@pytest.mark.parametrize("name", ONCE)
def test_a_call_with_a_key_is_repeated_with_the_same_key(
    name: str, reply: Any, planned: Any, open_provider: Open
) -> None:
    provider = open_provider(name)
    planned("Nadia", "Ali")
    provider.replies = [reply]

    assert drain() == {"sent": 2}

    first, second = (key_of(call) for call in provider.calls)
    assert first == second


@pytest.mark.parametrize("name", ONCE)
def test_a_call_with_a_key_that_never_gets_an_answer_stays_in_doubt(
    name: str, planned: Any, open_provider: Open
) -> None:
    provider = open_provider(name)
    planned("Nadia")
    # A refusal after a silence says nothing about the first call.
    provider.replies = ["drop", (429, {}, {"message": "slow down"}), (422, {}, {"message": "no"})]

    assert drain() == {"uncertain": 1}
    assert len(provider.calls) == 3


def test_brevo_saying_that_it_has_seen_the_key_ends_the_doubt(planned: Any, open_provider: Open) -> None:
    provider = open_provider("brevo")
    planned("Nadia", "Ali")
    seen = provider.known["seen"]
    provider.replies = ["drop", (seen["status"], {}, seen["body"])]

    assert drain() == {"sent": 2}


def test_brevo_having_seen_a_key_before_the_first_call_is_a_doubt(planned: Any, open_provider: Open) -> None:
    provider = open_provider("brevo")
    planned("Nadia", "Ali")
    seen = provider.known["seen"]
    provider.replies = [(seen["status"], {}, seen["body"])]

    assert drain() == {"uncertain": 2}
    assert len(provider.calls) == 1


def key_of(call: Call) -> str:
    return str(call.headers.get("idempotency-key") or call.body["headers"]["idempotencyKey"])


def test_a_providers_words_cannot_break_the_database(planned: Any, open_provider: Open) -> None:
    provider = open_provider("mailgun")
    planned("Nadia")
    provider.replies = [(200, {}, {"id": "a\x00b\ud800c\n" + 300 * "d", "message": "Queued"})]

    assert drain() == {"sent": 1}
    assert Delivery.objects.get().reply.startswith("a b c d")


@pytest.mark.parametrize("name", NAMES)
def test_a_provider_that_cannot_be_reached_is_tried_later(
    name: str, planned: Any, open_provider: Open, settings: Any
) -> None:
    provider = open_provider(name)
    nobody = f"http://127.0.0.1:{free_port()}"
    settings.ANYMAIL = {key: value.replace(provider.url, nobody) for key, value in provider.settings.items()}
    planned("Nadia", "Ali")

    assert drain() == {"retry": 2}

    settings.ANYMAIL = provider.settings
    assert drain(MONDAY + timedelta(minutes=3)) == {"sent": 2}


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_setting_is_named_and_nothing_is_lost(
    name: str, planned: Any, open_provider: Open, settings: Any
) -> None:
    open_provider(name)
    settings.ANYMAIL = {"AMAZON_SES_CLIENT_PARAMS": "not json"}
    planned("Nadia")

    assert drain() == {"retry": 1}
    assert Delivery.objects.get().reply


@pytest.mark.parametrize("name", NAMES)
def test_one_bad_reader_in_a_call_that_is_turned_away_keeps_no_other(
    name: str, planned: Any, open_provider: Open
) -> None:
    provider = open_provider(name)
    planned("Nadia", "Ali", "Zoé", "Max", "Léo")

    def strict(call: Call) -> Any:
        if any(mail.address == "reader3@example.com" for mail in provider.mails(call)):
            return 400, {}, {"message": "'to' parameter is not a valid address"}
        return provider.yes(call)

    provider.replies = [strict] * 9

    assert drain() == {"sent": 4, "failed": 1}
    assert states()["reader3@example.com"] == (State.FAILED, "refused")


@pytest.mark.parametrize("name", NAMES)
def test_a_text_that_is_turned_away_for_everybody_does_not_cost_a_call_each(
    name: str, planned: Any, open_provider: Open
) -> None:
    provider = open_provider(name)
    planned(*(f"n{n}" for n in range(40)))
    provider.replies = [(400, {}, {"message": "no"})] * 99

    ended = drain()

    assert len(provider.calls) <= 33
    assert ended["retry"] > 0


def partly(name: str, provider: StandIn) -> Callable[[Call], Any]:
    """Answer yes to the first of two readers, and no to the second, in the provider's words."""

    def answer(call: Call) -> Any:
        status, headers, body = provider.yes(call)
        if name == "postmark":
            inactive = "You tried to send to a recipient that has been marked as inactive."
            return status, headers, [body[0], {"ErrorCode": 406, "Message": inactive}]
        if name == "mailjet":
            error = {"ErrorIdentifier": "x", "ErrorCode": "mj-0013", "StatusCode": 400, "ErrorMessage": "invalid email"}
            return 400, headers, {"Messages": [body["Messages"][0], {"Status": "error", "Errors": [error]}]}
        refused = {"Status": "MESSAGE_REJECTED", "Error": "virus"}
        return status, headers, {"BulkEmailEntryResults": [body["BulkEmailEntryResults"][0], refused]}

    return answer


@pytest.mark.parametrize(
    ("name", "reason"), [("postmark", "blocked"), ("mailjet", "refused"), ("amazon_ses", "refused")]
)
def test_each_reader_has_their_own_end(name: str, reason: str, planned: Any, open_provider: Open) -> None:
    provider = open_provider(name)
    planned("Nadia", "Ali")
    provider.replies = [partly(name, provider)]

    assert drain() == {"sent": 1, "failed": 1}
    assert sorted(states().values()) == [(State.FAILED, reason), (State.SENT, "")]


def inactive(call: Call) -> Any:
    said = (
        "You tried to send to recipient(s) that have been marked as inactive. Found inactive addresses: {}. Inactive "
        "recipients are ones that have generated a hard bounce, a spam complaint, or a manual suppression."
    )
    return 200, {}, [{"ErrorCode": 406, "Message": said.format(one["To"])} for one in call.body]


def test_readers_on_the_providers_own_list_have_left_and_stop_nothing(planned: Any, open_provider: Open) -> None:
    provider = open_provider("postmark")
    planned(*(f"n{n}" for n in range(40)))
    provider.replies = [inactive] * 9

    assert drain() == {"failed": 40}

    assert set(states().values()) == {(State.FAILED, "blocked")}
    assert not Stop.objects.exists()
    assert not Alarm.objects.filter(cause="many_refusals").exists()
    assert set(Bounce.objects.values_list("kind", flat=True)) == {Bounce.Kind.LEFT}
    assert set(Subscriber.objects.values_list("status", flat=True)) == {"unsubscribed"}


def test_a_paused_ses_account_is_tried_again(planned: Any, open_provider: Open) -> None:
    provider = open_provider("amazon_ses")
    planned("Nadia", "Ali")
    paused = {"Status": "ACCOUNT_SENDING_PAUSED", "Error": "paused"}
    provider.replies = [(200, {}, {"BulkEmailEntryResults": [paused, paused]})]

    assert drain() == {"retry": 2}


@pytest.mark.parametrize(("accepted", "rejected", "end"), [(1, 1, "uncertain"), (0, 2, "failed")])
def test_sparkpost_does_not_name_whom_it_refused(
    accepted: int, rejected: int, end: str, planned: Any, open_provider: Open
) -> None:
    provider = open_provider("sparkpost")
    planned("Nadia", "Ali")
    results = {"total_accepted_recipients": accepted, "total_rejected_recipients": rejected, "id": "7"}
    provider.replies = [(200, {}, {"results": results})]

    assert drain() == {end: 2}


def test_a_provider_that_goes_away_before_the_call_has_taken_nothing(planned: Any, open_provider: Open) -> None:
    provider = open_provider("amazon_ses")  # its calls do not use the connection that was tried out
    planned("Nadia")
    way_out = ESP(parse("esp:amazon_ses"))
    message = messages()["reader0@example.com"]
    way_out.stage(message)
    provider.stop()

    ended = way_out.hand_off({message.key})[message.key]

    assert (ended.state, ended.reason) == ("retry", "unreachable")
