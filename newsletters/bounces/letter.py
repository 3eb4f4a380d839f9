"""A message from outside taken apart, whatever it is: linear in its size, never deeper than some levels, never raising.

Python's own parser is not used: it recurses as deep as a hostile message wants, and what comes back from the mail
servers of the world is seldom well-formed.
"""

import base64
import binascii
import codecs
import html
import quopri
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from functools import cached_property

# What is longer is cut off: a report stands at the front.
LONGEST = 1 << 20
DEPTH, PARTS, HEADERS = 6, 60, 1000
# Of a page, and of what it says
PAGE, SAID = 100_000, 40_000
BLANK = re.compile(rb"\r?\n\r?\n|\A\r?\n")
RETURNED = {"message/rfc822", "text/rfc822-headers", "message/global", "message/global-headers", "message/partial"}
GUESS = re.compile(rb"^--(\S{1,70})[ \t]*\r?\nContent-", re.MULTILINE | re.IGNORECASE)
FIELD = re.compile(r"([A-Za-z][A-Za-z0-9_-]{0,70})[ \t]*:(.*)", re.DOTALL)
SCRIPT = re.compile(r"<(?:style|script|title)\b[^<>]{0,500}+>[^<]{0,20000}+", re.IGNORECASE)
BREAK = re.compile(r"<(?:br|p|div|tr|td|li|h\d)\b[^<>]{0,500}+>|</(?:p|div|tr|td|li|h\d)>", re.IGNORECASE)
TAG = re.compile(r"</?[A-Za-z!][^<>@]{0,2000}+>")


@dataclass(frozen=True, slots=True)
class Part:
    """One piece without pieces of its own; `returned` where it belongs to the message that is reported on.

    `cut` says that the message ends in the middle of it: what it says may mean something else.
    """

    kind: str
    headers: dict[str, list[str]]
    text: str
    returned: bool = False
    cut: bool = False

    def header(self, name: str) -> str:
        return (self.headers.get(name) or [""])[0]


@dataclass(frozen=True)
class Letter:
    """`returned` are the headers of the message that came back, as far as they did."""

    headers: dict[str, list[str]]
    kind: str
    parts: list[Part] = field(default_factory=list)
    returned: dict[str, list[str]] = field(default_factory=dict)

    def header(self, name: str) -> str:
        return (self.headers.get(name) or [""])[0]

    def of_kind(self, *kinds: str) -> list[Part]:
        return [part for part in self.parts if part.kind in kinds]

    @cached_property
    def text(self) -> str:
        """What its writer says: the plain text, else the HTML's."""
        own = [part for part in self.parts if not part.returned]
        plain = [part.text for part in own if part.kind == "text/plain"]
        return "\n".join(plain or [spoken(part.text) for part in own if part.kind == "text/html"])


def read(raw: bytes) -> Letter:
    """Take a message apart."""
    raw = raw[:LONGEST]
    headers, _body = split(raw)
    parts = list(walk(raw, "text/plain", False, DEPTH))[:PARTS]
    returned: dict[str, list[str]] = {}
    for part in parts:
        if part.returned and part.kind in RETURNED and not returned:
            returned = fields(part.text)
    return Letter(headers, media(headers, "text/plain")[0], parts, returned)


def walk(raw: bytes, default: str, returned: bool, depth: int, cut: bool = False) -> Iterator[Part]:
    """Yield the leaves of a message or part."""
    headers, body = split(raw)
    kind, content_type = media(headers, default)
    boundary = parameter(content_type, "boundary")
    inside, closed = pieces(body, boundary) if kind.startswith("multipart/") and depth else ([], True)
    if inside:
        for number, piece in enumerate(inside, 1):
            yield from walk(piece, "text/plain", returned, depth - 1, number == len(inside) and not closed)
        return
    if kind.startswith("multipart/"):
        kind, cut = "text/plain", True
    text = decoded(body, headers, content_type)
    if kind in RETURNED:
        yield Part(kind, headers, text, True, cut)
        if kind == "message/rfc822" and depth:
            # A report that someone passed on lies one level down.
            yield from walk(body.lstrip(), "text/plain", True, depth - 1)
        return
    yield Part(kind, headers, text, returned, cut)


