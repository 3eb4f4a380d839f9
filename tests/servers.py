"""Real servers: mail in this process, Redis and PostgreSQL where the runner started them."""

import asyncio
import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any, cast

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP

from newsletters.transports.smtp import opening
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


class HungUp(Exception):
    """This conversation is over."""


@dataclass
class WireServer:
    """A mail server that keeps every byte as it came, and says what it is told to say.

    `offers` are the lines of its EHLO; without any it knows only HELO. `replies` answers by verb ("CONNECT", "MAIL",
    "DATA", "dot" ...) or by a piece of the command; a list is answered one by one, its last word for good. An empty
    reply hangs up, None says nothing at all. `wait` delays replies, in seconds.
    """

    offers: list[str] = field(default_factory=lambda: ["PIPELINING"])
    replies: dict[str, Any] = field(default_factory=dict)
    wait: dict[str, float] = field(default_factory=dict)
    tls: ssl.SSLContext | None = None
    implicit: bool = False
    chunks: list[list[bytes]] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    texts: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}"

    def verbs(self) -> list[str]:
        return [command.partition(" ")[0] for command in self.commands]

    def close(self) -> None:
        self.listener.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _address = self.listener.accept()
            except OSError:
                return
            self.chunks.append([])
            threading.Thread(target=self._converse, args=(sock, self.chunks[-1]), daemon=True).start()

    def _converse(self, sock: socket.socket, chunks: list[bytes]) -> None:
        try:
            Conversation(self, sock, chunks).go()
        except (HungUp, OSError):
            pass

    def answer(self, *names: str) -> str | None:
        for name in names:
            time.sleep(self.wait.get(name, 0))
            if name in self.replies:
                reply = self.replies[name]
                return reply.pop(0) if isinstance(reply, list) and len(reply) > 1 else _only(reply)
        return {"CONNECT": "220 wire.example ESMTP", "DATA": "354 Go on", "QUIT": "221 Bye"}.get(
            names[0], "250 2.0.0 Ok"
        )


def _only(reply: Any) -> str | None:
    return cast(str | None, reply[0] if isinstance(reply, list) else reply)


class Conversation:
    """One client's connection to a WireServer."""

    def __init__(self, server: WireServer, sock: socket.socket, chunks: list[bytes]) -> None:
        self.server, self.sock, self.chunks, self.held = server, sock, chunks, b""

    def go(self) -> None:
        try:
            if self.server.implicit:
                self._secure()
            self.say(self.server.answer("CONNECT"))
            while True:
                command = self.until(b"\r\n").decode()
                self.server.commands.append(command)
                self.take(command)
        finally:
            self.sock.close()

    def take(self, command: str) -> None:
        verb = command.partition(" ")[0].upper()
        known = [key for key in [*self.server.replies, *self.server.wait] if key in command and key != verb]
        if verb == "EHLO" and not known and verb not in self.server.replies:
            lines = ["wire.example", *self.server.offers]
            reply: str | None = "\r\n".join([*(f"250-{line}" for line in lines[:-1]), f"250 {lines[-1]}"])
            reply = reply if self.server.offers else "502 5.5.1 Unknown"
        else:
            reply = self.server.answer(*known, verb)
        self.say("220 Go on" if verb == "STARTTLS" and verb not in self.server.replies else reply)
        if verb == "STARTTLS":
            self._secure()
        if verb == "DATA" and (reply or "").startswith("354"):
            text = self.until(b"\r\n.\r\n", before=b"\r\n")
            reply = self.server.answer("dot")
            if (reply or "").startswith("250"):
                self.server.texts.append(text + b"\r\n")
            self.say(reply)
        if verb == "QUIT":
            raise HungUp

    def say(self, reply: str | None) -> None:
        if reply == "":
            raise HungUp
        if reply:
            self.sock.sendall(f"{reply}\r\n".encode())

    def until(self, end: bytes, before: bytes = b"") -> bytes:
        """Read up to a mark; `before` is what the mark may share with what was read already."""
        self.held = before + self.held
        while end not in self.held:
            data = self.sock.recv(65_536)
            if not data:
                raise HungUp
            self.chunks.append(data)
            self.held += data
        found, _end, self.held = self.held.partition(end)
        return found.removeprefix(before) if before else found

    def _secure(self) -> None:
        assert self.server.tls
        self.sock = self.server.tls.wrap_socket(self.sock, server_side=True)


def self_signed(folder: Path, name: str = "IP:127.0.0.1", days: int = 2) -> tuple[Path, ssl.SSLContext]:
    """Make a server's certificate for a name; with -1 days it ended yesterday."""
    key, cert = str(folder / "key.pem"), str(folder / "cert.pem")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=wire.example"]
    command += ["-addext", f"subjectAltName={name}", "-keyout", key, "-out", cert]
    again = ["openssl", "x509", "-in", cert, "-signkey", key, "-days", str(days), "-out", cert]
    for step in (command, again):
        subprocess.run(step, check=True, capture_output=True)
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(cert, key)
    return Path(cert), made


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    """Return what makes this process trust a certificate, and no other."""

    def trust(cert: Path) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(cert))
        opening.context.cache_clear()

    yield trust
    opening.context.cache_clear()


@pytest.fixture
def wire() -> Iterator[Callable[..., WireServer]]:
    """Return what starts a WireServer: wire(), wire(offers=["PIPELINING", "DSN"])."""
    servers: list[WireServer] = []

    def start(**options: Any) -> WireServer:
        servers.append(WireServer(**options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


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
