"""WordPress's own export (WXR) -> what it holds, one item at a time."""

import re
from collections.abc import Iterator
from datetime import datetime
from html import unescape
from itertools import groupby
from typing import BinaryIO

from django.utils.translation import gettext as _
from lxml import etree

from newsletters.articles import Found, Item, Items, LeftOut, Problem, feed, items, shortcodes

AUTHOR = re.compile(r"<wp:author_(login|display_name)>(?:<!\[CDATA\[)?([^<\]]{1,200})")
STATES = {"draft": "draft", "pending": "draft", "auto-draft": "draft", "private": "private", "future": "scheduled"}
KINDS = {"page": "page", "attachment": "attachment"}


def read(stream: BinaryIO) -> Items:
    """Yield what an export holds: published posts, and everything else as left out."""
    parts = items.split(stream)
    head = str(next(parts))
    language = feed.language_of(head)
    authors = dict(map(_author, head.split("<wp:author>")[1:]))
    for number, part in enumerate(parts, 1):
        if isinstance(part, Problem):
            yield part
            continue
        try:
            yield _item(items.parse(part, head), language, authors)
        except etree.XMLSyntaxError:
            yield Problem(items.name(number, part), _("its XML is broken; it was left out."))


def _author(xml: str) -> tuple[str, str]:
    """Return an author's login and name."""
    said = dict(AUTHOR.findall(xml))
    login = unescape(said.get("login", ""))
    return login, unescape(said.get("display_name", "")) or login


def _item(children: feed.Children, language: str, authors: dict[str, str]) -> Item:
    kind = feed.first(children, "wp:post_type") or "post"
    state = feed.first(children, "wp:status") or "publish"
    if kind != "post":
        return LeftOut(KINDS.get(kind, "other"))
    if state != "publish" or feed.first(children, "wp:post_password"):
        return LeftOut(STATES.get(state, "private" if state == "publish" else "other"))
    login = feed.first(children, "dc:creator")
    return Found(
        title=feed.plain(feed.first(children, "title")),
        html=paragraphs(shortcodes.replace(feed.first(children, "content:encoded"))),
        url=feed.first(children, "link"),
        language=language,
        author=authors.get(login, login),
        published_at=_date(children),
        categories=_terms(children, "category"),
        tags=_terms(children, "post_tag"),
    )


def _date(children: feed.Children) -> datetime | None:
    moment = feed.first(children, "wp:post_date_gmt")
    # A post that was never scheduled has 0000-00-00 here.
    if moment and not moment.startswith("0000"):
        return feed.date(f"{moment}+00:00")
    return feed.date(feed.first(children, "pubDate"))


def _terms(children: feed.Children, domain: str) -> tuple[str, ...]:
    terms = [term for term in children.get("category", []) if term.get("domain", "category") == domain]
    return tuple(dict.fromkeys(feed.plain(term.text or "") for term in terms if term.text))


# What WordPress's wpautop() does when it shows a post: blank lines make paragraphs, single line ends line breaks.
BLOCK = (
    "address|article|aside|audio|blockquote|center|dd|details|div|dl|dt|fieldset|figcaption|figure|footer|form|h[1-6]|"
    "header|hr|iframe|li|main|noscript|object|ol|p|section|summary|table|tbody|td|tfoot|th|thead|tr|ul|video"
)
WHOLE = re.compile(r"<(pre|script|style|textarea|svg|iframe|video|audio|object)\b", re.IGNORECASE)
BLOCK_TAG = re.compile(rf"<(/?)({BLOCK})\b[^<>]*>", re.IGNORECASE)
# Elements whose text stands directly in them
HOLDS_TEXT = re.compile(r"p|li|dd|dt|td|th|h[1-6]|figcaption|summary|address", re.IGNORECASE)


def paragraphs(html: str) -> str:
    """Return a post's text with the paragraphs and line breaks that WordPress shows."""
    if "<!-- wp:" in html:
        return html  # written in WordPress's block editor, which marks its paragraphs itself
    html = html.replace("\r\n", "\n").replace("\r", "\n")
    pieces: list[str] = []
    open_tags: list[str] = []
    end = 0
    for start, stop in _blocks(html):
        pieces += [_text(html[end:start], open_tags), html[start:stop]]
        _follow(html[start:stop], open_tags)
        end = stop
    return "".join(pieces) + _text(html[end:], open_tags)


def _blocks(html: str) -> Iterator[tuple[int, int]]:
    """Yield where block tags stand, and elements whose inside is not a post's text, from end to end."""
    folded, after, endless = html.lower(), 0, set()
    for tag in re.finditer(f"{WHOLE.pattern}|{BLOCK_TAG.pattern}", html, re.IGNORECASE):
        if tag.start() < after:
            continue
        name = (tag[1] or "").lower()
        close = folded.find(f"</{name}", tag.end()) if name and name not in endless else -1
        if name and close < 0:
            endless.add(name)
        elif name:
            after = (folded.find(">", close) + 1) or len(html)
            yield tag.start(), after
        else:
            yield tag.start(), tag.end()


def _follow(tag: str, open_tags: list[str]) -> None:
    match = BLOCK_TAG.fullmatch(tag)
    if not match or match[2].lower() == "hr":
        return
    if not match[1]:
        open_tags.append(match[2].lower())
    elif match[2].lower() in open_tags:
        while open_tags.pop() != match[2].lower():
            pass


def _text(text: str, open_tags: list[str]) -> str:
    lines = [re.sub(r"<br ?/?>$", "", line.strip(" \t")) for line in text.split("\n")]
    blocks = ["<br>\n".join(group) for filled, group in groupby(lines, key=bool) if filled]
    if open_tags and HOLDS_TEXT.fullmatch(open_tags[-1]):
        return "<br><br>".join(blocks)
    return "\n".join(f"<p>{block}</p>" for block in blocks)
