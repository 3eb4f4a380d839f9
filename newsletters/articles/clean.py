"""A blog's HTML -> clean Markdown: what the author said, without what the blog's theme and plug-ins added."""

import hashlib
import re
from collections import Counter

import nh3
from bs4 import BeautifulSoup
from bs4.element import NavigableString, Tag

from newsletters.articles import embeds, reading, writing
from newsletters.articles.fetch import absolute

_TAGS = (
    "a abbr audio b blockquote br cite code dd del div dl dt em embed figcaption figure h1 h2 h3 h4 h5 h6 hr i iframe "
    "img kbd li object ol p pre q s samp small source span strike strong sub sup table tbody td tfoot th thead tr tt u "
    "ul video article aside section header footer main center"
)
ATTRIBUTES = {
    "a": {"href"},
    "img": {"src", "alt", "width", "height", "data-src"},
    "iframe": {"src"},
    "embed": {"src"},
    "object": {"data"},
    "video": {"src"},
    "audio": {"src"},
    "source": {"src"},
    "ol": {"start"},
}
# Left out with what stands between their two ends
CONTENT_TAGS = frozenset(
    {"button", "form", "math", "noscript", "script", "select", "style", "svg", "template", "textarea"}
)
BLOCKS = re.compile(r"^(p|div|section|article|blockquote|figure|figcaption|h[1-6]|ul|ol)$")
BARE_ADDRESS = re.compile(r"""https?://[^\s<>"«»“”]+[^\s<>"«»“”.,;:!?)\]'’…]""")
# What WordPress puts under each article of a feed
FEED_FOOTER = re.compile(
    r"^(The post|L[’']article|Cet article) .{1,400} (appeared first on|est apparu en premier sur) .{1,200}$"
)
# Nested beyond this no person wrote it. Elements that may stand without an end tag do not count.
DEEPEST = 150
MOST_TAGS = 40_000
SHALLOW = frozenset({"br", "img", "hr", "p", "li", "source", "embed", "td", "tr", "th", "input", "wbr", "meta", "link"})


class TangledError(Exception):
    """HTML with more elements, or nested deeper, than anything a person wrote."""


def to_markdown(html: str, base: str = "") -> str:
    """Return the Markdown of a blog's HTML; `base` makes relative addresses whole. Raises TangledError.

    Media lines come in the active language. The result holds no raw HTML, and plain text in it stays plain.
    """
    html = re.sub(r"([ \t\n]{100})[ \t\n]+", r"\1", reading.clean_characters(html))
    _measure(html)
    clean = nh3.clean(
        html,
        tags=set(_TAGS.split()),
        clean_content_tags=set(CONTENT_TAGS),
        attributes=ATTRIBUTES,
        url_schemes={"http", "https", "mailto", "tel"},
        link_rel=None,
    )
    soup = BeautifulSoup(clean, "html.parser")
    embeds.replace(soup, base)
    _complete_addresses(soup, base)
    _link_bare_addresses(soup)
    _drop_what_is_empty(soup)
    markdown = writing.write(soup)
    return _tidy(markdown)


def fingerprint(markdown: str) -> str:
    """Return SHA-256, in hex, of the letters and digits a reader sees: the same through every form of a blog."""
    visible = re.sub(r"\]\((?:[^()\s]|\([^()\s]*\))*(?:\s+\"[^\"]*\")?\)", "]", markdown)
    letters = "".join(character for character in visible if character.isalnum())
    return hashlib.sha256((letters or markdown).encode()).hexdigest()


def loose(markdown: str) -> str:
    """Return a text as it is compared: without escapes, marks of lists and autolinks, and with single spaces."""
    text = re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", markdown)
    text = re.sub(r"<(https?://[^<>\s]+)>", r"\1", text)
    return " ".join(text.split())


def _measure(html: str) -> None:
    still_open: Counter[str] = Counter()
    for number, tag in enumerate(re.finditer(r"<(/?)([a-zA-Z][a-zA-Z0-9]{0,20})", html)):
        name = tag[2].lower()
        if name not in SHALLOW and (not tag[1] or still_open[name]):
            still_open[name] += -1 if tag[1] else 1
        if number > MOST_TAGS or still_open.total() > DEEPEST:
            raise TangledError


def _complete_addresses(soup: BeautifulSoup, base: str) -> None:
    for link in soup.find_all("a"):
        href = str(link.get("href") or "").strip()
        whole = absolute(base, href)
        if not href or href.startswith("#") or not whole.startswith(("http://", "https://", "mailto:", "tel:")):
            link.unwrap()
        else:
            link["href"] = whole
    for image in soup.find_all("img"):
        source = absolute(base, str(image.get("data-src") or image.get("src") or "").strip())
        # A picture of one pixel watches; it shows nothing.
        pixel = {str(image.get("width")), str(image.get("height"))} & {"0", "1"}
        if pixel or not source.startswith(("http://", "https://")):
            image.decompose()
        else:
            image["src"] = source


def _link_bare_addresses(soup: BeautifulSoup) -> None:
    for text in soup.find_all(string=BARE_ADDRESS):
        if text.find_parent(["a", "pre", "code"]):
            continue
        pieces: list[NavigableString | Tag] = []
        end = 0
        for match in BARE_ADDRESS.finditer(text):
            if text.startswith(("…", "..."), match.end()):
                continue  # a shortened address leads nowhere
            link = soup.new_tag("a", href=match[0])
            link.string = match[0]
            pieces += [NavigableString(text[end : match.start()]), link]
            end = match.end()
        text.replace_with(*pieces, NavigableString(text[end:]))


def _drop_what_is_empty(soup: BeautifulSoup) -> None:
    for line_break in soup.find_all("br"):
        after = line_break.next_sibling
        if isinstance(after, NavigableString):
            after.replace_with(NavigableString(after.lstrip(" \t\r\n")))
    for block in reversed(soup.find_all(BLOCKS)):
        # A lone full stop is how WordPress authors make room.
        if block.get_text().strip() in ("", ".") and not block.find(["img", "hr", "li", "td"]):
            block.decompose()
    last = next(reversed(soup.find_all("p")), None)
    if last and FEED_FOOTER.match(" ".join(last.get_text().split())):
        last.decompose()


def _tidy(markdown: str) -> str:
    markdown = reading.UNWANTED.sub("", markdown)  # &#1; was no control character before
    markdown = re.sub(r"(?m)^[ \t\u00a0\u202f]+$", "", markdown)
    markdown = re.sub(r"(?<![ \t])[ \t]+(\n\n|\Z)", r"\1", markdown)
    return re.sub(r"\n{3,}", "\n\n", markdown).strip()
