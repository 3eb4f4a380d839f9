"""What a provider may have taken is settled by asking it."""

import io
from datetime import datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.core.management import CommandError, call_command

from newsletters import asking, stuck, tasks
from newsletters.asking import QUESTIONS
from newsletters.models import Delivery, Publication
from newsletters.models.outgoing import State
from tests.providers import NAMES, StandIn, open_provider
from tests.providers.day import MONDAY, Open, drain, planned, states

__all__ = ["open_provider", "planned"]

SOON, LATER = MONDAY + stuck.PATIENCE - timedelta(seconds=1), MONDAY + stuck.PATIENCE + timedelta(minutes=1)
ASKED = sorted(QUESTIONS)


def ask(now: datetime = LATER) -> str:
    out = io.StringIO()
    with time_machine.travel(now, tick=False):
        call_command("stuck", "--ask", stdout=out)
    return out.getvalue()


def broken_off(name: str, planned: Any, open_provider: Open) -> StandIn:
    """Let a provider take a call for Nadia and Ali, and hang up before it answers."""
    provider = open_provider(name)
    planned("Nadia", "Ali")
    provider.replies = ["drop"]
    assert drain() == {"uncertain": 2}
    return provider


def choose_twice() -> None:
    Publication.objects.update(when_uncertain="twice")
    with time_machine.travel(LATER, tick=False):
        tasks.choose()


def ends() -> list[str]:
    return [state for state, _reason in states().values()]


@pytest.mark.parametrize("name", ASKED)
def test_what_the_provider_has_was_sent(name: str, planned: Any, open_provider: Open) -> None:
    broken_off(name, planned, open_provider)

    said = ask()

    assert "Settled: 2 sent" in said
    assert ends() == ["sent", "sent"]


@pytest.mark.parametrize("name", ASKED)
def test_what_it_does_not_find_stays_uncertain(name: str, planned: Any, open_provider: Open) -> None:
    provider = broken_off(name, planned, open_provider)
    body = provider.calls[0].body
    lost = (body if isinstance(body, list) else body["Messages"]).pop()
    assert lost

    said = ask()

    assert "Settled: 1 sent" in said
    assert sorted(ends()) == ["sent", "uncertain"]


@pytest.mark.parametrize("name", ASKED)
def test_it_is_not_asked_before_a_late_event_may_have_come(name: str, planned: Any, open_provider: Open) -> None:
    provider = broken_off(name, planned, open_provider)

    ask(SOON)

    assert provider.questions == []
    assert ends() == ["uncertain", "uncertain"]


def test_postmark_is_asked_for_the_stream_that_mails_go_to(planned: Any, open_provider: Open, settings: Any) -> None:
    open_provider("postmark")
    settings.ANYMAIL["POSTMARK_MESSAGE_STREAM"] = "daily"
    planned("Nadia")
    Delivery.objects.update(state=State.UNCERTAIN, handoff_at=MONDAY)

    ask()

    assert ends() == ["uncertain"]


@pytest.mark.parametrize(
    ("says", "why"),
    [
        ((401, {}, {"Message": "no such token"}), "it answers 401"),
        ((302, {"Location": "http://127.0.0.1:9/"}, {}), "it answers 302"),
        ((200, {}, []), "its answer cannot be read"),
        ((200, {}, {"Messages": None, "Data": None}), "its answer cannot be read"),
        ((200, {}, {"Messages": ["x" * asking.LARGEST], "Data": []}), "its answer has no end"),
        ("drop", "Connection aborted"),
        ("hang", "timed out"),
    ],
)
@pytest.mark.parametrize("name", ASKED)
def test_a_provider_that_gives_no_answer_settles_nothing(
    name: str, says: Any, why: str, planned: Any, open_provider: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "SECONDS", 0.5)
    provider = broken_off(name, planned, open_provider)
    provider.says = says

    with pytest.raises(CommandError, match=rf"^(Postmark|Mailjet) cannot be asked: .*{why}"):
        ask()

    assert ends() == ["uncertain", "uncertain"]
    assert len(provider.questions) == 1


def test_messages_that_are_not_ours_settle_nothing(planned: Any, open_provider: Open) -> None:
    provider = broken_off("mailjet", planned, open_provider)
    body = provider.known["question"]["answer"]["body"]
    provider.says = (200, {}, body | {"Data": body["Data"] * 2})

    ask()
    assert ends() == ["uncertain", "uncertain"]

    provider = open_provider("postmark")
    provider.says = (200, {}, provider.known["question"]["answer"]["body"])
    ask()
    assert ends() == ["uncertain", "uncertain"]


@pytest.mark.parametrize("name", ASKED)
def test_a_provider_is_asked_before_a_choice_is_made(name: str, planned: Any, open_provider: Open) -> None:
    provider = broken_off(name, planned, open_provider)
    body = provider.calls[0].body
    (body if isinstance(body, list) else body["Messages"]).pop()

    choose_twice()

    assert sorted(ends()) == ["planned", "sent"]


@pytest.mark.parametrize("name", ASKED)
def test_a_silent_provider_holds_no_choice_up(
    name: str, planned: Any, open_provider: Open, caplog: pytest.LogCaptureFixture
) -> None:
    provider = broken_off(name, planned, open_provider)
    provider.says = "drop"

    choose_twice()

    assert ends() == ["planned", "planned"]
    assert len(provider.questions) == 1
    assert "cannot be asked" in caplog.text


@pytest.mark.parametrize("name", [name for name in NAMES if name not in QUESTIONS])
def test_a_provider_that_cannot_be_asked_says_so(name: str, planned: Any, open_provider: Open) -> None:
    open_provider(name)
    planned("Nadia")
    Delivery.objects.update(state=State.UNCERTAIN, handoff_at=MONDAY)

    with pytest.raises(CommandError, match="cannot be asked: it finds no message by our own number"):
        ask()

    assert ends() == ["uncertain"]


def test_without_a_provider_nobody_is_asked(planned: Any) -> None:
    with pytest.raises(CommandError, match=r"No relay is a provider's\. Give --from-log or --queue"):
        ask()
