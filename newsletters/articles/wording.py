"""A title -> a subject, and a text -> the line that mailboxes show beside it. Pure."""

import re
from collections.abc import Iterator

from newsletters.articles.cutting import Block, blocks

LONGEST_SUBJECT = 78
PREHEADER = range(40, 91)
GREETING = re.compile(
    r"(bonjour|bonsoir|coucou|salut|hello|hi|hey|good morning|dear|ch[eè]re?s?|bienvenue|welcome)\b", re.IGNORECASE
)
SENTENCES = re.compile(r"(?<=[.!?…])(?:[»”\")\]]?)\s+(?=[^\s])")


def subject(title: str, addition: str = "") -> str:
    """Return a title as a subject of at most 78 characters, with an addition such as "(1/3)" at its end.

    Brackets around words go, for they look like an automatic label in a mailbox; so does a bare number before the
    title, which says nothing in another order. "Interview #6 – Zoé" stays as it is.
    """
    text = " ".join(title.split())
    text = re.sub(r"^\[([^\[\]]+)\](?=\s*(?:[–—:|,-]\s|$))", r"\1", text)
    text = re.sub(r"^\[([^\[\]]+)\]\s*(?=\S)", r"\1 – ", text)
    text = re.sub(r"\[([^\[\]]+)\]", r"(\1)", text)
    text = re.sub(
        r"^(?:(?:#|n[°ºo]\.?\s?)\d{1,4}\s*(?:[.):–—-]\s*)?|\d{1,3}[.)]\s+)(?=\w)", "", text, flags=re.IGNORECASE
    )
    return shortened(text, LONGEST_SUBJECT - len(addition) - bool(addition)) + (f" {addition}" if addition else "")


def preheader(markdown: str, title: str) -> str:
    """Return the first real sentences of a text: no heading, no greeting, no aside in brackets, not the title again."""
    whole, line = blocks(markdown), ""
    for sentence in [*_sentences(whole, title)] or [block.text for block in whole if block.text]:
        joined = f"{line} {sentence}".strip()
        if len(line) >= PREHEADER[0] // 2 and len(joined) > PREHEADER[-1]:
            break
        line = joined
        if len(line) >= PREHEADER[0]:
            break
    return shortened(line, PREHEADER[-1])


def sentences(text: str) -> list[str]:
    return [sentence.strip() for sentence in SENTENCES.split(text) if sentence.strip()]


def shortened(text: str, longest: int) -> str:
    """Return a line of at most `longest` characters, cut at a word with an ellipsis where it is longer."""
    if len(text) <= longest:
        return text
    cut = text[:longest]
    at = max(cut.rfind(" "), cut.rfind("\u00a0"))
    if at <= longest // 2:
        return cut[:-1] + "…"
    # A line that ends on "de la…" reads worse than a shorter one.
    words = re.sub(r"(?:[\s\u00a0\u202f]+\S{1,3}){1,2}$", "", cut[:at])
    return words.rstrip(" \u00a0\u202f,;:.–—-(«“") + "…"


def last_sentence(markdown: str) -> str:
    """Return the sentence that a text ends with, for the next part to begin from."""
    for block in reversed(blocks(markdown)):
        if said := [sentence for sentence in sentences(block.text) if re.search(r"\w", sentence)]:
            return shortened(said[-1], 140)
    return ""


def _sentences(whole: list[Block], title: str) -> Iterator[str]:
    for block in whole:
        aside = re.fullmatch(r"[(\[][^()\[\]]*[)\]]\.?", block.text)
        if block.kind != "paragraph" or block.is_title_like or aside or _letters(block.text) == _letters(title):
            continue
        for sentence in sentences(block.text):
            greets = GREETING.match(sentence) and len(sentence) < 50
            if not greets and not re.fullmatch(r"\S+://\S+|\W*", sentence):
                yield sentence


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text.casefold()))
