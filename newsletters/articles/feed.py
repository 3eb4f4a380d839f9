"""RSS 2.0, RSS 1.0 and Atom -> what they hold, one item at a time."""

import re
from collections.abc import Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime
from html import escape, unescape
from typing import BinaryIO

from django.utils.translation import gettext as _
from lxml import etree

from newsletters.articles import Found, Items, Problem, items, shortcodes

Children = dict[str, list[etree._Element]]
EXCERPT_END = re.compile(r"(\[\s*(…|\.\.\.|&#8230;|&hellip;)\s*\]|…|\.\.\.)\s*(</\w+>\s*)*$")
LANGUAGE = re.compile(
    r"""<language>\s*(?:<!\[CDATA\[)?\s*([A-Za-z-]{2,35})|<feed\b[^>]*\bxml:lang=["']([A-Za-z-]{2,35})"""
)


def read(stream: BinaryIO) -> Items:
    """Yield what a feed holds. Needs memory for one item only."""
    parts = items.split(stream)
    head = str(next(parts))
    language = language_of(head)
    for number, part in enumerate(parts, 1):
        if isinstance(part, Problem):
            yield part
            continue
        try:
            yield _found(items.parse(part, head), language)
        except etree.XMLSyntaxError:
            yield Problem(items.name(number, part), _("its XML is broken; it was left out."))


def language_of(head: str) -> str:
    match = LANGUAGE.search(head)
    return (match[1] or match[2]) if match else ""


def _found(children: Children, language: str) -> Found:
    full = first(children, "content:encoded") or _atom_text(children, "content")
    short = first(children, "description") or _atom_text(children, "summary")
    author = children.get("author", [])
    return Found(
        title=plain(_atom_text(children, "title")),
        html=shortcodes.replace(full or short),
        url=_link(children),
        language=language,
        author=plain(first(children, "dc:creator") or (author[0].findtext("{*}name") or "" if len(author) else "")),
        published_at=date(first(children, "pubDate", "published", "dc:date", "updated")),
        categories=tuple(dict.fromkeys(filter(None, map(_category, children.get("category", []))))),
        excerpt_only=not full and bool(EXCERPT_END.search(short.strip())),
    )


def first(children: Children, *names: str) -> str:
    """Return the text of the first of these elements that has any."""
    for name in names:
        for element in children.get(name, []):
            if text := "".join(element.itertext()).strip():
                return text
    return ""


def plain(html: str) -> str:
    """Return a title or a name without markup, on one line."""
    return " ".join(unescape(re.sub(r"</?[a-zA-Z][^<>]{0,200}>", "", html)).split())


def date(text: str) -> datetime | None:
    """Return an RFC 822 or ISO 8601 date, else None."""
    for parse in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            return parse(text)
        except (ValueError, OverflowError):
            continue
    return None


def _atom_text(children: Children, name: str) -> str:
    """Return an element as HTML. Atom says by `type` what it holds (RFC 4287, section 3.1)."""
    for element in children.get(name, []):
        if element.get("type") == "xhtml":
            return "".join(map(_as_html, element))
        if element.get("src") or element.get("type", "html") not in {"html", "text", "text/html", "text/plain"}:
            continue
        text = "".join(element.itertext()).strip()
        if text:
            return escape(text) if element.get("type") in {"text", "text/plain"} else text
    return ""


def _as_html(element: etree._Element) -> str:
    """Return XHTML as HTML: with its namespace, a <br/> would be written as <br></br>, which reads as two."""
    for part in element.iter(etree.Element):
        part.tag = etree.QName(part).localname
    return str(etree.tostring(element, encoding="unicode", method="html"))


def _link(children: Children) -> str:
    for link in children.get("link", []):
        if link.get("href") and link.get("rel", "alternate") == "alternate":
            return str(link.get("href")).strip()
    address = first(children, "link")
    guids: Sequence[etree._Element] = children.get("guid", [])
    if not address and guids and guids[0].get("isPermaLink", "true") == "true":
        address = first(children, "guid")
    return address if address.startswith(("http://", "https://")) else ""


def _category(element: etree._Element) -> str:
    return plain(element.get("label") or element.get("term") or element.text or "")
