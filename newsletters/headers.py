"""Our own header writer: bytes with CRLF, folded, 7-bit, and nothing from outside that could start a new line.

Python's `email` package will not do: it encodes a long List-Unsubscribe until no client understands it, encodes the
identifier of a List-Id together with its phrase, and in older versions lets a newline through (CVE-2024-6923).
"""

import base64
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

import idna

WIDTH = 76
WEB = re.compile(r"https?://[!-;=?-~]+")
ATOM = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
# RFC 2047 section 5(3): what may stand for itself in the encoded word of a phrase
LITERAL = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/")
# Control characters, line and paragraph separators, the signs that turn the direction of what follows, half characters
UNFIT = re.compile("[\x00- \x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]+")


def one_line(text: str) -> str:
    """Return text as one line, without control characters and with single spaces."""
    if text.isprintable() and "  " not in text:
        return text.strip(" ")
    return UNFIT.sub(" ", text).strip()


def plain(name: str, value: str) -> bytes:
    """Write a header of ASCII on one physical line; other characters are dropped."""
    return f"{name}: {one_line(value)}\r\n".encode("ascii", "ignore")


def address_list(name: str, url: str) -> bytes:
    """Write an RFC 2369 header with one address, never folded nor encoded; nothing where there is no web address."""
    if not WEB.fullmatch(url):
        return b""
    return f"{name}: <{url}>\r\n".encode()


def text(name: str, value: str) -> bytes:
    """Write an unstructured header such as a subject: RFC 2047 where it is not short plain ASCII."""
    value = one_line(value)
    room = WIDTH - len(name) - 2
    if is_plain(value) and all(len(word) < room for word in value.split(" ")):
        return _folded(name, value.split(" "))
    return _folded(name, encoded_words(value, room))


def mailbox(name: str, phrase: str, address: str) -> bytes:
    """Write a header with one mailbox; its domain as A-labels (RFC 5890), its phrase quoted or encoded."""
    spec = addr_spec(address)
    words = phrase_words(phrase, WIDTH - len(name) - 2)
    return _folded(name, [*words, f"<{spec}>"] if words else [spec])


def list_id(phrase: str, identifier: str) -> bytes:
    """Write List-Id (RFC 2919): only the phrase may be encoded."""
    return _folded("List-Id", [*phrase_words(phrase, WIDTH - 9), f"<{identifier}>"])


# Many readers share a first name.
@lru_cache(maxsize=4096)
def phrase_words(phrase: str, room: int) -> Sequence[str]:
    phrase = one_line(phrase)
    if not phrase:
        return []
    if re.fullmatch(r"[\w !#$%&'*+/=^`{|}~-]+", phrase, re.ASCII) and len(phrase) <= room:
        return [phrase]
    quoted = '"' + re.sub(r'(["\\])', r"\\\1", phrase) + '"'
    if is_plain(phrase) and len(quoted) <= room:
        return [quoted]
    return encoded_words(phrase, room)


@lru_cache(maxsize=64)
def addr_spec(address: str) -> str:
    """Return an address as RFC 5322 spells it: in ASCII, but for a local part that only RFC 6532 knows."""
    local, _, domain = one_line(address).rpartition("@")
    if not ATOM.fullmatch(local) and (local.isascii() or not local.isalnum()):
        local = '"' + re.sub(r'(["\\])', r"\\\1", local) + '"'
    if not domain.isascii():
        try:
            domain = idna.encode(domain, uts46=True).decode()
        except idna.IDNAError:
            pass
    return f"{local}@{domain}"


def is_plain(value: str) -> bool:
    """Tell whether a value can stand as it is: printable ASCII that nobody takes for an encoded word."""
    return value.isascii() and "=?" not in value


def encoded_words(value: str, room: int) -> list[str]:
    """Return RFC 2047 words of at most 75 characters that never part a character; the first takes at most `room`."""
    # Quoted letters can be read by eye; where most would be quoted, base64 takes half the room.
    as_q = len(_q(value)) <= 2 * len(value.encode())
    words: list[str] = []
    start = length = 0
    for at, character in enumerate(value):
        cost = len(_q(character)) if as_q else len(character.encode())
        limit = min(75, room if not words else WIDTH - 1) - len("=?utf-8?q??=")
        if length + cost > (limit if as_q else limit // 4 * 3):
            words.append(value[start:at])
            start, length = at, 0
        length += cost
    words.append(value[start:])
    return [f"=?utf-8?q?{_q(word)}?=" if as_q else f"=?utf-8?b?{_b(word)}?=" for word in words]


def _q(value: str) -> str:
    return "".join("_" if byte == 32 else chr(byte) if byte in LITERAL else f"={byte:02X}" for byte in value.encode())


def _b(value: str) -> str:
    return base64.b64encode(value.encode()).decode()


def _folded(name: str, words: Iterable[str]) -> bytes:
    lines = [f"{name}:"]
    for word in words:
        # The first word stays on the name's line: some readers take an empty first line for the end.
        if len(lines[-1]) + 1 + len(word) > WIDTH and lines[-1] != f"{name}:":
            lines.append("")
        lines[-1] += f" {word}"
    return "\r\n".join(lines).encode() + b"\r\n"
