"""One open connection, from message to message, never waiting. RFC 5321, 2920, 1870, 3461, 6531."""

import re
import ssl
import time
from collections import deque
from typing import Any

from newsletters.mime import Wire
from newsletters.transports import Message, Outcome
from newsletters.transports.smtp.opening import Opened
from newsletters.transports.smtp.replies import Lost, Reply, outcome, take

# How long a server may take to answer, in seconds: RFC 5321 section 4.5.3.2.
PATIENCE = {"RSET": 300, "MAIL": 300, "RCPT": 300, "DATA": 120, "text": 180, "void": 600, "dot": 600}
REASONS = {"MAIL": "refused", "RCPT": "address", "DATA": "refused"}


# A message is taken, and the next one may come.
USUAL = ("dot", "MAIL", "RCPT", "DATA")
TAKEN = re.compile(rb"250 ([^\r\n]*)\r\n250 [^\r\n]*\r\n250 [^\r\n]*\r\n354 [^\r\n]*\r\n")


class Session:
    """`current` is on its way to the server; `dotted` is what the server has all of and has not answered yet."""

    def __init__(self, opened: Opened, verp: str = "") -> None:
        self.sock, self.offers, self.verp = opened.sock, opened.offers, verp
        self.pipelining = "PIPELINING" in self.offers
        self.expected: deque[str] = deque()
        self.commands: deque[tuple[str, bytes]] = deque()
        self.out, self.heard = b"", b""
        self.current: Message | None = None
        self.dotted: Message | None = None
        self.refusal: Outcome | None = None
        self.writing_text = self.leaving = self.stale = self.watched = False
        self.dot_left = False
        self.accepted = 0
        self.since = time.monotonic()
        self.news: list[tuple[Any, Outcome | None]] = []

    @property
    def idle(self) -> bool:
        return self.current is None and not self.leaving and (self.pipelining or self.dotted is None)

    # What we say

    def begin(self, message: Message) -> None:
        """Send a message's envelope, or refuse what this server cannot take."""
        if refusal := self.unfit(message):
            self.news.append((message.key, refusal))
            return
        self._envelope(message)
        self._say()

    def dot(self, following: Message | None) -> None:
        """Send the last byte of the staged message, and with it the envelope of the one that follows."""
        self.dotted, self.current, self.dot_left = self.current, None, False
        self.commands.append(("dot", b".\r\n"))
        if following is not None:
            if refusal := self.unfit(following):
                self.news.append((following.key, refusal))
            else:
                self._envelope(following)
        self._say()

    def quit(self) -> None:
        self.leaving = True
        self._write(b"QUIT\r\n")

    def unfit(self, message: Message) -> Outcome | None:
        if "SMTPUTF8" not in self.offers and international(message):
            reason = "refused" if message.recipient.isascii() else "address"
            return Outcome("failed", reason, "553 5.6.7 This mail server takes no address with such letters.")
        limit = self.offers.get("SIZE", "")
        if limit.isdecimal() and 0 < int(limit) < len(message.data):
            return Outcome("failed", "refused", f"552 5.3.4 This mail server takes no more than {int(limit)} bytes.")
        return None

    def _envelope(self, message: Message) -> None:
        self.current, self.refusal = message, None
        sender, mail, rcpt = message.sender, "", ""
        if self.verp:
            local, _at, domain = self.verp.rpartition("@")
            sender = f"{local}+{message.token}@{domain}"
        if "SIZE" in self.offers:
            mail = f" SIZE={len(message.data)}"
        if "DSN" in self.offers:
            mail += f" RET=HDRS ENVID={message.token}"
            kind = "rfc822" if message.recipient.isascii() else "utf-8"
            rcpt = f" NOTIFY=FAILURE,DELAY ORCPT={kind};{xtext(message.recipient)}"
        if international(message):
            mail += " SMTPUTF8"
        if self.stale:
            self.commands.append(("RSET", b"RSET\r\n"))
            self.stale = False
        self.commands.append(("MAIL", f"MAIL FROM:<{sender}>{mail}\r\n".encode()))
        self.commands.append(("RCPT", f"RCPT TO:<{message.recipient}>{rcpt}\r\n".encode()))
        self.commands.append(("DATA", b"DATA\r\n"))

    def _say(self) -> None:
        """Send what may be sent now: all of it, or one command at a time."""
        if not self.commands or (self.expected and not self.pipelining):
            return
        if self.pipelining:
            self.expected.extend([kind for kind, _line in self.commands])
            data = b"".join([line for _kind, line in self.commands])
            self.commands.clear()
        else:
            kind, data = self.commands.popleft()
            self.expected.append(kind)
        self._write(data)

    def _write(self, data: bytes) -> None:
        self.since = time.monotonic()
        self.out = self.out + data if self.out else data
        self.flush()

    def flush(self) -> None:
        """Write what the system takes; it asks again when there is room."""
        try:
            sent = self.sock.send(self.out)
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return
        except OSError:
            # What the server said before it went away can still be read, and then that it went.
            return
        self.out, self.dot_left = self.out[sent:], True
        self.since = time.monotonic()
        if self.writing_text and not self.out:
            self.writing_text = False
            assert self.current is not None
            self.news.append((self.current.key, None))

    # What the server says

    def hear(self) -> None:
        """Read what has arrived. Raises Lost."""
        try:
            data = self.sock.recv(65_536)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError as error:
            raise Lost(str(error)) from error
        if not data:
            raise Lost("The server hung up.")
        self.since = time.monotonic()
        if not self.heard and self._as_ever(data):
            return
        replies, self.heard = take(self.heard + data if self.heard else data)
        for reply in replies:
            self._take(reply)
        if isinstance(self.sock, ssl.SSLSocket) and self.sock.pending():
            # What is deciphered already wakes no selector.
            self.hear()

    def _as_ever(self, data: bytes) -> bool:
        """Take the four replies that nearly every message gets, all at once; anything else goes its own long way."""
        if tuple(self.expected) != USUAL or not (taken := TAKEN.fullmatch(data)):
            return False
        self.expected.clear()
        self._answered((250, taken[1].decode("ascii", "replace")))
        self._text()
        return True

    def _take(self, reply: Reply) -> None:
        if not self.expected:
            raise Lost(f"{reply[0]} {reply[1]}")
        kind = self.expected.popleft()
        if kind == "dot":
            self._answered(reply)
        if reply[0] == 421 or not 200 <= reply[0] < 600:
            raise Lost(f"{reply[0]} {reply[1]}")
        if kind in REASONS:
            self._envelope_answered(kind, reply)
        elif kind == "void":
            self._refused()
        self._say()

    def _answered(self, reply: Reply) -> None:
        """Note what the server did with the message it has all of."""
        assert self.dotted is not None
        self.news.append((self.dotted.key, outcome(reply, "refused")))
        self.accepted += reply[0] // 100 == 2
        self.dotted = None

    def _envelope_answered(self, kind: str, reply: Reply) -> None:
        code = reply[0]
        if kind != "DATA":
            if code // 100 == 3:
                raise Lost(f"{code} {reply[1]}")
            if code // 100 != 2 and self.refusal is None:
                self.refusal = outcome(reply, REASONS[kind])
            if self.refusal and not self.pipelining:
                self.commands.clear()
                self._refused()
            return
        if code // 100 == 2:
            raise Lost(f"{code} {reply[1]}")
        if code // 100 == 3 and self.refusal is None:
            self._text()
        elif code // 100 == 3:
            # RFC 2920 section 3.1: a server may want a text for nobody; an empty one ends it.
            self.expected.append("void")
            self._write(b".\r\n")
        else:
            self.refusal = self.refusal or outcome(reply, REASONS[kind])
            self._refused()

    def _text(self) -> None:
        assert self.current is not None
        data = self.current.data
        self.writing_text = True
        self._write(data if isinstance(data, Wire) else Wire.of(data))

    def _refused(self) -> None:
        assert self.current is not None
        assert self.refusal is not None
        self.news.append((self.current.key, self.refusal))
        # Whatever the server still holds of this message must not meet the next one.
        self.current, self.refusal, self.stale = None, None, True

    def overdue(self, now: float) -> str:
        """Return what the server has been silent about for too long, if anything."""
        waiting = "text" if self.out else self.expected[0] if self.expected else ""
        return waiting if waiting and now - self.since > PATIENCE[waiting] else ""


def international(message: Message) -> bool:
    """Tell whether an address on the envelope or in a header has letters that only RFC 6531 lets through."""
    return not ((message.recipient + message.sender).isascii() and message.data.isascii())


def xtext(address: str) -> str:
    """Write an address as RFC 3461 section 4 and RFC 6533 section 3 want it."""
    plain = (letter if 33 <= ord(letter) <= 126 and letter not in "+=\\" else _escaped(letter) for letter in address)
    return "".join(plain)


def _escaped(letter: str) -> str:
    return f"+{ord(letter):02X}" if ord(letter) < 128 else f"\\x{{{ord(letter):X}}}"
