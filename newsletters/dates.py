"""Dates and hours as a reader says them, in a given language. Pure."""

from datetime import date, time
from functools import lru_cache

from django.utils import dateformat, translation
from django.utils.dates import WEEKDAYS
from django.utils.translation import gettext as _

# language -> weekday with date, date with year, full hour, hour with minutes, in Django's format letters
FORMATS = {
    "en": ("l j F", "j F Y", "G:i", "G:i"),
    # The spaces are no-break spaces, as French typography wants them.
    "fr": ("l j F", "j F Y", "G\u00a0\\h", "G\u00a0\\h\u00a0i"),
}


@lru_cache(maxsize=512)
def day(value: date, language: str) -> str:
    """Return "Monday 23 November", "lundi 23 novembre"."""
    return _date(value, 0, language)


@lru_cache(maxsize=4096)
def full_date(value: date, language: str) -> str:
    """Return "12 March 2026", "1er mars 2026"."""
    return _date(value, 1, language)


def hour(value: time, language: str) -> str:
    """Return "7:00", "7 h", "7 h 30"."""
    formats = FORMATS.get(language, FORMATS["en"])
    return dateformat.time_format(value, formats[3] if value.minute else formats[2])


def weekdays(digits: str, language: str) -> str:
    """Return how often a promise is kept, from its ISO digits: "every day", "on Monday and Friday"."""
    with translation.override(language):
        if len(set(digits)) == 7:
            return _("every day")
        if sorted(digits) == list("12345"):
            return _("from Monday to Friday")
        names = [str(WEEKDAYS[int(digit) - 1]) for digit in sorted(digits)]
        if len(names) == 1:
            return _("on %(day)s") % {"day": names[0]}
        return _("on %(days)s and %(last)s") % {"days": ", ".join(names[:-1]), "last": names[-1]}


def _date(value: date, form: int, language: str) -> str:
    pattern = FORMATS.get(language, FORMATS["en"])[form]
    if language == "fr" and value.day == 1:
        pattern = pattern.replace("j", "j\\e\\r")
    with translation.override(language):
        return dateformat.format(value, pattern)
