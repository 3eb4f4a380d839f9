"""What Postfix's smtp-sink can do to a sender, one misbehaviour after another."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from bench import ground
from newsletters import sending
from newsletters.models import Delivery
from tests.servers import MailServer
from tests.test_sending import MONDAY, mail_url, planned  # noqa: F401

Sink = Callable[..., Path]
READERS = 6


@pytest.fixture
def sink(smtp_sink: None, settings: Any, tmp_path: Path) -> Iterator[Sink]:
    """Return what starts an smtp-sink with these options, and gives the folder of its record."""
    # The server's own user writes there.
    place = tmp_path
    while os.geteuid() == 0 and place != place.parent and place.name != "tmp":
        place.chmod(0o755)
        place = place.parent
    with ExitStack() as stack:

        def start(*options: str) -> Path:
            server = ground.smtp_sink(tmp_path / "record")
            server.command[1:1] = options
            stack.enter_context(server.running())
            settings.MAIL_URL = f"smtp://127.0.0.1:{server.port}?connections=2"
            return tmp_path / "record"

        yield start


def arrived(record: Path) -> Counter[str]:
    return Counter(one.recipient for one in ground.read(record).elements())


@pytest.mark.parametrize(
    ("options", "states"),
    [
        *((("-q", command), {"retry"}) for command in ("CONNECT", "EHLO", "MAIL", "RCPT", "DATA")),
        (("-q", "."), {"uncertain", "retry"}),
        *((("-Q", command), {"retry"}) for command in ("CONNECT", "EHLO", "MAIL", "RCPT", "DATA", ".")),
        *((("-r", command), {"retry"}) for command in ("MAIL", "RCPT", "DATA", ".")),
        (("-r", ".", "-b", "452 4.2.2 Mailbox full"), {"retry"}),
        *((("-f", command), {"failed"}) for command in ("MAIL", "RCPT", "DATA", ".")),
        (("-A", "0"), {"failed", "retry", "uncertain"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_server_that_refuses_costs_nobody_and_doubles_nothing(
    planned: Any,  # noqa: F811
    sink: Sink,
    options: tuple[str, ...],
    states: set[str],
) -> None:
    planned(READERS)
    record = sink(*options)

    sending.drain(lambda: MONDAY)

    ended = Counter(Delivery.objects.values_list("state", flat=True))
    assert set(ended) <= states
    assert ended.total() == READERS
    # It writes down what it refuses after the dot, too.
    if "." not in options:
        assert not arrived(record)


# While it waits before its answer to a dot, smtp-sink answers the commands behind it: that needs plain dialogue (-p).
@pytest.mark.parametrize("options", ["-e", "-8", "-p", "-N", "-P", "-E", "-w 1", "-p -W .:1", "-H 1", "-T 512"])
def test_a_server_that_lacks_something_or_is_slow_gets_all_once(
    planned: Any,  # noqa: F811
    sink: Sink,
    options: str,
) -> None:
    planned(READERS)
    record = sink(*options.split())

    assert sending.drain(lambda: MONDAY) == {"sent": READERS}

    assert arrived(record) == Counter(f"reader{number}@example.com" for number in range(READERS))


SCRIPT = {
    "450 4.2.0 later": "retry",
    "451 4.3.0 no room": "retry",
    "452 4.2.2 full": "retry",
    "550 5.1.1 unknown": "failed",
    "552 5.2.2 full": "failed",
    "553 5.1.3 no such name": "failed",
    "554 5.7.1 refused": "failed",
    # Hung up: nothing had been handed off.
    "": "retry",
}


def test_the_states_match_a_script_of_replies_exactly(
    planned: Any,  # noqa: F811
    smtp: MailServer,
) -> None:
    """One reader in a hundred meets each of the replies."""
    planned(300)
    wanted = Counter[str]()
    for number in range(300):
        if (place := number % 100) % 12 == 0 and place // 12 < len(SCRIPT):
            reply = list(SCRIPT)[place // 12]
            smtp.replies[f"reader{number}@example.com"] = reply
            wanted[SCRIPT[reply]] += 1

    ended = sending.drain(lambda: MONDAY)

    assert wanted == {"retry": 12, "failed": 12}
    assert ended == wanted + Counter(sent=276)
    assert len(smtp.received) == len({one.recipients[0] for one in smtp.received}) == 276
