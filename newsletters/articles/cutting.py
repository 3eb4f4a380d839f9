"""Markdown -> its blocks, and a long text -> an excerpt, or parts of like length that each read well. Pure."""

import re
from dataclasses import dataclass
from functools import cached_property

from markdown_it import MarkdownIt
from markdown_it.token import Token

# Two minutes and a half of reading; an article of 7,300 characters makes three.
PART = 2500
EXCERPT = 600
# How far from its ideal place a cut may move, as a share of a part
LEEWAY = 0.3
GOES_ON = re.compile(r"[a-zà-öø-ÿœ–—•◊…(=\-]|\d+[.)] ")
ENDED = re.compile(r"[.!?…][»”\"')\s]*$")
# A sentence that begins so leans on the one before it.
LOOKS_BACK = re.compile(
    r"(ça|ca|cela|ceci|c[’']est|ce|car|mais|et|donc|ou|or|alors|il|ils|elle|elles|puis|sauf|pourtant|"
    r"this|that|these|it|they|he|she|but|and|so|because|then|or)\b",
    re.IGNORECASE,
)

_markdown = MarkdownIt("commonmark", {"html": False}).enable("table")


@dataclass(frozen=True)
class Block:
    """One paragraph, heading, list, quotation or code of a Markdown text, as it was written."""

    kind: str
    source: str
    inline: list[Token]

    @cached_property
    def text(self) -> str:
        """What a reader sees of it, on one line."""
        return " ".join(" ".join(map(spoken, self.inline)).split())

    @property
    def is_heading(self) -> bool:
        return self.kind == "heading"

    @property
    def is_title_like(self) -> bool:
        """A short line without a full stop: many authors write their headings so."""
        return self.kind == "paragraph" and 0 < len(self.text) <= 70 and self.text[-1] not in ".!?…:;,»”)"


def spoken(inline: Token) -> str:
    """Return the words of a paragraph without marks, addresses and images."""
    words = {"text": None, "text_special": None, "code_inline": None, "softbreak": " ", "hardbreak": " "}
    return "".join(words[child.type] or child.content for child in inline.children or [] if child.type in words)


def blocks(markdown: str) -> list[Block]:
    lines, found = markdown.split("\n"), []
    for token in _markdown.parse(markdown):
        if token.level == 0 and token.map and token.nesting >= 0:
            start, end = token.map
            found.append(Block(token.type.removesuffix("_open"), "\n".join(lines[start:end]).rstrip(), []))
        elif token.type == "inline":
            found[-1].inline.append(token)
    return found


def number_of_parts(markdown: str) -> int:
    return max(1, round(len(markdown) / PART))


def parts(markdown: str, number: int) -> list[str]:
    """Return the text in `number` parts of like length (fewer when it has fewer blocks), cut at natural breaks."""
    whole = blocks(markdown)
    ends: list[int] = []  # size of the text up to the end of each block
    for block in whole:
        ends.append((ends[-1] if ends else 0) + len(block.source) + 2)
    cuts = [0]
    for part in range(1, min(number, len(whole))):
        left = min(number, len(whole)) - part
        cuts.append(_cut(whole, ends, part, number, range(cuts[-1] + 1, len(whole) - left + 1)))
    return [_joined(whole[start:end]) for start, end in zip(cuts, [*cuts[1:], len(whole)], strict=True)]


def _cut(whole: list[Block], ends: list[int], part: int, number: int, places: range) -> int:
    """Return the block that a part begins with: the best of those near its ideal place."""
    size = ends[-1] / number
    away = {place: abs(ends[place - 1] - part * size) / (size * LEEWAY) for place in places}
    near = [place for place in places if away[place] <= 1] or [min(places, key=lambda place: away[place])]
    return max(near, key=lambda place: _quality(whole, place) - 2 * away[place])


def _quality(whole: list[Block], place: int) -> float:
    """Tell how well a text may stop before this block and begin with it."""
    before, after = whole[place - 1], whole[place]
    following = whole[place + 1] if place + 1 < len(whole) else None
    if after.is_heading or after.kind == "hr":
        return 4
    if after.is_title_like and not before.is_title_like and following is not None and not following.is_title_like:
        return -1 if before.text.endswith((":", ",", ";")) else 3
    quality = 0.0
    if before.is_heading or before.is_title_like or before.text.endswith((":", "?", ",", ";")):
        quality -= 4
    if after.kind not in {"paragraph", "heading"} or GOES_ON.match(after.text):
        quality -= 3
    if not ENDED.search(before.text):
        quality -= 3
    if LOOKS_BACK.match(after.text) or len(after.text) < 20:
        quality -= 1.5
    elif after.text.endswith("?"):
        quality += 1
    return quality


def excerpt(markdown: str) -> str:
    """Return the beginning of a text: whole blocks of about 600 characters that do not end on a colon.

    A text of which less than a third would be left is returned whole.
    """
    whole = blocks(markdown)
    size = 0
    chosen: list[Block] = []
    for block in whole:
        chosen.append(block)
        size += len(block.text)
        open_end = block.is_heading or block.is_title_like or block.text.endswith((":", ","))
        if size >= EXCERPT and not open_end:
            break
    beginning = _joined(chosen)
    return beginning if len(beginning) < len(markdown) * 2 / 3 else markdown


def _joined(chosen: list[Block]) -> str:
    while chosen and chosen[0].kind == "hr":
        chosen = chosen[1:]
    while chosen and chosen[-1].kind == "hr":
        chosen = chosen[:-1]
    return "\n\n".join(block.source for block in chosen)
