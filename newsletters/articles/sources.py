"""A source as it was given (address, file, folder) -> the reader for its form."""

import io
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from bs4 import BeautifulSoup
from django.utils.translation import gettext as _

from newsletters.articles import Items, ReadError, feed, markdown, plaintext, reading, wordpress
from newsletters.articles.fetch import Fetched, Guard, absolute, fetch

FORMATS = ("feed", "wordpress", "markdown", "text")
# Plain text is read whole, to find titles in it.
MAX_TEXT = 20_000_000
FEED_TYPES = {"application/rss+xml", "application/atom+xml", "application/rdf+xml"}


@dataclass(frozen=True, slots=True)
class Opened:
    """A source that can be read: where it really is, in which form, and what it holds."""

    location: str
    format: str
    items: Items
    base: str = ""


def open_source(
    source: str, form: str = "", titles: Sequence[str] = (), marker: str = "", guard: Guard | None = None
) -> Opened:
    """Find out what a source is. Raises ReadError with a sentence for the author."""
    if re.match(r"https?://", source, re.IGNORECASE):
        return _address(source, form, titles, marker, guard)
    path = Path(source).expanduser()
    if not path.exists():
        raise ReadError(_("There is no file or folder %(path)s.") % {"path": source})
    form = form or _form_of(path)
    if path.is_dir() and form != "markdown":
        raise ReadError(_("%(path)s is a folder. Only Markdown files are read from a folder.") % {"path": source})
    if form == "markdown":
        return Opened(str(path.resolve()), form, markdown.read(path))
    if form == "text" and path.stat().st_size > MAX_TEXT:
        raise ReadError(_("%(path)s is longer than 20 MB. Cut it into several files.") % {"path": source})
    return Opened(str(path.resolve()), form, _read(path.open("rb"), form, titles, marker))


def _address(source: str, form: str, titles: Sequence[str], marker: str, guard: Guard | None) -> Opened:
    page = fetch(source, guard)
    found = form or _form_of_text(page.body)
    if found == "html":
        page = fetch(feed_of(page), guard)
        found = _form_of_text(page.body)
    if found not in FORMATS or found == "markdown":
        raise ReadError(
            _("%(url)s is neither a feed nor an export. Give the address of the blog or of its feed.")
            % {"url": page.url}
        )
    return Opened(page.url, found, _read(io.BytesIO(page.body), found, titles, marker), page.url)


def _read(stream: BinaryIO, form: str, titles: Sequence[str], marker: str) -> Items:
    with stream:
        if form == "text":
            yield from plaintext.read(stream.read(), titles, marker)
        else:
            yield from (wordpress if form == "wordpress" else feed).read(stream)


def feed_of(page: Fetched) -> str:
    """Return the address of the feed that a blog's page names. Raises ReadError."""
    soup = BeautifulSoup(reading.decode(page.body)[:1_000_000], "html.parser")
    links = [link for link in soup.find_all("link", href=True) if "alternate" in (link.get("rel") or [])]
    feeds = [link for link in links if str(link.get("type") or "").lower() in FEED_TYPES]
    # A post's page and many themes name the feed of the comments too.
    feeds.sort(key=lambda link: "comment" in f"{link['href']} {link.get('title')}".lower())
    if not feeds:
        raise ReadError(_("%(url)s names no feed. Give the feed's own address.") % {"url": page.url})
    base = soup.find("base", href=True)
    return absolute(absolute(page.url, str(base["href"]) if base else ""), str(feeds[0]["href"]))


def _form_of(path: Path) -> str:
    if path.is_dir() or path.suffix.lower() in markdown.ENDS:
        return "markdown"
    with suppress(OSError), path.open("rb") as file:
        form = _form_of_text(file.read(20_000))
        if form in FORMATS and (form != "text" or path.suffix.lower() in {".txt", ".text", ""}):
            return form
    raise ReadError(
        _("The form of %(path)s is not known. Say it with --format feed, wordpress, markdown or text.") % {"path": path}
    )


def _form_of_text(raw: bytes) -> str:
    head = reading.decode(raw[:20_000])
    if "wordpress.org/export/" in head:
        return "wordpress"
    if re.search(r"<(rss|feed|rdf:RDF)\b", head):
        return "feed"
    return "html" if re.search(r"<(!doctype html|html|head|body)\b", head, re.IGNORECASE) else "text"
