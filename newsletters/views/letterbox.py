"""Captured mail, where the letterbox is the way out: for a newcomer on this machine, and for superusers."""

import email
import heapq
import ipaddress
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.errors import MessageError
from email.header import decode_header, make_header
from email.message import Message
from functools import wraps
from pathlib import Path

from django.conf import settings
from django.http import FileResponse, Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render

from newsletters.transports import parse
from newsletters.views.frame import SANDBOX, framed

A_PAGE = 30
HEAD_BYTES = 16_384

View = Callable[..., HttpResponseBase]


def letterbox_only(view: View) -> View:
    """Answer 404 unless mail is captured here and who asks sits at this machine or is a superuser."""

    @wraps(view)
    def answer(request: HttpRequest, **path: str) -> HttpResponseBase:
        captured = parse(settings.MAIL_URL).scheme == "letterbox"
        if not captured or not (at_this_machine(request) or request.user.is_superuser):
            raise Http404
        response = view(request, **path)
        response["X-Robots-Tag"] = "noindex, nofollow"
        response["Cache-Control"] = "no-store"
        return response

    return answer


def at_this_machine(request: HttpRequest) -> bool:
    # A proxy on this machine that TRUSTED_PROXIES does not name would make everyone look local.
    if "HTTP_X_FORWARDED_FOR" in request.META or "HTTP_FORWARDED" in request.META:
        return False
    try:
        address = ipaddress.ip_address(request.META.get("REMOTE_ADDR", ""))
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


@dataclass(frozen=True, slots=True, order=True)
class Captured:
    """One line of the list, in the order of arrival. `stamp` is the file's time in nanoseconds."""

    stamp: int
    name: str

    @property
    def at(self) -> datetime:
        return datetime.fromtimestamp(self.stamp / 1e9, UTC)


@letterbox_only
def messages(request: HttpRequest) -> HttpResponse:
    """List what was captured, the newest first; ?before=STAMP-NAME goes on from there."""
    given = re.fullmatch("([0-9]{1,19})-([0-9a-f]{40})", request.GET.get("before", ""))
    limit = Captured(int(given[1]), given[2]) if given else None
    found = (one for one in captured() if limit is None or one < limit)
    # A page's worth in memory, however many messages there are.
    some = heapq.nlargest(A_PAGE + 1, found)
    listed = [(one, headers(one.name)) for one in some[:A_PAGE]]
    older = some[A_PAGE - 1] if some[A_PAGE:] else None
    return render(request, "newsletters/letterbox.html", {"messages": listed, "older": older})


@letterbox_only
def message(request: HttpRequest, name: str) -> HttpResponse:
    with path_of(name).open("rb") as file:
        read = email.message_from_binary_file(file)
    context = {
        "name": name,
        "sandbox": SANDBOX,
        "subject": decoded(read.get("Subject", "")),
        "from": decoded(read.get("From", "")),
        "to": decoded(read.get("To", "")),
        "headers": [(field, decoded(value)) for field, value in read.items()],
        "text": part(read, "text/plain"),
        "has_html": part(read, "text/html") is not None,
    }
    return render(request, "newsletters/letterbox_message.html", context)


@letterbox_only
def html(request: HttpRequest, name: str) -> HttpResponse:
    """Show the HTML part alone, in a box without scripts, forms or anything from elsewhere."""
    with path_of(name).open("rb") as file:
        body = part(email.message_from_binary_file(file), "text/html") or ""
    return framed(body)


@letterbox_only
def source(request: HttpRequest, name: str) -> FileResponse:
    return FileResponse(path_of(name).open("rb"), content_type="text/plain; charset=utf-8")


def captured() -> Iterator[Captured]:
    box = settings.DATA_DIR / "letterbox"
    for folder in (box / "new", box / "cur"):
        if not folder.is_dir():
            continue
        with os.scandir(folder) as entries:
            for entry in entries:
                if re.fullmatch("[0-9a-f]{40}", name := entry.name.partition(":")[0]):
                    yield Captured(entry.stat().st_mtime_ns, name)


def path_of(name: str) -> Path:
    """Return the file of a message; a mail program may have moved it to cur and added its flags. Raises Http404."""
    box = settings.DATA_DIR / "letterbox"
    for path in (box / "new" / name, *(box / "cur").glob(f"{name}*")):
        if path.is_file():
            return path
    raise Http404


def headers(name: str) -> dict[str, str]:
    """Return the few fields a list shows, reading no more than the head of the file."""
    with path_of(name).open("rb") as file:
        head = email.message_from_bytes(file.read(HEAD_BYTES))
    return {field.lower(): decoded(head.get(field, "")) for field in ("Subject", "From", "To")}


def decoded(value: object) -> str:
    """Return a header as people read it; one that is broken as it stands."""
    try:
        return str(make_header(decode_header(str(value))))
    except (LookupError, ValueError, MessageError):
        return str(value)


def part(read: Message, kind: str) -> str | None:
    """Return the first part of a kind as text, or None."""
    for piece in read.walk():
        if piece.get_content_type() == kind:
            payload = piece.get_payload(decode=True)
            assert isinstance(payload, bytes)
            try:
                return payload.decode(piece.get_content_charset() or "utf-8", "replace")
            except (LookupError, ValueError):
                return payload.decode("utf-8", "replace")
    return None
