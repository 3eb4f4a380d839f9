"""The closed vocabulary that an author may write for each reader: {{ first_name|there }}. Not a template language."""

import re
from collections.abc import Callable

# In an issue's text -> the reader's own value. French authors may write the French word.
FIELDS = {"first_name": "first_name", "prénom": "first_name", "prenom": "first_name"}

MARK = re.compile(r"\{\{[ \t]*(\w{1,40})[ \t]*(?:\|([^{}\n]{0,80}))?\}\}")


def unknown_fields(text: str) -> list[str]:
    """Return the names in {{ }} that are no field. Anything else between braces is the author's own text."""
    return [name for name, _ in MARK.findall(text) if name not in FIELDS]


def replace(text: str, value: Callable[[str, str], str]) -> str:
    """Put value(field, fallback) in the place of each field."""

    def one(match: re.Match[str]) -> str:
        field = FIELDS.get(match[1])
        return value(field, (match[2] or "").strip()) if field else match[0]

    return MARK.sub(one, text)


def literal(text: str) -> str:
    """Make text from elsewhere safe to stand in an issue: its braces mean nothing."""
    return text.replace("{{", "{\u200b{")
