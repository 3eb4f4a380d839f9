"""A clean HTML tree -> Markdown in which plain text stays plain."""

import re
from typing import Any

from bs4 import BeautifulSoup
from bs4.element import Tag
from markdownify import MarkdownConverter


def write(soup: BeautifulSoup) -> str:
    _number(soup)
    return str(_Writer(heading_style="atx", bullets="-", wrap=True, wrap_width=None).convert_soup(soup))


def escaped(text: str) -> str:
    """Return plain text as Markdown that reads the same, with no more backslashes than it needs."""
    text = re.sub(r"([\\`*])", r"\\\1", text)
    text = re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text)
    text = re.sub(r"<(?=[a-zA-Z/!?])", r"\\<", text)
    text = re.sub(r"&(?=#?\w+;)", r"\\&", text)
    text = re.sub(r"\](?=[(\[:]|$)", r"\\]", text)
    text = re.sub(r"~(?=~)|(?<=~)~", r"\\~", text)
    # An address that a page had shortened leads nowhere; it shall not become a link when the Markdown is shown.
    text = re.sub(r"(https?:)(//\S{1,300}?(?:…|\.\.\.)(?=\s|$))", r"\1\\\2", text)
    text = re.sub(r"^(\s*)(#{1,6}(?:\s|$)|[-+](?:[\s-]|$)|>|=+\s*$)", r"\1\\\2", text)
    return re.sub(r"^(\s*\d{1,9})([.)](?:\s|$))", r"\1\\\2", text)


# Its stubs name only some of the methods that may be overridden.
_Converter: Any = MarkdownConverter


class _Writer(_Converter):  # type: ignore[misc]
    """Markdown in which plain text keeps its meaning: "1." or "#" at the start of a paragraph stays text."""

    def escape(self, text: str, parent_tags: set[str]) -> str:
        text = escaped(text)
        return text.replace("|", r"\|") if parent_tags & {"td", "th"} else text

    def convert_a(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        href = str(el.get("href"))
        if el.get_text() == href and not re.search(r"[\s<>]", href):
            return f"<{href}>"
        el["href"] = re.sub(r"[\s<>()\\]", lambda match: f"%{ord(match[0]):02X}", href)
        return str(super().convert_a(el, text, parent_tags))

    def convert_img(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        alt = re.sub(r"([\\\[\]*_`<&])", r"\\\1", " ".join(str(el.get("alt") or "").split()))
        source = re.sub(r"[\s<>()\\]", lambda match: f"%{ord(match[0]):02X}", str(el.get("src")))
        return f"![{alt}]({source})"

    def convert_h1(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        return str(self.convert_hN(2, el, text, parent_tags))

    def convert_p(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        return str(super().convert_p(el, text.strip(), parent_tags))

    def convert_li(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        numbered = el.parent is not None and el.parent.name == "ol"
        mark, text = f"{el['value']}." if numbered else "-", text.strip()
        if not text:
            return f"{mark}\n" if numbered else ""
        first, *rest = text.split("\n")
        indented = [" " * (len(mark) + 1) + line if line else "" for line in rest]
        return "\n".join([f"{mark} {first}", *indented, ""])

    convert_figure = convert_figcaption = convert_aside = convert_center = _Converter.convert_div
    convert_header = convert_footer = convert_main = _Converter.convert_div


def _number(soup: BeautifulSoup) -> None:
    """Write each item's number on it, in one pass: markdownify counts the items before each one."""
    for numbered in soup.find_all("ol"):
        start = str(numbered.get("start") or 1)
        first = int(start) if start.isdecimal() and len(start) < 9 else 1
        for number, item in enumerate(numbered.find_all("li", recursive=False), first):
            item["value"] = str(number)
