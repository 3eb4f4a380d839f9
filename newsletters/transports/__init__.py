"""The ways out.

A `Transport` is one small class behind three steps: stage, hand off, close. A `Line` has several messages under way at
a time and says by and by what became of them; `InTurn` makes a line of any transport.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Protocol, runtime_checkable
from urllib.parse import parse_qs, unquote, urlsplit

from newsletters.mime import Blueprint

# With +TOKEN behind it, a local part may have 64 characters (RFC 5321 section 4.5.3.1.1).
LONGEST_VERP = 13


class TransportURLError(ValueError):
    """A mail address of a relay that cannot be used; its text says what to write instead."""


class PasswordInClear(TransportURLError):
    """A mail address of a relay whose password anybody on the way could read."""


class Unreachable(Exception):
    """The server cannot be spoken to, or wants to be left alone; nothing of what was staged has left.

    `retry_after` are the seconds for which it asked to be left alone, where it did; `everywhere` tells that it would
    say the same to any host.
    """

    def __init__(self, said: str, retry_after: float | None = None, everywhere: bool = False) -> None:
        super().__init__(said)
        self.retry_after, self.everywhere = retry_after, everywhere


class Full(Exception):
    """What is staged is a group by itself; this message begins the next one."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message, complete: `data` are its bytes with CRLF line ends, not yet dot-stuffed.

    What it was made of, where many share it, is for those who send one text with many values.
    """

    key: Any
    message_id: str
    sender: str
    recipient: str
    data: bytes
    blueprint: Blueprint | None = None
    values: Mapping[str, str] = field(default_factory=dict)

    @property
    def token(self) -> str:
        """What names this message, and no other, in return paths and envelope ids."""
        return self.message_id.partition("@")[0]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a message: `state` is sent, retry, failed, uncertain, or planned (never left us).

    `wait` is for how many seconds the server is to be left alone, 0 where it does not say how long, and None where it
    may go on.
    """

    state: str
    reason: str = ""
    reply: str = ""
    wait: int | None = None


@dataclass(frozen=True, slots=True)
class Options:
    """A relay's URL, taken apart."""

    scheme: str
    host: str = ""
    port: int | None = None
    user: str = ""
    password: str = ""
    query: dict[str, str] = field(default_factory=dict)


class Transport(Protocol):
    @property
    def group(self) -> int:
        """How many messages are staged before one commit hands them all off; asked after each."""

    def stage(self, message: Message) -> Outcome | None:
        """Bring everything but the end to the server; an outcome here means it goes no further.

        Raises Unreachable, and Full where what is staged must be handed off before.
        """

    def hand_off(self, keys: set[Any]) -> dict[Any, Outcome]:
        """Send the last byte of these staged messages, drop the others, and return how each ended."""

    def close(self) -> None:
        """Let go of the server."""


@runtime_checkable
class Line(Protocol):
    """A way out on which messages overtake one another."""

    @property
    def group(self) -> int:
        """How many staged messages are worth a commit."""

    @property
    def room(self) -> int:
        """How many more messages may be given to it now."""

    @property
    def staged(self) -> Collection[Any]:
        """The keys of the messages that lack their last byte, and nothing else."""

    def stage(self, message: Message) -> None:
        """Begin to bring a message to the server. Raises Unreachable."""

    def poll(self, seconds: float) -> dict[Any, Outcome]:
        """Wait for news, and return how messages ended. Raises Unreachable where there is no server and no news."""

    def hand_off(self, passed: set[Any], dropped: set[Any]) -> None:
        """Send the last byte of these staged messages, and take back those that dropped out."""

    def recall(self) -> None:
        """Take back whatever has not been handed off."""

    def close(self) -> None:
        """Let go of the server."""


class InTurn:
    """A line of a transport that does one thing after another."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.staged: list[Any] = []
        self.ended: dict[Any, Outcome] = {}

    @property
    def group(self) -> int:
        return self.transport.group

    @property
    def room(self) -> int:
        return self.group - len(self.staged)

    def stage(self, message: Message) -> None:
        if outcome := self.transport.stage(message):
            self.ended[message.key] = outcome
        else:
            self.staged.append(message.key)

    def poll(self, seconds: float) -> dict[Any, Outcome]:
        ended, self.ended = self.ended, {}
        return ended

    def hand_off(self, passed: set[Any], dropped: set[Any]) -> None:
        self.staged.clear()
        self.ended |= self.transport.hand_off(passed)

    def recall(self) -> None:
        self.hand_off(set(), set(self.staged))

    def close(self) -> None:
        self.transport.close()


def line(way: Transport | Line) -> Line:
    return way if isinstance(way, Line) else InTurn(way)


def parse(url: str) -> Options:
    """Take a relay's URL apart. Raises TransportURLError."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise TransportURLError(f"cannot be read: {error}.") from None
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    return Options(
        parts.scheme,
        parts.hostname or parts.path,
        port,
        unquote(parts.username or ""),
        unquote(parts.password or ""),
        query,
    )


def check_url(url: str) -> None:
    """Raise TransportURLError, with a sentence that says what to write, where a URL names no way out."""
    options = parse(url)
    if options.scheme not in {"letterbox", "smtp", "esp"}:
        raise TransportURLError(
            f"names no way out: {options.scheme or url!r}. Give letterbox:, smtp://HOST:PORT or esp:PROVIDER."
        )
    if options.scheme != "letterbox" and not options.host:
        raise TransportURLError("names no server. Give smtp://USER:PASSWORD@HOST:PORT?tls=starttls or esp:PROVIDER.")
    if options.query.get("tls", "none") not in {"none", "starttls", "ssl"}:
        raise TransportURLError("has an unknown tls. Give tls=starttls, tls=ssl or tls=none.")
    check_password(options)
    if options.scheme == "esp":
        from newsletters.transports import providers

        if fault := providers.fault(options):
            raise TransportURLError(fault)
    connections = options.query.get("connections", "4")
    if not connections.isdecimal() or not 1 <= int(connections) <= 100:
        raise TransportURLError("has an unknown number of connections. Give connections=1 to connections=100.")
    check_verp(options.query.get("verp"))


def check_password(options: Options) -> None:
    """Raise PasswordInClear where a password would leave this machine without TLS, and nobody wrote tls=none."""
    bare = options.scheme == "smtp" and "tls" not in options.query
    if bare and (options.user or options.password) and not is_loopback(options.host):
        raise PasswordInClear(
            "would send its password in clear. Add tls=starttls or tls=ssl, or tls=none if the line is your own."
        )


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_verp(address: str | None) -> None:
    if address is None:
        return
    local, at, domain = address.rpartition("@")
    if not (local and at and domain and address.isascii() and address.isprintable()) or set(address) & set(' <>"+'):
        raise TransportURLError("has no address for bounces. Give verp=bounces@example.com.")
    if len(local) > LONGEST_VERP:
        raise TransportURLError(f"has a long verp. Give at most {LONGEST_VERP} letters before its @.")


def connect(url: str) -> Transport | Line:
    """Open the way out that a relay's URL names."""
    from newsletters.transports.aside import Aside
    from newsletters.transports.esp import ESP
    from newsletters.transports.letterbox import Letterbox
    from newsletters.transports.smtp import SMTP

    options = parse(url)
    kinds: dict[str, Callable[[Options], Transport | Line]] = {
        "letterbox": Letterbox,
        "smtp": SMTP,
        "esp": lambda options: Aside(ESP(options)),
    }
    return kinds[options.scheme](options)
