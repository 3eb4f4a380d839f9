"""A reader's copy of a mail, in the words in which providers want it: headers, text and HTML, decoded."""

import html
import re
from collections.abc import Callable
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import parseaddr
from functools import lru_cache

from newsletters.mime import Blueprint
from newsletters.transports import Message
from newsletters.transports.providers import Provider

FOLDED = re.compile(rb"\r\n(?=[ \t])")
# Written by the provider: its Message-ID and its Date stand in the mail, our own number travels beside it.
THEIRS = {"date", "message-id", "mime-version", "content-type"}
# An invisible sign that keeps two others apart.
JOINER = "\u2060"


@dataclass(frozen=True, slots=True)
class Copy:
    """What goes to one reader. `headers` are those that are not named here."""

    message: Message
    sender: str
    to: Address
    reply_to: str
    subject: str
    headers: dict[str, str]

    @property
    def address(self) -> str:
        return self.to.addr_spec

    @property
    def number(self) -> str:
        """The token in our Message-ID, by which events find their row; Postmark takes 80 characters."""
        return self.message.message_id.partition("@")[0]

    @property
    def body(self) -> object:
        """What copies of the same text have in common."""
        return id(self.message.blueprint) if self.message.blueprint else self.message.key

    def parts(self) -> tuple[str, str]:
        """Return text and HTML as this reader gets them."""
        blueprint, values = self.message.blueprint, self.message.values
        if blueprint is None:
            return _parsed(self.message.data)
        spoken = {marker: field.spoken(values) for marker, field in blueprint.fields.items()}
        return _filled(blueprint.text, spoken, str), _filled(blueprint.html, spoken, html.escape)


def copy_of(message: Message) -> Copy:
    """Read a complete message. Raises ValueError where an address or header cannot be read."""
    head = FOLDED.sub(b"", message.data.partition(b"\r\n\r\n")[0]).split(b"\r\n")
    fields = {name: value for name, value in map(_header, head) if name.lower() not in THEIRS}
    sender, to, reply_to = (_mailbox(fields.pop(name, "")) for name in ("From", "To", "Reply-To"))
    if sender is None or to is None:
        raise ValueError("no address that a provider takes")
    subject = str(make_header(decode_header(fields.pop("Subject", ""))))
    rest = {name: _ascii(value) for name, value in fields.items()}
    return Copy(message, str(sender), to, str(reply_to or ""), subject, rest)


@lru_cache(maxsize=1024)
def _header(line: bytes) -> tuple[str, str]:
    name, _, value = line.decode("ascii").partition(":")
    return name, value.strip()


@lru_cache(maxsize=1024)
def _mailbox(value: str) -> Address | None:
    phrase, spec = parseaddr(value)
    return Address(str(make_header(decode_header(phrase))), addr_spec=spec) if "@" in spec else None


def _ascii(value: str) -> str:
    """Return a header without its encoded words: providers encode once more, or send eight bits."""
    return re.sub(r"=\?\S+\?=\s*", "", value)


def _parsed(data: bytes) -> tuple[str, str]:
    message = message_from_bytes(data, policy=policy.default)
    assert isinstance(message, EmailMessage)
    parts = (message.get_body((kind,)) for kind in ("plain", "html"))
    text, page = (str(part.get_content()).replace("\r\n", "\n") if part else "" for part in parts)
    return text, page


def _filled(text: str, spoken: dict[str, str], escape: Callable[[str], str]) -> str:
    return re.sub("|".join(spoken), lambda match: escape(spoken[match[0]]), text) if spoken else text


def literal(text: str, provider: Provider, markup: bool = False) -> str:
    """Return text in which the provider finds no command of its own.

    In HTML the second sign is written as a reference; in text something invisible stands before it.
    """
    for command in provider.commands:
        apart = f"{command[0]}&#{ord(command[1])};" if markup else command[0] + JOINER + command[1]
        # Of three signs in a row, the first two and the last two would be one.
        while command in text:
            text = text.replace(command, apart + command[2:])
    return text


def template(blueprint: Blueprint, provider: Provider) -> tuple[str, str]:
    """Return text and HTML with the provider's variables where readers differ: t0, t1… in text, h0, h1… in HTML."""
    names = {marker: provider.variable.format(f"{{}}{n}") for n, marker in enumerate(blueprint.fields)}
    text = literal(blueprint.text, provider)
    page = literal(blueprint.html, provider, markup=True)
    return _placed(text, names, "t"), _placed(page, names, "h")


def _placed(text: str, names: dict[str, str], kind: str) -> str:
    # A text may hold anything but a marker, so that replacing them one after another is safe.
    for marker, name in names.items():
        text = text.replace(marker, name.replace("{}", kind, 1))
    return text


def variables(copy: Copy, provider: Provider) -> dict[str, str]:
    """Return one reader's values for the variables of a template, written for the places where they stand."""
    blueprint = copy.message.blueprint
    if blueprint is None:
        return {}
    found: dict[str, str] = {}
    for n, (marker, field) in enumerate(blueprint.fields.items()):
        spoken = field.spoken(copy.message.values)
        if marker in blueprint.text:
            found[f"t{n}"] = literal(spoken, provider)
        if marker in blueprint.html:
            found[f"h{n}"] = literal(html.escape(spoken), provider, markup=True)
    return found