def split(raw: bytes) -> tuple[dict[str, list[str]], bytes]:
    """Part a message into its headers and its body."""
    end = BLANK.search(raw)
    head, body = (raw[: end.start()], raw[end.end() :]) if end else (raw, b"")
    return fields(head.decode("utf-8", "replace")), body


def fields(text: str) -> dict[str, list[str]]:
    """Read the headers at the head of a text, unfolded, by lower-case name."""
    found: dict[str, list[str]] = {}
    last: list[str] | None = None
    for line in text.lstrip("\r\n").split("\n")[:HEADERS]:
        line = line.rstrip("\r")
        if not line.strip():
            break
        if line[0] in " \t":
            if last is not None and len(last[-1]) < 20_000:
                last[-1] += " " + line.strip()
            continue
        if match := FIELD.match(line):
            last = found.setdefault(match[1].lower(), [])
            last.append(match[2].strip()[:20_000])
    return found


def media(headers: dict[str, list[str]], default: str) -> tuple[str, str]:
    """Return the media type in lower case, and the whole Content-Type."""
    content_type = (headers.get("content-type") or [default])[0]
    kind = content_type.partition(";")[0].strip().lower()
    return (kind if "/" in kind else default), content_type


def parameter(content_type: str, name: str) -> str:
    match = re.search(rf'\b{name}\s*=\s*(?:"([^"]{{1,200}})"|([^\s;"]{{1,200}}))', content_type, re.IGNORECASE)
    return (match[1] or match[2]).strip() if match else ""


def pieces(body: bytes, boundary: str) -> tuple[list[bytes], bool]:
    """Cut a multipart body at its boundaries, and tell whether the last of them was there.

    What stands before the first and after the last is dropped. A boundary that is announced and never comes is
    guessed: some servers write another one.
    """
    if not boundary or b"--" + boundary.encode("utf-8", "replace") not in body:
        guessed = GUESS.search(body)
        boundary = guessed[1].decode("utf-8", "replace") if guessed else ""
    if not boundary:
        return [], False
    line = rb"(?:\A|\n)--" + re.escape(boundary.encode("utf-8", "replace")) + rb"(--)?[ \t]*\r?(?=\n|\Z)"
    found = re.split(line, body)
    inside: list[bytes] = []
    for closing, piece in zip(found[1::2], found[2::2], strict=True):
        if closing:
            return inside[:PARTS], True
        inside.append(piece[1:] if piece.startswith(b"\n") else piece)
    return inside[:PARTS], False


def decoded(body: bytes, headers: dict[str, list[str]], content_type: str) -> str:
    """Undo a part's transfer encoding and its charset, as far as either is known."""
    encoding = (headers.get("content-transfer-encoding") or [""])[0].strip().lower()
    if encoding == "base64":
        try:
            body = base64.b64decode(re.sub(rb"[^A-Za-z0-9+/]", b"", body) + b"==")
        except binascii.Error:
            pass
    elif encoding == "quoted-printable":
        body = quopri.decodestring(body)
    return in_charset(body, parameter(content_type, "charset") or "utf-8")


def in_charset(body: bytes, charset: str) -> str:
    try:
        # Python also knows codecs that are no character sets.
        charset = codecs.lookup(charset).name
        return sound(
            body.decode(charset if charset not in {"idna", "punycode", "unicode_escape"} else "utf-8", "replace")
        )
    except (LookupError, ValueError):
        return body.decode("latin-1")


def sound(text: str) -> str:
    """Return a text without what no database takes: NUL, and halves of surrogate pairs, which UTF-7 may bring."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode()


def spoken(page: str) -> str:
    """Return the text of an HTML page, roughly: enough to find a sentence in it."""
    page = BREAK.sub("\n", SCRIPT.sub(" ", page[:PAGE]))
    return html.unescape(TAG.sub("", page)[:SAID])


def words(header: str) -> str:
    """Return a header as people read it (RFC 2047)."""
    try:
        return sound(str(make_header(decode_header(header[:2000]))))
    except (HeaderParseError, LookupError, ValueError, binascii.Error):
        return sound(header)
