"""Numbers, days and spans on the desk's pages, in the page's language."""

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from django import template
from django.utils.dates import MONTHS_AP, WEEKDAYS_ABBR
from django.utils.formats import number_format
from django.utils.translation import get_language, gettext, ngettext

from newsletters import dates, personal

register = template.Library()


@register.filter
def number(value: int) -> str:
    """Return “1,284”, “1 284”."""
    return number_format(value, use_l10n=True, force_grouping=True)


@register.filter
def weekday(value: date) -> str:
    """Return “Monday 23 November”, “lundi 23 novembre”."""
    return dates.day(value, get_language() or "en")


@register.filter
def short(value: date) -> str:
    """Return “Tue 24 Nov.”, “mar. 24 nov.”."""
    day = str(WEEKDAYS_ABBR[value.weekday()])
    return f"{day}. {short_day(value)}" if get_language() == "fr" else f"{day} {short_day(value)}"


@register.filter
def short_day(value: date) -> str:
    return f"{value.day} {MONTHS_AP[value.month]}"


@register.filter
def local(value: datetime, zone: str) -> datetime:
    return value.astimezone(ZoneInfo(zone))


@register.filter
def span(value: timedelta) -> str:
    """Return “3 days”, “23 h 56 min”, “12 min”."""
    minutes = int(value.total_seconds()) // 60
    if minutes >= 2 * 24 * 60:
        days = minutes // (24 * 60)
        return ngettext("%(days)d day", "%(days)d days", days) % {"days": days}
    if minutes >= 60:
        return gettext("%(hours)d h %(minutes)02d min") % {"hours": minutes // 60, "minutes": minutes % 60}
    return gettext("%(minutes)d min") % {"minutes": minutes}


@register.filter
def spoken(text: str) -> str:
    """Return a subject as everybody may read it."""
    return personal.spoken(text, {})


@register.filter
def kilobytes(value: int) -> str:
    return gettext("%(size)s kB") % {"size": number(round(value / 1024))}
