"""What a mail server says (RFC 5321 section 4.2), and what it means for a message."""

import re

from newsletters.transports import Outcome

LONGEST = 65_536
# Enhanced codes (RFC 3463) of a 4xx reply that speak of the server or of us, and not of one mailbox: system, policy.
NOT_THE_MAILBOX = re.compile(r"4[.][37][.]\d")

Reply = tuple[int, str]


class Lost(Exception):
    """The connection is of no more use; the text says why."""


def take(buffer: bytes) -> tuple[list[Reply], bytes]:
    """Return the complete replies of a buffer, and what is left of it. Raises Lost."""
    end = buffer.rfind(b"\n") + 1
    if not end:
        if len(buffer) > LONGEST:
            raise Lost("The server's reply has no end.")
        return [], buffer
    replies, lines, begun = [], [], 0
    at = 0
    for line in buffer[:end].splitlines(keepends=True):
        at += len(line)
        lines.append(line[4:].strip().decode("ascii", "replace"))
        if line[3:4] == b"-":
            continue
        code = int(line[:3]) if line[:3].isdigit() else 0
        replies.append((code, "\n".join(lines)))
        lines, begun = [], at
    return replies, buffer[begun:]


def outcome(reply: Reply, reason: str) -> Outcome:
    """Return what a reply to the dot, or a refusal before it, means. One that makes no sense leaves doubt."""
    code, text = reply
    said = f"{code} {text}".replace("\n", " ")
    if code // 100 == 2:
        return Outcome("sent", "", said)
    if code // 100 == 4:
        return Outcome("retry", "" if code == 421 or NOT_THE_MAILBOX.match(text) else "deferred", said)
    if code // 100 == 5:
        return Outcome("failed", reason, said)
    return Outcome("uncertain", "no reply", said)
