"""A dump of plain text -> articles, cut at known titles or at a marker line."""

import re
from collections.abc import Iterator, Sequence
from html import escape
from itertools import pairwise

from django.utils.translation import gettext as _

from newsletters.articles import Found, Items, Problem, reading

SENTENCE_END = re.compile(r"[.!?…:;»”\")\]]\s*$")
FULL_LINE = 60
LONGEST_WRAPPED = 120


def read(raw: bytes, titles: Sequence[str] = (), marker: str = "") -> Items:
    """Yield the articles of a dump: each begins at a line that is one of `titles`, or after a line `marker`.

    Titles are looked for in their order, so that a title's words may also stand alone in a text. Without either the
    dump is one article whose first line is its title.
    """
    lines = reading.decode(raw).split("\n")
    if titles:
        yield from _by_titles(lines, titles)
    elif marker:
        yield from _by_marker(lines, marker.strip())
    else:
        yield from _article(lines)


def _by_titles(lines: list[str], titles: Sequence[str]) -> Items:
    starts: list[tuple[int, str]] = []
    for title in titles:
        wanted, after = _folded(title), starts[-1][0] + 1 if starts else 0
        at = next((number for number in range(after, len(lines)) if _folded(lines[number]) == wanted), None)
        if at is None:
            yield Problem(
                _("“%(text)s”") % {"text": title},
                _("no line after the title before it reads like this; it was left out."),
            )
        else:
            starts.append((at, title))
    ends = [start for start, _title in starts[1:]] + [len(lines)]
    for (start, _title), end in zip(starts, ends, strict=True):
        yield from _article(lines[start:end])


def _by_marker(lines: list[str], marker: str) -> Items:
    held: list[str] = []
    for line in [*lines, marker]:
        if line.strip() == marker:
            yield from _article(held)
            held = []
        else:
            held.append(line)


def _article(lines: list[str]) -> Iterator[Found]:
    filled = [number for number, line in enumerate(lines) if line.strip()]
    if filled:
        yield Found(title=lines[filled[0]].strip(), html=to_html("\n".join(lines[filled[0] + 1 :])))


def _folded(line: str) -> str:
    return " ".join(reading.clean_characters(line).split()).replace("'", "’").casefold()


def to_html(text: str) -> str:
    """Return plain text as paragraphs; the author's own line ends stay, those of a wrapped text do not."""
    blocks = [block.strip("\n") for block in re.split(r"\n[\s\u00a0]*\n", text) if block.strip()]
    return "\n".join(map(_paragraph, blocks))


def _paragraph(block: str) -> str:
    line_end = "\n" if is_wrapped(block) else "<br>"
    return f"<p>{line_end.join(escape(line.strip()) for line in block.splitlines())}</p>"


def is_wrapped(paragraph: str) -> bool:
    """Tell whether an editor broke the lines for width: they are full, and some end in the middle of a sentence."""
    lines = paragraph.split("\n")
    if len(lines) < 2 or max(map(len, lines)) > LONGEST_WRAPPED:
        return False
    pairs = list(pairwise(lines))
    full = all(len(line) + len(next(iter(after.split()), "")) >= FULL_LINE for line, after in pairs)
    return full and not all(SENTENCE_END.search(line) for line, _after in pairs)
