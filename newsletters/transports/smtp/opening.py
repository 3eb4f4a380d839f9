"""From a host's name to a connection that is ready for mail: greeting, EHLO, TLS, login. RFC 5321, 3207, 4954, 8314."""

import base64
import socket
import ssl
from dataclasses import dataclass, field
from functools import cache

from newsletters.transports import Options, check_password
from newsletters.transports.smtp.replies import Lost, Reply, take

CONNECT_SECONDS = 30
# RFC 5321 section 4.5.3.2.1: five minutes for the greeting, and for what follows.
REPLY_SECONDS = 300
# A message fits in, so that one write takes all of it.
SEND_BUFFER = 262_144


@dataclass
class Opened:
    """A connection on which EHLO was answered: `offers` are its extensions with their parameters, in capitals."""

    sock: socket.socket
    offers: dict[str, str] = field(default_factory=dict)


class Dialogue:
    """One question, one answer, until mail begins."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.heard = b""
        self.replies: list[Reply] = []

    def answer(self) -> Reply:
        while not self.replies:
            data = self.sock.recv(65_536)
            if not data:
                raise Lost("The server hung up.")
            self.replies, self.heard = take(self.heard + data)
        return self.replies.pop(0)

    def ask(self, command: str) -> Reply:
        self.sock.sendall(f"{command}\r\n".encode())
        return self.answer()

    def expect(self, reply: Reply, *codes: int) -> str:
        if reply[0] not in codes:
            raise Lost(f"{reply[0]} {reply[1]}".replace("\n", " "))
        return reply[1]

    def hello(self) -> dict[str, str]:
        """Say EHLO, or HELO to a server that knows no extensions; return what it offers."""
        code, text = self.ask(f"EHLO {own_name(self.sock)}")
        if code == 250:
            return offers(text)
        self.expect(self.ask(f"HELO {own_name(self.sock)}"), 250)
        return {}

    def secure(self, host: str) -> None:
        self.expect(self.ask("STARTTLS"), 220)
        if self.heard or self.replies:
            # What was said before the handshake may have been put in by anyone (CVE-2011-0411).
            raise Lost("The server spoke between STARTTLS and the handshake.")
        self.wrap(host)

    def wrap(self, host: str) -> None:
        self.sock = context().wrap_socket(self.sock, server_hostname=host)

    def log_in(self, offered: str, user: str, password: str) -> None:
        if "PLAIN" in offered.split():
            reply = self.ask(f"AUTH PLAIN {encoded(f'{chr(0)}{user}{chr(0)}{password}')}")
        elif "LOGIN" in offered.split():
            self.expect(self.ask("AUTH LOGIN"), 334)
            self.expect(self.ask(encoded(user)), 334)
            reply = self.ask(encoded(password))
        else:
            raise Lost(f"The server offers no login that is known here (PLAIN, LOGIN), but {offered or 'none'!r}.")
        self.expect(reply, 235)


def open_connection(options: Options) -> Opened:
    """Connect, and do all that comes before the first message. Raises OSError, Lost, ValueError."""
    check_password(options)
    tls = options.query.get("tls", "none")
    sock = socket.create_connection((options.host, options.port or (465 if tls == "ssl" else 25)), CONNECT_SECONDS)
    dialogue = Dialogue(sock)
    try:
        # Without it Nagle holds the dot back until the text is acknowledged: 40 ms in which a crash leaves doubt.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        if tls == "ssl":
            dialogue.wrap(options.host)
        dialogue.sock.settimeout(REPLY_SECONDS)
        return introduced(dialogue, options, tls)
    except BaseException:
        dialogue.sock.close()
        sock.close()
        raise


def introduced(dialogue: Dialogue, options: Options, tls: str) -> Opened:
    dialogue.expect(dialogue.answer(), 220)
    known = dialogue.hello()
    if tls == "starttls":
        if "STARTTLS" not in known:
            raise Lost("The server does not offer STARTTLS. Give tls=ssl if it speaks TLS at once; ask who runs it.")
        dialogue.secure(options.host)
        known = dialogue.hello()
    if options.user:
        dialogue.log_in(known.get("AUTH", ""), options.user, options.password)
    dialogue.sock.setblocking(False)
    return Opened(dialogue.sock, known)


def offers(text: str) -> dict[str, str]:
    """Read an answer to EHLO; its first line is the server's name."""
    words = (line.upper().replace("AUTH=", "AUTH ").partition(" ") for line in text.split("\n")[1:])
    return {name: value for name, _space, value in words}


@cache
def context() -> ssl.SSLContext:
    """Return what checks certificates; SSL_CERT_FILE names an authority of one's own."""
    return ssl.create_default_context()


def own_name(sock: socket.socket) -> str:
    """Return what to be called in EHLO: a name with a dot, or else the address (RFC 5321 section 4.1.4)."""
    if "." in (name := host_name()) and name.isascii():
        return name
    address = sock.getsockname()[0]
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"


@cache
def host_name() -> str:
    return socket.getfqdn()


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
