"""The ways out. Each is one small class behind the same three steps: stage, hand off, close."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import parse_qs, unquote, urlsplit


class TransportURLError(ValueError):
    """A mail address of a relay that cannot be used; its text says what to write instead."""


class Unreachable(Exception):
    """The server cannot be spoken to at all; nothing of what was staged has left.

    `retry_after` are the seconds for which it asked to be left alone, where it did.
    """

    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One message, complete: `data` are its bytes with CRLF line ends, not yet dot-stuffed."""

    key: Any
    message_id: str
    sender: str
    recipient: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a message: `state` is sent, retry, failed, uncertain, or planned (never left us)."""

    state: str
    reason: str = ""
    reply: str = ""


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
    """`group` is how many messages are staged before one commit hands them all off."""

    group: int

    def stage(self, message: Message) -> Outcome | None:
        """Bring everything but the end to the server; an outcome here means it goes no further.

        Raises Unreachable.
        """

    def hand_off(self, keys: set[Any]) -> dict[Any, Outcome]:
        """Send the last byte of these staged messages, drop the others, and return how each ended."""

    def close(self) -> None:
        """Let go of the server."""


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
        raise TransportURLError("names no server. Give smtp://USER:PASSWORD@HOST:PORT or esp:PROVIDER.")
    if options.query.get("tls", "none") not in {"none", "starttls", "ssl"}:
        raise TransportURLError("has an unknown tls. Give tls=starttls, tls=ssl or tls=none.")


def connect(url: str) -> Transport:
    """Open the way out that a relay's URL names."""
    from newsletters.transports.esp import ESP
    from newsletters.transports.letterbox import Letterbox
    from newsletters.transports.smtp import SMTP

    options = parse(url)
    kinds: dict[str, Callable[[Options], Transport]] = {"letterbox": Letterbox, "smtp": SMTP, "esp": ESP}
    return kinds[options.scheme](options)
