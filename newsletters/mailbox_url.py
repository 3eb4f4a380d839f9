"""The address of a mailbox, such as imaps://user:password@mail.example.com/Bounces. Read with the settings."""

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

SCHEMES = {"imap": 143, "imaps": 993, "pop3": 110, "pop3s": 995}


class MailboxURLError(ValueError):
    """An address of a mailbox that cannot be used; its text says what to write instead."""


@dataclass(frozen=True, slots=True)
class Box:
    scheme: str
    host: str
    port: int
    user: str
    password: str
    folder: str


def parse(url: str) -> Box:
    """Take a mailbox's URL apart. Raises MailboxURLError."""
    example = "Give imaps://USER:PASSWORD@HOST/FOLDER or pop3s://USER:PASSWORD@HOST."
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise MailboxURLError(f"cannot be read: {error}. {example}") from None
    if parts.scheme not in SCHEMES or not parts.hostname or not parts.username:
        raise MailboxURLError(f"names no mailbox. {example}")
    names = unquote(parts.username), unquote(parts.password or "")
    folder = unquote(parts.path.strip("/")) or "INBOX"
    return Box(parts.scheme, parts.hostname, port or SCHEMES[parts.scheme], *names, folder)
