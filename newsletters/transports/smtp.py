"""SMTP through one connection, kept open from message to message. RFC 5321, 3207, 8314."""

import smtplib
import socket
import ssl
from typing import Any

from newsletters.transports import Message, Options, Outcome, Unreachable

CONNECT_SECONDS = 30
# RFC 5321 section 4.5.3.2.6: ten minutes for the reply to the final dot.
REPLY_SECONDS = 600
QUIT_SECONDS = 5


class SMTP:
    # One message is between its hand-off and its reply at a time.
    group = 1

    def __init__(self, options: Options) -> None:
        self.options = options
        self.server: smtplib.SMTP | None = None
        self.staged: Any = None

    def stage(self, message: Message) -> Outcome | None:
        """Send the envelope and the whole text; the server can accept nothing before the dot."""
        if self.staged is not None:
            # A hand-off that failed left a text without its dot on the line.
            self._hang_up()
        server = self._connection()
        try:
            refused = self._envelope(server, message)
            if refused is None:
                server.send(_stuffed(message.data))
        except (OSError, smtplib.SMTPException) as error:
            self._hang_up()
            raise Unreachable(str(error)) from error
        if refused is None:
            self.staged = message.key
        return refused

    def _envelope(self, server: smtplib.SMTP, message: Message) -> Outcome | None:
        commands = (
            ("MAIL", f"FROM:<{message.sender}>", {250}, "refused"),
            ("RCPT", f"TO:<{message.recipient}>", {250, 251}, "address"),
            ("DATA", "", {354}, "refused"),
        )
        for verb, argument, expected, reason in commands:
            code, reply = server.docmd(verb, argument)
            if code in expected:
                continue
            if code == 421 or not 400 <= code < 600:
                raise smtplib.SMTPServerDisconnected(_text(code, reply))
            server.docmd("RSET")
            return _outcome(code, reply, reason)
        return None

    def hand_off(self, keys: set[Any]) -> dict[Any, Outcome]:
        """Send the dot and wait for the reply. Without one, nobody knows whether the server took the message."""
        staged, self.staged = self.staged, None
        if staged is None:
            return {}
        if staged not in keys or self.server is None:
            # The only way to take back a text without its dot is to hang up.
            self._hang_up()
            return {}
        try:
            self.server.send(b".\r\n")
            code, reply = self.server.getreply()
        except (OSError, smtplib.SMTPException) as error:
            self._hang_up()
            return {staged: Outcome("uncertain", "no reply", str(error))}
        if code == 421:
            self._hang_up()
        return {staged: _outcome(code, reply, "refused")}

    def close(self) -> None:
        if self.server is not None and self.staged is None:
            try:
                assert self.server.sock is not None
                self.server.sock.settimeout(QUIT_SECONDS)
                self.server.quit()
            except (OSError, smtplib.SMTPException):
                pass
        self._hang_up()

    def _hang_up(self) -> None:
        server, self.server, self.staged = self.server, None, None
        if server is not None:
            server.close()

    def _connection(self) -> smtplib.SMTP:
        if self.server is None:
            try:
                self.server = self._connect()
            except (OSError, smtplib.SMTPException) as error:
                raise Unreachable(str(error)) from error
        return self.server

    def _connect(self) -> smtplib.SMTP:
        tls, port = self.options.query.get("tls", "none"), self.options.port
        context = ssl.create_default_context()
        if tls == "ssl":
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                self.options.host, port or 465, timeout=CONNECT_SECONDS, context=context
            )
        else:
            server = smtplib.SMTP(self.options.host, port or 25, timeout=CONNECT_SECONDS)
        if tls == "starttls":
            server.starttls(context=context)
        if self.options.user:
            server.login(self.options.user, self.options.password)
        server.ehlo_or_helo_if_needed()
        assert server.sock is not None
        # Without it Nagle holds the dot back until the text is acknowledged: 40 ms in which a crash leaves doubt.
        server.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server.sock.settimeout(REPLY_SECONDS)
        return server


def _stuffed(data: bytes) -> bytes:
    """Double each leading dot (RFC 5321 section 4.5.2). Our texts use CRLF alone and end with it."""
    stuffed = data.replace(b"\r\n.", b"\r\n..")
    return b"." + stuffed if stuffed.startswith(b".") else stuffed


def _outcome(code: int, reply: bytes, reason: str) -> Outcome:
    """A reply that cannot be read after the dot (smtplib gives -1) leaves doubt."""
    states = {2: ("sent", ""), 4: ("retry", reason), 5: ("failed", reason)}
    return Outcome(*states.get(code // 100, ("uncertain", "no reply")), _text(code, reply))


def _text(code: int, reply: bytes) -> str:
    return f"{code} {reply.decode('ascii', 'replace')}".replace("\n", " ")
