"""A day that goes out through a provider's stand-in, and what SMTP would have carried instead."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from newsletters import planning, sending
from newsletters.models import Delivery, Publication, Series, Subscriber
from newsletters.transports import Message, Outcome
from newsletters.transports.providers import PROVIDERS
from tests.conftest import Reader
from tests.providers import NAMES, StandIn
from tests.test_planning import make_issue

MONDAY = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)  # 7:00 in Paris
SUNDAY = MONDAY - timedelta(hours=18)
HOSTILE = ['Zoé, « la » "vraie"', "<b>&amp;", "{{h0}} {{{t0}}} {%x%}", "%recipient.t0%", "[[var:x]]", "", "سارة 🌞"]
BODY = """Bonjour {{ first_name|vous }},

Écrivez `{{{ pm:unsubscribe }}}`, `{{ contact.EMAIL }}`, `%recipient.email%`, `[[data]]` et `{% if %}` tels quels.

[Lire](https://lepasdujour.example/lire?a=1&b=2)
"""
MERGING = [name for name in NAMES if PROVIDERS[name].batch == "merge"]
ONCE = [name for name in NAMES if PROVIDERS[name].idempotency]
DOUBTFUL = [name for name in NAMES if name not in ONCE]

Open = Callable[[str], StandIn]


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


def drain(now: datetime = MONDAY, stopping: Callable[[], bool] = lambda: False) -> dict[str, int]:
    return dict(sending.drain(lambda: now, stopping=stopping))


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
    recorder, everyone = Recorder(), Delivery.objects.count()
    sending.drain(lambda: MONDAY, stopping=lambda: len(recorder.seen) == everyone, way_out=lambda url: recorder)
    return recorder.seen


def states() -> dict[str, tuple[str, str]]:
    rows = Delivery.objects.select_related("subscriber")
    return {row.subscriber.address: (row.state, row.reason) for row in rows}
