"""The mailbox that return paths and Reply-To lead to, read over IMAP or POP3.

A message is deleted once it is taken and committed; if the connection breaks before, it is taken again, which changes
nothing. What is no business of ours stays: marked as seen over IMAP, and remembered by us over POP3. Neither is read
again, so that any number of mails is read in the end, in portions, the oldest first.
"""

import hashlib
import imaplib
import logging
import poplib
import re
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from django.db import InterfaceError, OperationalError

from newsletters import bounces
from newsletters.bounces.letter import LONGEST
from newsletters.mailbox_url import Box, parse
from newsletters.models import Heartbeat, Seen

log = logging.getLogger(__name__)

SECONDS = 60
MOST = 500
# Real mail has longer lines than RFC 5322 allows; poplib gives up at 2,048 bytes.
poplib._MAXLINE = LONGEST  # type: ignore[attr-defined]
EVERY = timedelta(minutes=2)

Take = Callable[[bytes, datetime], str]


def due(now: datetime) -> bool:
    """Claim this round: of any number of workers, one reads the mailbox. A clock set back claims at once."""
    row, new = Heartbeat.objects.get_or_create(name="mailbox", defaults={"at": now})
    stale = Heartbeat.objects.filter(pk=row.pk).exclude(at__gt=now - EVERY, at__lte=now)
    return new or bool(stale.update(at=now))


def collect(url: str, now: datetime, take: Take = bounces.take) -> int:
    """Take what lies in the mailbox; return how many messages were ours."""
    box = parse(url)
    return (by_imap if box.scheme.startswith("imap") else by_pop3)(box, now, take)


def by_imap(box: Box, now: datetime, take: Take) -> int:
    done = 0
    with imap(box) as server:
        _ok, found = server.uid("SEARCH", "UNSEEN UNDELETED")
        for uid in (found[0] or b"").split()[:MOST]:
            # Fetched without a trace: whatever happens until the commit, the next round finds it again.
            _ok, data = server.uid("FETCH", uid.decode(), f"(BODY.PEEK[]<0.{LONGEST}>)")
            raw = next((piece[1] for piece in data if isinstance(piece, tuple)), None)
            if raw is None:
                continue
            ours = taken(raw, now, take)
            server.uid("STORE", uid.decode(), "+FLAGS.SILENT", r"(\Deleted)" if ours else r"(\Seen)")
            done += ours
        server.expunge()
    return done


def taken(raw: bytes, now: datetime, take: Take) -> bool:
    """Take one message. What nobody can read is left where it lies: it must not keep the others waiting."""
    try:
        return take(raw, now) != bounces.UNPLACED
    except (OperationalError, InterfaceError):
        raise
    except Exception:
        log.exception("A message in the mailbox could not be taken")
        return False


@contextmanager
def imap(box: Box) -> Iterator[imaplib.IMAP4]:
    if box.scheme == "imaps":
        context = ssl.create_default_context()
        server: imaplib.IMAP4 = imaplib.IMAP4_SSL(box.host, box.port, ssl_context=context, timeout=SECONDS)
    else:
        server = imaplib.IMAP4(box.host, box.port, timeout=SECONDS)
    with server:
        server.login(box.user, box.password)
        folder = re.sub(r'(["\\])', r"\\\1", box.folder)
        answer, data = server.select(f'"{folder}"')
        if answer != "OK":
            raise imaplib.IMAP4.error(f"the folder {box.folder} cannot be opened: {data!r}")
        yield server


def by_pop3(box: Box, now: datetime, take: Take) -> int:
    done = 0
    with pop3(box) as server:
        for index, name in unseen(box, server)[:MOST]:
            _answer, lines, _octets = server.retr(index)
            if taken(b"\r\n".join(lines) + b"\r\n", now, take):
                server.dele(index)
                done += 1
            else:
                Seen.objects.get_or_create(name=name)
    return done


def unseen(box: Box, server: poplib.POP3) -> list[tuple[int, str]]:
    """Return number and name of each message that was not read before; forget those that are gone."""
    _answer, lines, _octets = server.uidl()
    numbered = [(int(number), named(box, uid)) for number, _space, uid in (line.partition(b" ") for line in lines)]
    seen = set(Seen.objects.values_list("name", flat=True))
    for name in seen.difference(name for _number, name in numbered):
        Seen.objects.filter(name=name).delete()
    return [(number, name) for number, name in numbered if name not in seen]


def named(box: Box, uid: bytes) -> str:
    return hashlib.sha256(f"{box.user} {box.host} ".encode() + uid).hexdigest()


@contextmanager
def pop3(box: Box) -> Iterator[poplib.POP3]:
    if box.scheme == "pop3s":
        server: poplib.POP3 = poplib.POP3_SSL(box.host, box.port, timeout=SECONDS, context=ssl.create_default_context())
    else:
        server = poplib.POP3(box.host, box.port, timeout=SECONDS)
    try:
        server.user(box.user)
        server.pass_(box.password)
        yield server
    finally:
        # Without QUIT nothing is deleted (RFC 1939): then it is taken again, which changes nothing.
        try:
            server.quit()
        except (OSError, poplib.error_proto):
            server.close()
