"""One long XML file -> its items, one at a time, in constant memory.

An item is cut out before any XML parser sees it. So a document type with its entities is never read, a broken item
does not disturb its neighbours, and an item of any size is passed over without being held.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.entities import name2codepoint
from typing import BinaryIO

from django.utils.translation import gettext as _
from lxml import etree

from newsletters.articles import MAX_ITEM, Problem, reading

MAX_HEAD = 1_000_000
BEGINNING = 2000
TOKEN = re.compile(r"<!\[CDATA\[|<!--|<(?:atom:)?(?:item|entry)(?=[\s>])|</(?:atom:)?(?:item|entry)\s*>")
OPAQUE = {"<![CDATA[": "]]>", "<!--": "-->"}
LONGEST_TOKEN = 40

NAMESPACES = {
    "content": "http://purl.org/rss/1.0/modules/content/",
    "dc": "http://purl.org/dc/elements/1.1/",
    "atom": "http://www.w3.org/2005/Atom",
    "wp": "http://wordpress.org/export/1.2/",
}
DECLARATION = re.compile(r"""\bxmlns(?::([\w.-]+))?\s*=\s*(?:"([^"<&]*)"|'([^'<&]*)')""")
PREFIX = re.compile(r"</?([A-Za-z_][\w.-]*):|\s([A-Za-z_][\w.-]*):[\w.-]+\s*=")
REFERENCE = re.compile(r"&(?:(#\d+|#x[0-9a-fA-F]+|amp|lt|gt|quot|apos);|(\w{1,40});)?")
TITLE = re.compile(r"<title\b[^>]*>\s*(?:<!\[CDATA\[)?(.*?)(?:\]\]>)?\s*</title", re.DOTALL)


@dataclass(slots=True)
class _Held:
    """What was read of one item, or of what stands before the first. Beyond its limit only the beginning is kept."""

    limit: int
    pieces: list[str] = field(default_factory=list)
    size: int = 0
    closed: bool = False

    def add(self, text: str) -> None:
        self.size += len(text)
        if self.size <= self.limit:
            self.pieces.append(text)
        elif len(self.pieces) > 1:
            self.pieces = ["".join(self.pieces)[:BEGINNING]]

    @property
    def text(self) -> str:
        return "".join(self.pieces)


def split(stream: BinaryIO) -> Iterator[str | Problem]:
    """Yield first what stands before the first item, then each item's own XML, or why it cannot be had."""
    for number, held in enumerate(_groups(_pieces(reading.chunks(stream)))):
        if number == 0 or (held.closed and held.size <= held.limit):
            yield held.text
        elif held.closed:
            reason = _("it is longer than a million characters and was left out.")
            yield Problem(name(number, held.text), reason)
        else:
            yield Problem(name(number, held.text), _("it breaks off in the middle and was left out."))


def _groups(pieces: Iterator[tuple[str, str]]) -> Iterator[_Held]:
    held: _Held | None = _Held(MAX_HEAD)
    before_the_first = True
    for kind, text in pieces:
        if kind == "open":
            if held is not None:
                yield held
            held, before_the_first = _Held(MAX_ITEM), False
        if held is not None:
            held.add(text)
        if kind == "close" and held is not None and not before_the_first:
            held.closed = True
            yield held
            held = None
    if held is not None:
        yield held


def _pieces(texts: Iterator[str]) -> Iterator[tuple[str, str]]:
    """Yield ("open" | "close" | "text", piece). What stands in CDATA or a comment is only text."""
    buffer, until = "", ""
    for chunk in texts:
        buffer += chunk
        while buffer:
            if until:
                end = buffer.find(until)
                cut = end + len(until) if end >= 0 else max(0, len(buffer) - len(until) + 1)
                yield "text", buffer[:cut]
                buffer, until = buffer[cut:], "" if end >= 0 else until
                if end < 0:
                    break
                continue
            token = TOKEN.search(buffer)
            if token is None:
                last = buffer.rfind("<", max(0, len(buffer) - LONGEST_TOKEN))
                yield "text", buffer[:last] if last >= 0 else buffer
                buffer = buffer[last:] if last >= 0 else ""
                break
            yield "text", buffer[: token.start()]
            until = OPAQUE.get(token[0], "")
            yield "text" if until else "close" if token[0].startswith("</") else "open", token[0]
            buffer = buffer[token.end() :]
    yield "text", buffer


def parse(item: str, head: str) -> dict[str, list[etree._Element]]:
    """Return an item's children by name, such as "title" or "content:encoded". Raises etree.XMLSyntaxError."""
    spaces = {match[1]: match[2] or match[3] for match in DECLARATION.finditer(head) if match[1]}
    default = next((match[2] or match[3] for match in DECLARATION.finditer(head) if not match[1]), "")
    for prefix in {match[1] or match[2] for match in PREFIX.finditer(item)} - {"xml", "xmlns"}:
        spaces.setdefault(prefix, NAMESPACES.get(prefix, f"urn:{prefix}"))
    declared = "".join(f' xmlns:{prefix}="{space}"' for prefix, space in spaces.items())
    declared += f' xmlns="{default}"' if default else ""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True)
    document = etree.fromstring(f"<channel{declared}>{_known_references(item)}</channel>".encode(), parser)
    prefixes = {space: prefix for prefix, space in NAMESPACES.items()}
    prefixes |= {space: "wp" for prefix, space in spaces.items() if prefix == "wp"}
    entry = document[0]
    prefixes[etree.QName(entry).namespace or ""] = ""
    children: dict[str, list[etree._Element]] = {}
    for child in entry.iterchildren(tag=etree.Element):
        name = etree.QName(child)
        prefix = prefixes.get(name.namespace or "", "?")
        children.setdefault(f"{prefix}:{name.localname}" if prefix else name.localname, []).append(child)
    return children


def name(number: int, item: str) -> str:
    """Return how the report calls an item: its number and, where it can be seen, its title."""
    title = TITLE.search(item[:5000])
    if title and title[1]:
        return _("item %(number)d, “%(title)s”") % {"number": number, "title": title[1][:80]}
    return _("item %(number)d") % {"number": number}


def _known_references(xml: str) -> str:
    """Turn HTML's names (&nbsp;), which XML does not know, into characters, and any other name into plain text."""

    def one(match: re.Match[str]) -> str:
        if match[1]:
            return match[0]
        if match[2] in name2codepoint:
            return chr(name2codepoint[match[2]])
        return "&amp;" + match[0][1:]

    return REFERENCE.sub(one, xml)
