"""Certificates that have run out, bear another name, or are exchanged in the middle of a send."""

import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from newsletters import sending
from newsletters.models import Delivery
from newsletters.models.outgoing import State
from newsletters.transports.smtp import opening
from tests.servers import WireServer
from tests.test_sending import MONDAY, planned  # noqa: F401

Certify = Callable[..., ssl.SSLContext]


@pytest.fixture
def certify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Certify:
    """Return what makes a server's certificate that is trusted here."""
    trusted = tmp_path / "trusted.pem"
    trusted.touch()
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))

    def make(host: str = "127.0.0.1", days: int = 1) -> ssl.SSLContext:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "wire.example")])
        until = datetime.now(UTC) + timedelta(days=days)
        made = (
            x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(until - timedelta(days=5))
            .not_valid_after(until)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(host))]), critical=False)
            .sign(key, hashes.SHA256())
        )
        pem = made.public_bytes(serialization.Encoding.PEM)
        both = tmp_path / f"{made.serial_number}.pem"
        both.write_bytes(pem + key.private_bytes(serialization.Encoding.PEM, *UNLOCKED))
        trusted.write_bytes(trusted.read_bytes() + pem)
        opening.context.cache_clear()
        served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        served.load_cert_chain(both)
        return served

    return make


UNLOCKED = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


class Exchanging(WireServer):
    """A server that has another certificate as soon as it has taken two messages."""

    then: ssl.SSLContext

    def answer(self, *names: str) -> str | None:
        if len(self.texts) == 2:
            self.tls = self.then
        return super().answer(*names)


def states() -> dict[str, int]:
    rows = list(Delivery.objects.values_list("state", flat=True))
    return {state: rows.count(state) for state in set(rows)}


@pytest.mark.parametrize("wrong", [{"days": -1}, {"host": "127.0.0.2"}])
def test_a_certificate_that_does_not_hold_costs_nobody_an_email(
    planned: Any,  # noqa: F811
    wire: Callable[..., WireServer],
    certify: Certify,
    settings: Any,
    wrong: dict[str, Any],
) -> None:
    server = wire(offers=["PIPELINING", "STARTTLS"], tls=certify(**wrong))
    settings.MAIL_URL = f"{server.url}?tls=starttls"
    planned(3)

    assert sending.drain(lambda: MONDAY) == {"retry": 3}

    assert "MAIL" not in server.verbs()
    assert all("certificate" in row.reply.lower() for row in Delivery.objects.all())


def test_a_certificate_exchanged_in_the_middle_of_a_send_doubles_and_loses_nothing(
    planned: Any,  # noqa: F811
    certify: Certify,
    settings: Any,
) -> None:
    good = certify()
    server = Exchanging(offers=["STARTTLS"], tls=good, replies={"MAIL": ["250 Ok", "250 Ok", ""]})
    server.then = certify("127.0.0.2")
    settings.MAIL_URL = f"{server.url}?tls=starttls&connections=1"
    planned(5)

    sending.drain(lambda: MONDAY)
    then = states()
    server.then, server.tls, server.replies = good, good, {}
    Delivery.objects.filter(state=State.RETRY).update(try_at=MONDAY)
    sending.drain(lambda: MONDAY + timedelta(minutes=1))
    server.close()

    assert then[State.SENT] == 2
    assert State.UNCERTAIN not in then
    assert states() == {State.SENT: 5}
    recipients = [command for command in server.commands if command.startswith("RCPT")]
    assert len(server.texts) == 5
    assert len(set(recipients)) == 5
