"""Several relays, or several connections, of which one is silent: nobody waits for it."""

import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from newsletters import letters, sending
from newsletters.models import Delivery, Letter, Publication, Relay
from newsletters.models.outgoing import State
from newsletters.transports import Line, Outcome, connect, line
from tests.conftest import Reader
from tests.servers import MailServer, WireServer
from tests.test_sending import MONDAY, SUNDAY, mail_url, planned  # noqa: F401
from tests.through import Through

Start = Callable[..., WireServer]


class Watched(Through):
    """A line that notes how long it was waited for."""

    def __init__(self, way: Line) -> None:
        super().__init__(way)
        self.waits: list[float] = []

    def poll(self, seconds: float) -> dict[Any, Outcome]:
        self.waits.append(seconds)
        return super().poll(seconds)


def another(server: Any, **columns: Any) -> Relay:
    """Make a second relay; the instance's own is the first."""
    Relay.objects.get_or_create(name="MAIL_URL")
    made = Relay(**{"name": "second", "rank": 1, **columns})
    made.url = server.url
    made.save()
    return made


def until(done: Callable[[], bool], seconds: float = 200) -> Callable[[], bool]:
    """Return what tells a drain to stop, when this is done or there is no more hope."""
    deadline = time.monotonic() + seconds
    return lambda: done() or time.monotonic() > deadline


def test_a_relay_without_work_is_not_waited_for(planned: Any, smtp: MailServer, wire: Start) -> None:  # noqa: F811
    planned(40)
    second = wire()
    another(second)
    ways: dict[str, Watched] = {}

    def way_out(url: str) -> Line:
        return ways.setdefault(url, Watched(line(connect(url))))

    assert sending.drain(lambda: MONDAY, way_out=way_out) == {"sent": 40}

    assert any(ways[smtp.url].waits)
    assert not any(ways[second.url].waits)
    assert second.chunks == []


@pytest.mark.parametrize(
    "silence", [{"replies": {"dot": [None, "250 Ok"]}}, {"wait": {"reader3@": 90.0, "DATA": 0.02}}]
)
def test_one_mute_connection_keeps_the_others_busy_past_the_end_of_a_drain(
    planned: Any,  # noqa: F811
    wire: Start,
    settings: Any,
    silence: dict[str, Any],
) -> None:
    server = wire(offers=["SIZE"], **({"wait": {"DATA": 0.02}} | silence))
    settings.MAIL_URL = f"{server.url}?connections=2"
    # More than one lease: the last rows are leased once the drain has ended but for its silent one, which goes first.
    planned(45)
    Delivery.objects.filter(subscriber__address="reader3@example.com").update(try_at=SUNDAY)

    sending.drain(lambda: MONDAY, seconds=0.01, stopping=until(lambda: len(server.texts) == 44))

    ended = Counter(Delivery.objects.values_list("state", flat=True))
    # What the server had all of is in doubt; where it had not, the row is free again.
    assert ended == {State.SENT: 44, State.UNCERTAIN if "replies" in silence else State.PLANNED: 1}


def test_what_comes_while_a_server_is_mute_goes_by_another_at_once(
    planned: Any,  # noqa: F811
    publication: Publication,
    reader: Reader,
    wire: Start,
    settings: Any,
) -> None:
    mute, second = wire(offers=["SIZE"], replies={"dot": None}), wire()
    settings.MAIL_URL = mute.url
    planned(1)
    other = Publication.objects.create(
        name="Autre", slug="autre", language="fr", author="Jean", sender="jean@autre.example", postal_address="Pau"
    )
    another(second, publication=other)
    written: list[Letter | None] = []

    def stopping() -> bool:
        if mute.texts or ("DATA" in mute.verbs() and not written):
            bob = reader("bob@example.com", publication=other, now=SUNDAY)
            written.append(
                letters.write(other, Letter.Kind.WELCOME, bob.address, "1", language="fr", subscriber=bob, now=MONDAY)
            )
        return done()

    done = until(lambda: bool(second.texts))
    sending.drain(lambda: MONDAY + timedelta(seconds=1), stopping=stopping)

    assert len(second.texts) == 1
    assert Letter.objects.get().state == State.SENT
    assert Delivery.objects.get().state == State.UNCERTAIN
