"""A folder of Markdown files with front matter (Jekyll, Hugo, Ghost, a plain folder) -> what they hold."""

import re
from collections.abc import Iterable
from datetime import date, datetime, time
from pathlib import Path

import frontmatter
import yaml
from django.utils.translation import gettext as _
from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore

from newsletters.articles import MAX_ITEM, Found, Item, Items, LeftOut, Problem, feed, plaintext, reading

ENDS = (".md", ".markdown", ".mdown")
# Beyond this a front matter is an attack by aliases, not a description.
MAX_FRONT_MATTER = 20_000
FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?\n)?---[ \t]*(?:\n|\Z)", re.DOTALL)


def read(folder: Path) -> Items:
    """Yield the articles of a folder and its sub-folders in the order of their names, or that of one file."""
    files = [folder] if folder.is_file() else sorted(folder.rglob("*"))
    for file in files:
        if file.suffix.lower() in ENDS and file.is_file() and not file.name.startswith((".", "_", "README")):
            yield _file(file)


def _file(file: Path) -> Item:
    if file.stat().st_size > MAX_ITEM:
        return Problem(file.name, _("it is longer than a million characters and was left out."))
    text = reading.decode(file.read_bytes())
    head = FRONT_MATTER.match(text)
    try:
        if head and (len(head[0]) > MAX_FRONT_MATTER or re.search(r"(?m)[:\-\[{,]\s*[&*]\w", head[0])):
            return Problem(file.name, _("its front matter uses aliases or is too long; it was left out."))
        post = frontmatter.loads(text)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError):
        return Problem(file.name, _("its front matter is broken: check the lines between the two ---."))
    facts = {str(name).lower(): value for name, value in post.metadata.items()}
    if (
        facts.get("draft")
        or facts.get("published") is False
        or facts.get("status", "published") not in ("published", "publish")
    ):
        return LeftOut("draft")
    return _found(facts, post.content, file)


def _found(facts: dict[str, object], content: str, file: Path) -> Found:
    title = _text(facts.get("title"))
    heading = re.match(r"\s*#\s+(.+?)\s*#*\n+", content + "\n")
    if heading and title in ("", heading[1]):
        title, content = heading[1], content[heading.end() :]
    address = _text(facts.get("url") or facts.get("canonical_url") or facts.get("canonical") or facts.get("link"))
    return Found(
        title=title or file.stem.replace("-", " ").replace("_", " "),
        html=to_html(content),
        url=address if address.startswith(("http://", "https://")) else "",
        language=_text(facts.get("language") or facts.get("lang")),
        author=_text(facts.get("author")),
        published_at=_date(facts.get("date") or facts.get("published_at") or file.name[:10]),
        categories=_words(facts.get("categories") or facts.get("category")),
        tags=_words(facts.get("tags")),
    )


def to_html(markdown: str) -> str:
    """Return an author's Markdown as HTML, which is not yet clean."""
    return str(_READER.render(markdown))


def _keep_line_ends(state: StateCore) -> None:
    for token in state.tokens:
        if token.type == "inline" and token.children and not plaintext.is_wrapped(token.content):
            for child in token.children:
                child.type = "hardbreak" if child.type == "softbreak" else child.type
                child.tag = "br" if child.type == "hardbreak" else child.tag


def _text(value: object) -> str:
    return " ".join(str(value).split()) if isinstance(value, str | int | float | date) else ""


def _date(value: object) -> datetime | None:
    if isinstance(value, datetime):
        return value
    return datetime.combine(value, time()) if isinstance(value, date) else feed.date(_text(value))


def _words(value: object) -> tuple[str, ...]:
    listed: Iterable[object] = value if isinstance(value, list) else [value]
    return tuple(dict.fromkeys(filter(None, map(_text, listed))))


_READER = MarkdownIt("commonmark", {"html": True, "linkify": False}).enable(["table", "strikethrough"])
_READER.core.ruler.push("keep_line_ends", _keep_line_ends)
