"""Where readers live: time zones by the places people know."""

import zoneinfo
from collections import defaultdict
from datetime import datetime
from functools import cache
from importlib import resources
from zoneinfo import ZoneInfo

from django.utils.translation import get_language, gettext
from django.utils.translation import gettext_lazy as _

from newsletters import dates

# Shown first, in this order, by the names their people use.
COMMON = {
    "Europe/Paris": _("Paris"),
    "Europe/Brussels": _("Brussels"),
    "Europe/Zurich": _("Geneva, Zurich"),
    "Europe/London": _("London"),
    "Europe/Berlin": _("Berlin"),
    "America/Toronto": _("Montreal, Toronto"),
    "America/New_York": _("New York"),
    "America/Chicago": _("Chicago"),
    "America/Los_Angeles": _("Los Angeles"),
    "America/Martinique": _("Martinique"),
    "America/Guadeloupe": _("Guadeloupe"),
    "America/Cayenne": _("Cayenne"),
    "Indian/Reunion": _("Réunion"),
    "Pacific/Noumea": _("Nouméa"),
    "Pacific/Tahiti": _("Tahiti"),
    "Africa/Casablanca": _("Casablanca"),
    "Africa/Dakar": _("Dakar"),
    "Africa/Abidjan": _("Abidjan"),
    "Africa/Algiers": _("Algiers"),
    "Africa/Tunis": _("Tunis"),
    "Africa/Cairo": _("Cairo"),
    "Asia/Beirut": _("Beirut"),
    "Indian/Mauritius": _("Mauritius"),
    "Australia/Sydney": _("Sydney"),
    "Asia/Tokyo": _("Tokyo"),
}

Group = tuple[str, list[tuple[str, str]]]


def choices(now: datetime, *own: str) -> list[Group]:
    """Return groups of (zone, “Paris (it is 9:12)”): the reader's own zones and the common ones, then the others."""
    first = list(dict.fromkeys([*own, *COMMON]))
    return [("", [option(zone, now) for zone in first])] + [
        (area, [option(zone, now) for zone in zones]) for area, zones in by_area().items()
    ]


def option(zone: str, now: datetime) -> tuple[str, str]:
    hour = dates.hour(now.astimezone(ZoneInfo(zone)).time(), get_language() or "en")
    return zone, gettext("%(place)s (it is %(hour)s)") % {"place": place(zone), "hour": hour}


def place(zone: str) -> str:
    """Return the name of a zone as people say it: America/Argentina/Buenos_Aires is “Buenos Aires (Argentina)”."""
    if zone in COMMON:
        return str(COMMON[zone])
    _area, *between, city = zone.replace("_", " ").split("/")
    return f"{city} ({between[0]})" if between else city


@cache
def by_area() -> dict[str, list[str]]:
    """Return the zones where people live, grouped by continent or ocean, from the table of the tzdata package."""
    areas: dict[str, list[str]] = defaultdict(list)
    table = resources.files("tzdata.zoneinfo").joinpath("zone.tab").read_text(encoding="utf-8")
    rows = (line.split("\t") for line in table.splitlines() if not line.startswith("#"))
    for zone in sorted(({row[2] for row in rows} & zoneinfo.available_timezones()) - COMMON.keys()):
        areas[zone.partition("/")[0]].append(zone)
    return dict(areas)
