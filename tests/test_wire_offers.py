"""A real email on the wire, byte by byte, to servers that offer every mixture of extensions."""

import email
import email.policy
import re
import ssl
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from newsletters import headers, rendering
from newsletters.mime import Blueprint
from newsletters.models import Issue, Publication
from newsletters.transports import Message
from tests.servers import WireServer, self_signed
from tests.test_rendering import VALUES, assert_sound, parts
from tests.test_wire import TOKEN, send, states

EXTENSIONS = ("PIPELINING", "8BITMIME", "SMTPUTF8", "DSN", "STARTTLS")
NAMES = ["Zoé 🌞", "\r\n.\r\nMAIL FROM:<evil@x.example>\r\n", "سارة", "x" * 200, ""]
BODY = "Bonjour {{ prénom|à vous }},\n\n.\n\n..\n\nFrom ici, {{ prénom }}.\n\n" + "très long " * 300


@pytest.fixture(scope="module")
def blueprint() -> Blueprint:
    publication = Publication(
        pk=1, name="Été", slug="ete", language="fr", author="Maud", sender="m@été.example", reply_to="m@été.example"
    )
    issue = Issue(pk=1, publication=publication, subject="Pour {{ prénom|vous }}", body=BODY, public_id="k3q")
    return rendering.blueprint(rendering.render(issue))


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    return self_signed(tmp_path_factory.mktemp("tls"))


@pytest.mark.parametrize("offers", [[], *([name for name, yes in zip(EXTENSIONS, mix, strict=True) if yes]
    for mix in product([True, False], repeat=len(EXTENSIONS)) if any(mix))], ids=" ".join)  # fmt: skip
def test_an_email_arrives_as_it_was_made_whatever_the_server_offers(
    wire: Callable[..., WireServer], trusted: Any, tls: Any, blueprint: Blueprint, offers: list[str]
) -> None:
    trusted(tls[0])
    server = wire(offers=offers, tls=tls[1])
    values = [VALUES | {"first_name": name, "to_name": name} for name in NAMES]
    mails = [blueprint.fill(one) for one in values]
    sender = headers.addr_spec("m@été.example")

    how = "starttls" if "STARTTLS" in offers else "none"
    sent = send(f"{server.url}?connections=1&tls={how}", *(Message(n, f"{TOKEN}@x", sender, "nadia@example.com", mail)
        for n, mail in enumerate(mails)))  # fmt: skip

    assert set(states(sent).values()) == {"sent"}
    # Dots were doubled nowhere, for no line begins with one; the bytes are those of the blueprint on every server.
    assert server.texts == mails
    assert_clean(server, offers)
    for raw, one in zip(server.texts, values, strict=True):
        assert_sound(raw)
        name = headers.one_line(one["first_name"]) or "à vous"
        assert f"Bonjour {name}," in parts(raw)[0]
        message: Any = email.message_from_bytes(raw, policy=email.policy.default)
        assert message["From"].addresses[0].addr_spec == sender


def assert_clean(server: WireServer, offers: list[str]) -> None:
    """Check that what was said to the server is 7-bit, has whole line ends, and uses only what it offers."""
    (chunks,) = server.chunks
    everything = b"".join(chunks)
    assert everything.isascii()
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", everything)
    assert server.verbs().count("MAIL") == len(NAMES)
    assert ("STARTTLS" in server.verbs()) == ("STARTTLS" in offers)
    mail = [command for command in server.commands if command.startswith(("MAIL", "RCPT"))]
    assert all(("ENVID=" in line or "NOTIFY=" in line) == ("DSN" in offers) for line in mail)
    assert not any(word in line for line in mail for word in ("BODY=", "SMTPUTF8", "SIZE="))
    if "PIPELINING" not in offers:
        assert not any(re.search(rb"(?:MAIL|RCPT|DATA)[^\r]*\r\n.", chunk) for chunk in chunks if b"FROM:<m@" in chunk)
