"""Bytes from outside -> text: any encoding, no control characters, nothing that stops a reader halfway."""

import codecs
import re
import unicodedata
from collections.abc import Iterator
from typing import BinaryIO

from charset_normalizer import from_bytes

CHUNK = 64 * 1024
DECLARED = re.compile(rb"""^<\?xml[^>]{0,200}?encoding\s*=\s*["']([A-Za-z0-9._-]{1,40})""")
# What XML 1.0 forbids, and the separators and marks that come along when text is copied from a page.
UNWANTED = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\u200b\u2028\u2029\u2060\ufdd0-\ufdef\ufeff\ufffe\uffff]"
)
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def _as_windows_1252(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return error.object[error.start : error.end].decode("cp1252", "replace"), error.end


# A text that calls itself UTF-8 and holds single other bytes was pasted together on Windows.
codecs.register_error("windows-1252", _as_windows_1252)


def clean_characters(text: str) -> str:
    """Return the text composed (NFC), with plain line ends and without control characters."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return unicodedata.normalize("NFC", UNWANTED.sub("", text))


def decode(raw: bytes) -> str:
    """Return a whole text, whatever its encoding."""
    encoding = _encoding(raw, len(raw))
    if encoding == "utf-8" and not _is_utf8(raw, final=True):
        guess = from_bytes(raw[:CHUNK]).best()
        encoding = guess.encoding if guess else "cp1252"
        return clean_characters(raw.decode(encoding, "replace"))
    return clean_characters(raw.decode(encoding, "windows-1252" if encoding == "utf-8" else "replace"))


def chunks(stream: BinaryIO) -> Iterator[str]:
    """Yield a text of any length in pieces, in constant memory."""
    first = stream.read(CHUNK)
    encoding = _encoding(first, CHUNK)
    errors = "windows-1252" if encoding == "utf-8" else "replace"
    decoder = codecs.getincrementaldecoder(encoding)(errors)
    while first:
        yield UNWANTED.sub("", decoder.decode(first))
        first = stream.read(CHUNK)
    yield decoder.decode(b"", True)


def _encoding(head: bytes, whole: int) -> str:
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if head.startswith(mark):
            return encoding
    declared = DECLARED.match(head.lstrip())
    if not declared or _is_utf8(head, final=len(head) < whole):
        return "utf-8"
    try:
        return codecs.lookup(declared[1].decode()).name
    except LookupError:
        return "utf-8"


def _is_utf8(raw: bytes, final: bool) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(raw, final)
    except UnicodeDecodeError:
        return False
    return True
