"""From planned row to settled row, through mail providers that hold every request against their own examples."""

import html
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.mail import EmailMultiAlternatives, get_connection
from django.core.management import call_command

from newsletters import letters, planning, sending
from newsletters.models import Delivery, Letter, Publication, Series, Subscriber
from newsletters.models.delivery import State
from newsletters.transports import Message, Outcome, TransportURLError, check_url, connect, parse
from newsletters.transports.copies import JOINER
from newsletters.transports.esp import ESP
from newsletters.transports.providers import PROVIDERS, REFUSED
from tests.conftest import Reader
from tests.daemons import free_port
from tests.providers import NAMES, Call, StandIn, open_provider
from tests.test_planning import make_issue

MONDAY = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)  # 7:00 in Paris
SUNDAY = MONDAY - timedelta(hours=18)
HOSTILE = ['Zoé, « la » "vraie"', "<b>&amp;", "{{h0}} {{{t0}}} {%x%}", "%recipient.t0%", "[[var:x]]", "", "سارة 🌞"]
BODY = """Bonjour {{ first_name|vous }},

Écrivez `{{{ pm:unsubscribe }}}`, `{{ contact.EMAIL }}`, `%recipient.email%`, `[[data]]` et `{% if %}` tels quels.

[Lire](https://lepasdujour.example/lire?a=1&b=2)
"""
MERGING = [name for name in NAMES if PROVIDERS[name].batch == "merge"]
OWN = [name for name in NAMES if PROVIDERS[name].batch == "own"]
ONCE = [name for name in NAMES if PROVIDERS[name].idempotency]
DOUBTFUL = [name for name in NAMES if name not in ONCE]

Open = Callable[[str], StandIn]
__all__ = ["open_provider"]


@pytest.fixture
def planned(publication: Publication, reader: Reader) -> Callable[..., list[Subscriber]]:
    """Plan Monday's issue for readers of these first names."""

    def make(*names: str) -> list[Subscriber]:
        queue = Series.objects.create(publication=publication, kind=Series.Kind.DAILY, name="File", slug="file")
        issue = make_issue(publication, "Le carnet")
        issue.subject, issue.body = "{{ first_name|Vous }}, le carnet 📓", BODY
        issue.save()
        queue.append(issue)
        readers = [reader(f"reader{n}@example.com", first_name=name, now=SUNDAY) for n, name in enumerate(names)]
        planning.tick(MONDAY)
        return readers

    return make


def drain(now: datetime = MONDAY) -> dict[str, int]:
    return dict(sending.drain(lambda: now))


class Recorder:
    """A way out that looks at each message and gives it back."""

    group = 1000

    def __init__(self) -> None:
        self.seen: dict[str, Message] = {}

    def stage(self, message: Message) -> Outcome:
        self.seen[message.recipient] = message
        return Outcome("planned")

    def hand_off(self, keys: set[Any]) -> dict[Any, Outcome]:
        return {}

    def close(self) -> None:
        pass


def messages() -> dict[str, Message]:
    """Return by address what SMTP would carry; every row is planned again then."""
    recorder = Recorder()
    sending.drain(lambda: MONDAY, stopping=lambda: bool(recorder.seen), way_out=lambda url: recorder)
    return recorder.seen


def states() -> dict[str, tuple[str, str]]:
    rows = Delivery.objects.select_related("subscriber")
    return {row.subscriber.address: (row.state, row.reason) for row in rows}


