"""What each reader gets through a provider, and what each request to it says."""

import html
import json
from collections.abc import Callable
from email import message_from_bytes, policy
from typing import Any

import pytest
from django.core.mail import EmailMultiAlternatives, get_connection
from django.db import connection

from newsletters import letters
from newsletters.models import Delivery, Letter, Publication
from newsletters.models.outgoing import State
from newsletters.transports import parse
from newsletters.transports.copies import JOINER
from newsletters.transports.esp import ESP
from newsletters.transports.providers import PROVIDERS
from tests.providers import NAMES, Call, open_provider
from tests.providers.day import (
    HOSTILE,
    MERGING,
    MONDAY,
    Open,
    drain,
    messages,
    planned,
)

__all__ = ["open_provider", "planned"]


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
def test_answers_come_back_with_their_readers_name_and_cost_no_call(
    name: str, planned: Any, open_provider: Open, settings: Any
) -> None:
    settings.BOUNCE_ADDRESS = "r@news.example"
    provider = open_provider(name)
    planned(*(f"n{n}" for n in range(30)))

    assert drain() == {"sent": 30}

    assert len(provider.calls) == 1
    named = {mail.address: f"r+{mail.number}@news.example" for mail in provider.mails()}
    if name == "amazon_ses":  # it takes one address for all
        named = dict.fromkeys(named, Publication.objects.get().reply_to)
    assert {mail.address: mail.reply_to for mail in provider.mails()} == named


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", NAMES)
def test_what_is_handed_off_is_what_one_call_takes(name: str, planned: Any, open_provider: Open) -> None:
    provider = open_provider(name)
    publication = planned("Nadia", "Ali")[0].publication
    for cause in "123":
        letters.write(publication, Letter.Kind.CONFIRM, "a@example.com", cause, language="fr",
                      context={"request": int(cause)}, now=MONDAY)  # fmt: skip
    in_doubt: list[int] = []

    def look(call: Call) -> Any:
        rows = (model._default_manager.filter(state=State.HANDOFF) for model in (Letter, Delivery))
        in_doubt.append(sum(row.count() for row in rows))
        connection.close()
        return provider.yes(call)

    provider.replies = [look] * 5

    assert drain() == {"sent": 5}

    assert in_doubt == [len(provider.mails(call)) for call in provider.calls]
    assert [len(provider.mails(call)) for call in provider.calls] == ([1, 1, 1, 2] if name in MERGING else [1, 1, 3])


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
