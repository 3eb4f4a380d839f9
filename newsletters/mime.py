"""The skeleton of a message in bytes, made once: what differs from reader to reader is spliced in between.

Both parts are quoted-printable (RFC 2045 section 6.7), so that the bytes are the same on every server, whether it
knows 8BITMIME or not.
"""

import html
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import NamedTuple

from newsletters import headers

WIDTH = 76
# "=_" can never stand in quoted-printable text.
BOUNDARY = "=_part_of_this_message"
TABLE = [chr(octet) if 33 <= octet <= 126 and octet != 61 else f"={octet:02X}" for octet in range(256)]
TABLE[32], TABLE[9] = " ", "\t"
# What needs no encoding wherever it stands; most links are such.
SIMPLE = re.compile(r"[A-Za-z0-9/:_~-][A-Za-z0-9/:_~.@#?&;+-]*")

Slot = Callable[[Mapping[str, str]], bytes]


class Field(NamedTuple):
    """What a marker in a text stands for: a value's name, what is said without one, and the space before it."""

    name: str
    fallback: str = ""
    lead: str = ""

    def spoken(self, values: Mapping[str, str]) -> str:
        """Return what one reader reads in this place."""
        value = headers.one_line(values.get(self.name, "")) or self.fallback
        return self.lead + value if value else ""


class Wire(bytes):
    """A message as it may go over the wire: every line ends with CRLF, and none begins with a dot."""

    @classmethod
    def of(cls, data: bytes) -> "Wire":
        """Bring any text into this form: one kind of line end, leading dots doubled (RFC 5321 section 4.5.2)."""
        lines = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").removesuffix(b"\n").split(b"\n")
        return cls(b"".join(b"." * line.startswith(b".") + line + b"\r\n" for line in lines))


@dataclass(frozen=True, slots=True)
class Blueprint:
    """A message with gaps: `static` bytes, and between each two of them a slot.

    `text` and `html` are its parts before they were encoded, with a marker where each of the `fields` goes.
    """

    static: tuple[bytes, ...]
    slots: tuple[Slot, ...]
    text: str = ""
    html: str = ""
    fields: Mapping[str, Field] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        check(self.static)

    def fill(self, values: Mapping[str, str]) -> bytes:
        """Return the complete message for one reader: 7-bit, and a Wire."""
        fillings = [slot(values) for slot in self.slots]
        check(fillings)
        pieces = [self.static[0]] * (2 * len(fillings) + 1)
        pieces[1::2] = fillings
        pieces[2::2] = self.static[1:]
        return Wire(b"".join(pieces))


def check(pieces: Iterable[bytes]) -> None:
    """Raise ValueError where one of these pieces could end a message early, or begin another (SMTP smuggling)."""
    # Each piece is taken to begin a line.
    together = b"\r\n" + b"\r\n".join(pieces)
    ends = together.count(b"\r\n")
    if b"\n." in together or together.count(b"\n") != ends or together.count(b"\r") != ends:
        raise ValueError("A line of this message begins with a dot, or ends with half a line end.")


def blueprint(head: Iterable[bytes | Slot], text: str, markup: str, fields: Mapping[str, Field]) -> Blueprint:
    """Make the blueprint of a multipart/alternative message; `fields` says what each marker in the parts stands for."""
    opening = f'MIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary="{BOUNDARY}"\r\n\r\n'
    made = _compact(
        [
            *head,
            opening.encode(),
            *_part("plain", text, fields, str),
            *_part("html", markup, fields, html.escape),
            f"--{BOUNDARY}--\r\n".encode(),
        ]
    )
    return replace(made, text=text.strip() + "\n", html=markup.strip() + "\n", fields=fields)


def _part(subtype: str, content: str, fields: Mapping[str, Field], escape: Callable[[str], str]) -> list[bytes | Slot]:
    opening = f"--{BOUNDARY}\r\nContent-Type: text/{subtype}; charset=utf-8\r\n"
    pieces: list[bytes | Slot] = [f"{opening}Content-Transfer-Encoding: quoted-printable\r\n\r\n".encode()]
    content = content.strip() + "\n"
    if not fields:
        return [*pieces, quoted(content), b"\r\n"]
    for piece in re.split(f"({'|'.join(fields)})", content):
        if piece in fields:
            pieces.append(_slot(fields[piece], escape))
        elif piece:
            # The soft break lets whatever follows begin a line of its own.
            pieces.append(quoted(piece) + (b"" if piece.endswith("\n") else b"=\r\n"))
    return [*pieces, b"\r\n"]


def _slot(field: Field, escape: Callable[[str], str]) -> Slot:
    name, fallback, lead = field

    def filled(value: str) -> bytes:
        value = headers.one_line(value) or fallback
        return _quoted_value(escape(lead + value)) if value else b""

    # The same name and date stand in many copies; a link is each reader's own.
    known = filled if name.endswith("_url") else lru_cache(maxsize=1024)(filled)
    return lambda values: known(values.get(name, ""))


def _compact(pieces: list[bytes | Slot]) -> Blueprint:
    static, slots, run = [], [], b""
    for piece in pieces:
        if isinstance(piece, bytes):
            run += piece
        else:
            static.append(run)
            slots.append(piece)
            run = b""
    return Blueprint((*static, run), tuple(slots))


def quoted(content: str) -> bytes:
    """Return quoted-printable text that starts on a fresh line; its last line has no line end yet."""
    if SIMPLE.fullmatch(content):
        if len(content) < WIDTH:
            return content.encode()
        # No line may begin with a dot.
        if "." not in content[:: WIDTH - 1]:
            lines = [content[at : at + WIDTH - 1] for at in range(0, len(content), WIDTH - 1)]
            return "=\r\n".join(lines).encode()
    return "\r\n".join(line for long in content.split("\n") for line in _lines(long)).encode()


# A link stands several times in the same copy.
@lru_cache(maxsize=16)
def _quoted_value(value: str) -> bytes:
    return quoted(value) + b"=\r\n"


def _lines(line: str) -> Iterable[str]:
    marks = [TABLE[octet] for octet in line.encode("utf-8", "replace")]
    if marks and marks[-1] in " \t":
        marks[-1] = f"={ord(marks[-1]):02X}"
    short = ""
    for mark in marks:
        if len(short) + len(mark) > WIDTH - 1:
            yield f"{short}="
            short = ""
        # A dot would be doubled on the way; "From " is mangled in mailbox files.
        if short == "From" and mark == " ":
            short = "=46rom"
        short += "=2E" if mark == "." and not short else mark
    yield short