@pytest.mark.parametrize("name", NAMES)
def test_each_reader_gets_what_smtp_would_bring(name: str, planned: Any, open_provider: Open) -> None:
    provider = open_provider(name)
    planned(*HOSTILE)
    expected = messages()

    assert drain() == {"sent": len(HOSTILE)}

    assert len(provider.calls) == 1
    for mail in provider.mails():
        message = expected[mail.address]
        parsed: Any = message_from_bytes(message.data, policy=policy.default)
        text, page = (parsed.get_body((kind,)).get_content().replace("\r\n", "\n") for kind in ("plain", "html"))
        assert mail.text.replace(JOINER, "") == text
        assert html.unescape(mail.html) == html.unescape(page)
        assert mail.subject.replace(JOINER, "") == parsed["Subject"]
        assert mail.headers["List-Unsubscribe"] == parsed["List-Unsubscribe"]
        assert mail.headers["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
        assert mail.headers.get("List-Id", mail.headers.get("List-ID", "")).endswith("<daily.pas.lepasdujour.example>")
        assert f"{mail.number}@lepasdujour.example" == message.message_id


@pytest.mark.parametrize("name", NAMES)
def test_no_command_of_the_providers_is_left_in_an_authors_text(name: str, planned: Any, open_provider: Open) -> None:
    provider = open_provider(name)
    planned(*HOSTILE)

    drain()

    for mail in provider.mails():
        for command in PROVIDERS[name].commands:
            assert command not in mail.text
            assert command not in mail.html


@pytest.mark.parametrize("name", NAMES)
def test_a_name_never_becomes_markup(name: str, planned: Any, open_provider: Open) -> None:
    provider = open_provider(name)
    planned("<script>alert(1)</script>")

    drain()

    assert "<script>" not in provider.mails()[0].html
    assert "<script>alert(1)</script>" in provider.mails()[0].text


@pytest.mark.parametrize("name", NAMES)
def test_tracking_is_switched_off_in_each_request(name: str, planned: Any, open_provider: Open) -> None:
    provider = open_provider(name)
    planned("Nadia", "Ali")

    drain()

    asked = [ask(body) for ask in [OFF[name]] for body in [call.body for call in provider.calls]]
    assert all(asked)


def off_postmark(body: Any) -> bool:
    return all(one["TrackOpens"] is False and one["TrackLinks"] == "None" for one in body)


def off_mailjet(body: Any) -> bool:
    return all({one["TrackOpens"], one["TrackClicks"]} == {"disabled"} for one in body["Messages"])


def off_ses(body: Any) -> bool:
    return set(body["ConfigurationOverrides"]["Tracking"].values()) == {"DISABLED"}


OFF: dict[str, Callable[[Any], bool]] = {
    "mailgun": lambda body: body["o:tracking-opens"] == body["o:tracking-clicks"] == ["no"],
    "sparkpost": lambda body: body["options"] == {"open_tracking": False, "click_tracking": False},
    "amazon_ses": off_ses,
    "postmark": off_postmark,
    "mailjet": off_mailjet,
    # Its interface has no word for it; it is off unless the domain's owner switched it on.
    "resend": lambda body: PROVIDERS["resend"].tracking == "account",
    # Nor has this one, and it tracks: nobody comes here without having said so.
    "brevo": lambda body: PROVIDERS["brevo"].tracks,
}


@pytest.mark.parametrize("name", NAMES)
def test_anymails_own_mail_passes_the_same_checks(name: str, open_provider: Open) -> None:
    provider = open_provider(name)
    mail: Any = EmailMultiAlternatives("Bonjour", "Texte", "maud@lepasdujour.example", ["alice@example.com"])
    mail.attach_alternative("<p>Texte</p>", "text/html")
    mail.metadata = {"message_id": "x"}
    if name in {"mailgun", "sparkpost", "postmark", "mailjet"}:
        mail.track_opens = mail.track_clicks = False
    answers = {"postmark": {"ErrorCode": 0, "Message": "OK", "MessageID": "1", "To": "alice@example.com"}}
    alone: Any = {"resend": {"id": "1"}, "brevo": {"messageId": "1"}, "amazon_ses": {"MessageId": "1"}} | answers
    body = alone.get(name, provider.known["answer"]["body"])
    provider.replies = [(200, {}, body)]

    options = {"client_params": json.loads(provider.settings["AMAZON_SES_CLIENT_PARAMS"])}
    extra: Any = options if name == "amazon_ses" else {"timeout": 5.0}
    get_connection(f"anymail.backends.{name}.EmailBackend", **extra).send_messages([mail])

    assert len(provider.calls) == 1
    assert provider.faults == []


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
    planned("Nadia", "Ali")
    provider.replies = [(429, {"Retry-After": "1800"}, {"message": "slow down", "__type": "TooManyRequestsException"})]

    assert drain() == {"retry": 2}

    assert len(provider.calls) == 1
    assert {row.try_at for row in Delivery.objects.all()} == {MONDAY + timedelta(seconds=1800)}
    assert drain(MONDAY + timedelta(minutes=29)) == {}
    assert drain(MONDAY + timedelta(minutes=31)) == {"sent": 2}


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


@pytest.mark.parametrize("name", NAMES)
def test_a_letter_goes_the_same_way(name: str, publication: Publication, open_provider: Open) -> None:
    provider = open_provider(name)
    for address in ("alice@example.com", "bob@example.com"):
        letters.write(publication, Letter.Kind.CONFIRM, address, "1", language="fr", context={"request": 7}, now=MONDAY)

    assert drain() == {"sent": 2}

    assert sorted(mail.address for mail in provider.mails()) == ["alice@example.com", "bob@example.com"]
    assert all("/confirm/" in mail.text and "/confirm/" in mail.html for mail in provider.mails())
    assert not any("List-Unsubscribe" in mail.headers for mail in provider.mails())
    assert len(provider.calls) == (2 if name in MERGING else 1)


@pytest.mark.parametrize("name", NAMES)
def test_nobody_is_named_to_another_reader(name: str, planned: Any, open_provider: Open) -> None:
    provider = open_provider(name)
    planned("Nadia", "Ali")

    drain()

    for mail in provider.mails():
        other = "reader1@example.com" if mail.address == "reader0@example.com" else "reader0@example.com"
        assert other not in f"{mail.text}{mail.html}{mail.headers}"


def test_a_call_takes_no_more_than_the_provider_allows(planned: Any, open_provider: Open) -> None:
    provider = open_provider("mailjet")
    planned(*(f"n{n}" for n in range(60)))

    assert drain() == {"sent": 60}
    assert [len(call.body["Messages"]) for call in provider.calls] == [50, 10]


@pytest.mark.parametrize("name", NAMES)
def test_one_address_gets_two_mails_in_two_calls(name: str, planned: Any, open_provider: Open) -> None:
    provider = open_provider(name)
    planned("Nadia")
    message = messages()["reader0@example.com"]
    twin = Message("twin", "twin@x", message.sender, message.recipient, message.data, message.blueprint, message.values)
    way_out = ESP(parse(f"esp:{name}?tracking=accepted"))
    way_out.stage(message)
    way_out.stage(twin)

    ended = way_out.hand_off({message.key, "twin"})
    way_out.close()

    assert {outcome.state for outcome in ended.values()} == {"sent"}
    assert len(provider.calls) == 2


@pytest.mark.parametrize("name", NAMES)
def test_who_dropped_out_before_the_call_is_not_in_it(name: str, planned: Any, open_provider: Open) -> None:
    provider = open_provider(name)
    planned("Nadia", "Ali")
    way_out = ESP(parse(f"esp:{name}?tracking=accepted"))
    first, second = messages().values()
    way_out.stage(first)
    way_out.stage(second)

    assert set(way_out.hand_off({second.key})) == {second.key}
    way_out.close()

    assert [mail.address for mail in provider.mails()] == [second.recipient]


def test_a_provider_that_tracks_all_the_same_needs_the_operators_word() -> None:
    with pytest.raises(TransportURLError, match="tracking=accepted"):
        check_url("esp:brevo")
    with pytest.raises(TransportURLError, match="tracking=accepted"):
        connect("esp:brevo?tracking=maybe")

    check_url("esp:brevo?tracking=accepted")


@pytest.mark.parametrize("name", [*REFUSED, "pigeon"])
def test_a_provider_that_cannot_serve_is_refused_with_a_reason(name: str) -> None:
    with pytest.raises(TransportURLError, match=name):
        check_url(f"esp:{name}?tracking=accepted")


@pytest.mark.parametrize("name", NAMES)
def test_the_doctor_knocks_at_the_provider(
    name: str, db: None, open_provider: Open, settings: Any, data_dir: Path
) -> None:
    (data_dir / "keys").touch()
    provider = open_provider(name)

    assert line("mail server") == "ok"

    settings.ANYMAIL = {
        key: value.replace(provider.url, "http://127.0.0.1:9") for key, value in provider.settings.items()
    }
    assert "127.0.0.1" in line("mail server")


def line(check: str) -> str:
    out = StringIO()
    try:
        call_command("doctor", stdout=out)
    except SystemExit:
        pass
    return next(one[13:] for one in out.getvalue().splitlines() if one.startswith(check))


def test_who_leaves_at_the_provider_has_left() -> None:
    assert all(provider.leaves("unsubscribed") for provider in PROVIDERS.values())
    assert PROVIDERS["brevo"].leaves("rejected", "blocked")
    assert PROVIDERS["postmark"].leaves("rejected", "blocked")
    assert not PROVIDERS["mailgun"].leaves("rejected", "blocked")
    assert not any(provider.leaves("bounced", "bounced") for provider in PROVIDERS.values())


def test_the_operators_page_has_a_line_for_each_provider(settings: Any) -> None:
    page = (settings.BASE_DIR / "docs/providers.md").read_text()

    for provider in PROVIDERS.values():
        line = next(line for line in page.splitlines() if line.startswith(f"| `esp:{provider.name}"))
        assert provider.title in line
        assert f"| {provider.limit:,} |" in line
    for name in REFUSED:
        assert f"`{name}`" in page


def test_a_provider_that_goes_away_before_the_call_has_taken_nothing(planned: Any, open_provider: Open) -> None:
    provider = open_provider("amazon_ses")  # its calls do not use the connection that was tried out
    planned("Nadia")
    way_out = ESP(parse("esp:amazon_ses"))
    message = messages()["reader0@example.com"]
    way_out.stage(message)
    provider.stop()

    ended = way_out.hand_off({message.key})[message.key]

    assert (ended.state, ended.reason) == ("retry", "unreachable")
