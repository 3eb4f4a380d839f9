"""Real servers: mail in this process, Redis and PostgreSQL where the runner started them."""

import asyncio
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any, cast

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP

from tests.daemons import free_port


@dataclass(frozen=True)
class Received:
    """One message as it came over the wire: `data` has CRLF line ends and no dot-stuffing."""

    sender: str
    recipients: list[str]
    data: bytes

    @property
    def message(self) -> EmailMessage:
        return message_from_bytes(self.data, policy=policy.default)


@dataclass
class MailServer:
    """A mail server that announces PIPELINING and 8BITMIME and keeps what it accepts.

    `replies` answers otherwise than with 250: by command ("MAIL", "RCPT", "DATA") or by recipient. An empty reply
    closes the connection without a word.
    """

    url: str = ""
    received: list[Received] = field(default_factory=list)
    replies: dict[str, str] = field(default_factory=dict)
    connections: int = 0

    @property
    def messages(self) -> list[EmailMessage]:
        return [one.message for one in self.received]

    def answer(self, server: SMTP, *keys: str) -> str | None:
        for key in keys:
            if key in self.replies:
                if not self.replies[key]:
                    cast(asyncio.Transport, server.transport).abort()
                return self.replies[key] or "421 gone"
        return None

    # aiosmtpd passes exactly these names.
    async def handle_EHLO(  # noqa: N802
        self, server: SMTP, session: Any, envelope: Any, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        self.connections += 1
        return [*responses[:-1], "250-PIPELINING", responses[-1]]

    async def handle_MAIL(  # noqa: N802
        self, server: SMTP, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        if reply := self.answer(server, "MAIL"):
            return reply
        envelope.mail_from = address
        return "250 OK"

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        if reply := self.answer(server, "RCPT", address):
            return reply
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:  # noqa: N802
        if reply := self.answer(server, "DATA"):
            return reply
        self.received.append(Received(envelope.mail_from, list(envelope.rcpt_tos), envelope.original_content))
        return f"250 OK {len(self.received)}"


class MailController(Controller):
    def factory(self) -> SMTP:
        return SMTP(self.handler, hostname="mail.example", data_size_limit=50_000_000)


@pytest.fixture
def smtp() -> Iterator[MailServer]:
    """A real SMTP server on a free loopback port; `smtp.url` is its MAIL_URL."""
    server = MailServer()
    controller = MailController(server, hostname="127.0.0.1", port=free_port())
    controller.start()
    server.url = f"smtp://127.0.0.1:{controller.port}"
    yield server
    controller.stop()


@pytest.fixture
def letterbox(data_dir: Path) -> Callable[[], list[EmailMessage]]:
    """Return a function that reads what lies in the letterbox, the oldest first."""

    def read() -> list[EmailMessage]:
        box = data_dir / "letterbox"
        files = sorted([*box.glob("new/*"), *box.glob("cur/*")], key=lambda file: file.stat().st_mtime_ns)
        return [message_from_bytes(file.read_bytes(), policy=policy.default) for file in files]

    return read


@pytest.fixture
def redis_url() -> str:
    """A real Redis or Valkey."""
    url = os.environ.get("TEST_REDIS_URL", "")
    if not url:
        pytest.skip("no Redis: run `python -m tests`, or give TEST_REDIS_URL")
    return url
