"""The closed vocabulary that an author may write for each reader: {{ first_name|there }}. Not a template language."""

import re
from collections.abc import Callable, Mapping

from django.core.exceptions import ValidationError
from django.db import models
from django.utils.translation import gettext_lazy as _

from newsletters.headers import one_line

# In an issue's text -> the reader's own value. French authors may write the French word.
FIELDS = {"first_name": "first_name", "prénom": "first_name", "prenom": "first_name"}

MARK = re.compile(r"(?P<lead>(?<=\S) )?\{\{[ \t]*(?P<name>\w{1,40})[ \t]*(?:\|(?P<fallback>[^{}\n]{0,80}))?\}\}")


def unknown_fields(text: str) -> list[str]:
    """Return the names in {{ }} that are no field. Anything else between braces is the author's own text."""
    return [match["name"] for match in MARK.finditer(text) if match["name"] not in FIELDS]


def refuse_unknown(row: models.Model, *names: str) -> None:
    """Raise ValidationError where one of a row's texts has a field that does not exist."""
    for name in names:
        if unknown := unknown_fields(getattr(row, name)):
            message = _("There is no field “%(field)s”. Write {{ first_name|there }}, or {{ first_name }} alone.")
            raise ValidationError({name: ValidationError(message, params={"field": unknown[0]})})


def replace(text: str, value: Callable[[str, str, str], str]) -> str:
    """Put value(field, fallback, lead) in the place of each field.

    `lead` is the space before a field without fallback: where there is no value, it must go too ("Hello," and not
    "Hello ,").
    """

    def one(match: re.Match[str]) -> str:
        field = FIELDS.get(match["name"])
        if field is None:
            return match[0]
        fallback, lead = (match["fallback"] or "").strip(), match["lead"] or ""
        return lead + value(field, fallback, "") if fallback else value(field, "", lead)

    return MARK.sub(one, text)


def spoken(text: str, values: Mapping[str, str]) -> str:
    """Return text as a reader with these values gets it; without any, as everybody may read it."""

    def one(field: str, fallback: str, lead: str) -> str:
        value = one_line(values.get(field, "")) or fallback
        return lead + value if value else ""

    return replace(text, one)


def literal(text: str) -> str:
    """Make text from elsewhere safe to stand in an issue: its braces mean nothing."""
    return text.replace("{{", "{\u200b{")
