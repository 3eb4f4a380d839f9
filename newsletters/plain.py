"""Markdown -> plain text that a person is glad to read.

No markup is left over and no line is broken by us: a mail client wraps at its own width. Links are numbered and listed
at the end; a link that is a paragraph of its own has its address on the next line. The step stands behind a bar, other
quotations behind ">", both short enough to keep it on every line.
"""

import textwrap

from django.utils.translation import pgettext
from markdown_it.token import Token
from markdown_it.tree import SyntaxTreeNode

from newsletters import markup

QUOTE_WIDTH = 64


def plain(markdown: str, address: markup.Address = markup.reachable) -> str:
    """Return Markdown as text, its links listed below it."""
    tokens = markup.parse(markdown, address)
    links: list[str] = []
    body = _blocks(SyntaxTreeNode(tokens).children, links)
    notes = "\n".join(f"[{number}] {url}" for number, url in enumerate(links, 1))
    return f"{body}\n\n{notes}" if notes else body


def underlined(title: str, stroke: str = "-") -> str:
    return f"{title}\n{stroke * min(len(title), QUOTE_WIDTH)}"


def _blocks(nodes: list[SyntaxTreeNode], links: list[str], between: str = "\n\n") -> str:
    return between.join(block for node in nodes if (block := _block(node, links)))


def _block(node: SyntaxTreeNode, links: list[str]) -> str:
    match node.type:
        case "heading":
            title = _inline(node, links)
            return "\n" + (underlined(title) if node.tag == "h2" else title)
        case "paragraph":
            return _paragraph(node, links)
        case "blockquote":
            return _quote(node, links)
        case "bullet_list" | "ordered_list":
            return _list(node, links)
        case "fence" | "code_block":
            return textwrap.indent(node.content.rstrip("\n"), "    ")
        case "hr":
            return "* * *"
        case "table":
            rows = [row for part in node.children for row in part.children]
            return "\n".join(" | ".join(_inline(cell, links) for cell in row.children) for row in rows)
    return _inline(node, links)


def _paragraph(node: SyntaxTreeNode, links: list[str]) -> str:
    inline = node.children[0]
    if not markup.lone_link(_token(inline)):
        return _inline(node, links)
    link = next(child for child in inline.walk() if child.type == "link")
    label, url = _inline(link, []), str(link.attrs["href"])
    if link.info == "auto" or _same(label, url):
        return url
    if label[-1:] in ".:!?…":
        return f"{label}\n{url}"
    return pgettext("words of a link, its address on the next line", "%(label)s:") % {"label": label} + f"\n{url}"


def _token(node: SyntaxTreeNode) -> Token:
    assert node.token is not None
    return node.token


def _quote(node: SyntaxTreeNode, links: list[str]) -> str:
    inline = node.children[0].children[0] if node.children and node.children[0].children else None
    shown = [child for child in inline.children if child.content or child.type != "text"] if inline else []
    if not shown or shown[0].type != "strong":
        return _barred(_blocks(node.children, links), "> ")
    lead = _spoken(shown[0], links).rstrip(" .:")
    rest = "".join(_spoken(child, links) for child in shown[1:]).strip()
    return _barred(
        "\n\n".join([f"{lead}\n{rest}".strip(), *filter(None, [_blocks(node.children[1:], links)])]), "   | "
    )


def _barred(text: str, bar: str) -> str:
    lines: list[str] = []
    for line in text.split("\n"):
        lines += textwrap.wrap(line, QUOTE_WIDTH, break_long_words=False, break_on_hyphens=False) or [""]
    return "\n".join((bar + line).rstrip() for line in lines)


def _list(node: SyntaxTreeNode, links: list[str]) -> str:
    first = int(node.attrs.get("start", 1)) if node.type == "ordered_list" else 0
    # A blank line between two points, as the author left one
    loose = any(not child.hidden for item in node.children for child in item.children if child.type == "paragraph")
    items = []
    for number, item in enumerate(node.children, first):
        sign = f"{number}. " if first or node.type == "ordered_list" else "- "
        body = _blocks(item.children, links, "\n\n" if loose else "\n")
        items.append(sign + textwrap.indent(body, " " * len(sign)).strip())
    return ("\n\n" if loose else "\n").join(items)


def _inline(node: SyntaxTreeNode, links: list[str]) -> str:
    return "".join(_spoken(child, links) for child in node.children).strip()


def _spoken(node: SyntaxTreeNode, links: list[str]) -> str:
    match node.type:
        case "text" | "text_special" | "code_inline":
            return node.content
        case "softbreak" | "hardbreak":
            return "\n"
        case "image":
            return f"[{node.content}]" if node.content else ""
        case "link":
            return _link(node, links)
    return "".join(_spoken(child, links) for child in node.children)


def _link(node: SyntaxTreeNode, links: list[str]) -> str:
    label, url = "".join(_spoken(child, links) for child in node.children), str(node.attrs["href"])
    if node.info == "auto" or _same(label, url) or not label.strip():
        return url.removeprefix("mailto:")
    if url not in links:
        links.append(url)
    return f"{label} [{links.index(url) + 1}]"


def _same(label: str, url: str) -> bool:
    return label.strip().rstrip("/") in {url.rstrip("/"), url.removeprefix("mailto:"), url.split("://")[-1].rstrip("/")}
