"""Hours and days on a page, in the page's language."""

from datetime import date, time

from django import template
from django.utils.translation import get_language, gettext

from newsletters import dates

register = template.Library()


@register.filter
def hour(value: time) -> str:
    """Return “7:00”, “7 h 30”."""
    return dates.hour(value, get_language() or "en")


@register.filter
def weekdays(digits: str) -> str:
    """Return “every day”, “on Monday and Friday”."""
    return dates.weekdays(digits, get_language() or "en")


@register.filter
def full_date(value: date) -> str:
    """Return “12 March 2026”, “1er mars 2026”."""
    return dates.full_date(value, get_language() or "en")


@register.filter
def day(value: date, today: date) -> str:
    """Return “today”, “tomorrow”, or the weekday with its date; with the year where that is not this one's."""
    if value.year != today.year and (value - today).days > 1:
        return full_date(value)
    names = {0: gettext("today"), 1: gettext("tomorrow")}
    return names.get((value - today).days) or dates.day(value, get_language() or "en")
