"""Markdown -> clean HTML. What an author or a blog wrote is never trusted: no raw HTML, and nh3 at the end.

CommonMark with tables and bare web addresses as links; a line break that was typed is a line break. Two turns of
writing have a look of their own: a quotation that begins in bold ("> **Your step today.** ...") is set apart as the
step, and in a mail the last paragraph that holds nothing but a link is its button.
"""

from collections.abc import Callable, Iterator
from urllib.parse import urljoin, urlsplit

import nh3
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from markdown_it import MarkdownIt
from markdown_it.token import Token

from newsletters import personal

# The address of a link or an image -> the one to write; empty: it may not be followed.
Address = Callable[[str], str]

SCHEMES = {"http", "https", "mailto", "tel"}
LONGEST_BUTTON = 60
GAP = '<div class="gap">&nbsp;</div>\n'
TAGS = {
    *("a", "br", "code", "em", "img", "s", "strong"),
    *("blockquote", "div", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre", "ul"),
    *("table", "tbody", "td", "th", "thead", "tr"),
}
ATTRIBUTES = {
    "a": {"href", "title"},
    "img": {"src", "alt", "title", "class"},
    "ol": {"start"},
    "p": {"class"},
    "div": {"class"},
    "table": {"role", "width", "class"},
    "td": {"class", "style"},
    "th": {"style"},
}

_markdown = MarkdownIt("commonmark", {"html": False, "linkify": True, "breaks": True})
_markdown.enable(["linkify", "table"])
assert _markdown.linkify is not None
# "fin.Et" is no address: only one with http:// before it becomes a link.
_markdown.linkify.set({"fuzzy_link": False, "fuzzy_email": False})


def reachable(url: str) -> str:
    """Return an address if its scheme is one that a reader may follow, or if it stays on this site; else nothing."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    if parts.scheme:
        return url if parts.scheme in SCHEMES else ""
    # A browser reads "/\" and "//" as another site's address.
    return "" if parts.netloc or url[:2] in {"//", "/\\"} else url


def html(markdown: str, base: str = "") -> SafeString:
    """Return HTML for a web page, relative links as seen from the address `base`.

    Pictures become links: pages load nothing from other sites.
    """
    tokens = parse(personal.spoken(markdown, {}), lambda url: reachable(urljoin(base, url)))
    for token in _walk(tokens):
        if token.type == "image":
            _into_link(token)
    _open_and_close(tokens, "blockquote", _is_step, '<div class="step">\n', "</div>\n")
    return _clean(_markdown.renderer.render(tokens, _markdown.options, {}), "noopener noreferrer")


def email_html(markdown: str, address: Address = reachable) -> SafeString:
    """Return HTML for the body of a mail, as classes of the mail's template and with presentation tables."""
    tokens = parse(markdown, address)
    for token in _walk(tokens):
        if token.type == "image":
            token.attrSet("class", "picture")
        elif token.type == "table_open":
            token.attrSet("class", "data")
    step = '<table role="presentation" width="100%"><tr><td class="step">\n'
    _open_and_close(tokens, "blockquote", _is_step, step, f"</td></tr></table>\n{GAP}")
    button = '<table role="presentation"><tr><td class="button">'
    last = [at for at, _token in enumerate(tokens) if is_button(tokens, at)][-1:]
    _open_and_close(tokens, "paragraph", lambda _, at: at in last, button, f"</td></tr></table>\n{GAP}")
    return _clean(_markdown.renderer.render(tokens, _markdown.options, {}), None)


def parse(markdown: str, address: Address) -> list[Token]:
    """Return markdown-it's tokens, each address passed through `address`, headings below the page's own."""
    tokens = _markdown.parse(markdown)
    for token in _walk(tokens):
        for name in ("href", "src"):
            if name in token.attrs:
                token.attrSet(name, address(str(token.attrs[name])))
        if token.tag == "h1":
            token.tag = "h2"
    for token in tokens:
        if token.children:
            token.children = _without_dead_links(token.children)
    return tokens


def lone_link(inline: Token) -> bool:
    """Tell whether a paragraph's content is one link and nothing else."""
    children = _shown(inline)
    ends = [at for at, child in enumerate(children) if child.type == "link_close"]
    return bool(children) and children[0].type == "link_open" and ends == [len(children) - 1]


def is_button(tokens: list[Token], at: int) -> bool:
    """Tell whether a paragraph opens here that may be drawn as a button: a short lone link with words of its own."""
    if tokens[at].type != "paragraph_open" or tokens[at].level or not lone_link(tokens[at + 1]):
        return False
    link, *words, _end = _shown(tokens[at + 1])
    return (
        link.info != "auto"
        and {word.type for word in words} <= {"text", "text_special"}
        and len("".join(word.content for word in words)) <= LONGEST_BUTTON
    )


def _shown(inline: Token) -> list[Token]:
    """Return what a paragraph says, without what is empty and without the marks of emphasis."""
    marks = {"strong_open", "strong_close", "em_open", "em_close"}
    return [
        child for child in inline.children or [] if child.type not in marks and (child.content or child.type != "text")
    ]


def _is_step(tokens: list[Token], at: int) -> bool:
    inline = tokens[at + 2] if len(tokens) > at + 2 else None
    shown = [child for child in (inline.children or []) if child.content or child.type != "text"] if inline else []
    return bool(shown) and shown[0].type == "strong_open"


def _open_and_close(
    tokens: list[Token], kind: str, chosen: Callable[[list[Token], int], bool], before: str, after: str
) -> None:
    """Write other tags around the blocks of a kind that are chosen."""
    for at, token in enumerate(tokens):
        if token.type == f"{kind}_open" and chosen(tokens, at):
            end = next(
                i
                for i in range(at, len(tokens))
                if tokens[i].type == f"{kind}_close" and tokens[i].level == token.level
            )
            tokens[at] = Token("html_block", "", 0, content=before, level=token.level)
            tokens[end] = Token("html_block", "", 0, content=after, level=token.level)


def _without_dead_links(children: list[Token]) -> list[Token]:
    kept: list[Token] = []
    dead = False
    for child in children:
        if child.type == "link_open":
            dead = not child.attrs.get("href")
        gone = dead and child.type in {"link_open", "link_close"}
        if not gone and not (child.type == "image" and not child.attrs.get("src")):
            kept.append(child)
    return kept


def _into_link(image: Token) -> None:
    label = image.content or _("Picture")
    image.content = f'<a href="{escape(image.attrs["src"])}">{escape(label)}</a>'
    image.type, image.children = "html_inline", None


def _walk(tokens: list[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from token.children or []


def _clean(markup: str, rel: str | None) -> SafeString:
    cleaned = nh3.clean(markup, tags=TAGS, attributes=ATTRIBUTES, url_schemes=SCHEMES, link_rel=rel)
    return mark_safe(cleaned)
