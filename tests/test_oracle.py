"""Our clock beside two other implementations of the same rules: Java's ZonedDateTime and Temporal."""

import hashlib
import zoneinfo
from collections.abc import Iterable
from datetime import date, time, timedelta
from pathlib import Path

import pytest

from newsletters import clock

INSTANTS = Path(__file__).parent / "oracle" / "instants.txt"
QUARTERS = [time(minutes // 60, minutes % 60) for minutes in range(0, 24 * 60, 15)]
# Shifts of half an hour and of two, twice a year for Ramadan, at midnight and beside it, quarter hours, skipped dates
ODD = ["Australia/Lord_Howe", "Antarctica/Troll", "Africa/Casablanca", "Africa/El_Aaiun", "America/Havana"]
ODD += ["America/Godthab", "Africa/Cairo", "Pacific/Chatham", "Pacific/Easter", "Asia/Beirut", "Asia/Gaza"]
ODD += ["Pacific/Apia", "Pacific/Fakaofo", "Pacific/Kwajalein"]


def known() -> dict[str, tuple[str, list[date]]]:
    lines = [line.split() for line in INSTANTS.read_text().splitlines()]
    return {zone: (digest, [date.fromisoformat(day) for day in days]) for zone, digest, *days in lines}


def digest(zone: str, changes: Iterable[date]) -> str:
    days = [change + timedelta(days=days) for change in changes for days in (-1, 0, 1)]
    seconds = (int(clock.instant(day, hour, zone).timestamp()) for day in days for hour in QUARTERS)
    return hashlib.sha256("".join(f"{second}," for second in seconds).encode()).hexdigest()[:16]


def test_every_zone_whose_clocks_change_has_the_same_instants() -> None:
    differs = [zone for zone, (expected, changes) in known().items() if digest(zone, changes) != expected]

    assert differs == []
    assert len(known()) > 200
    assert set(known()) <= zoneinfo.available_timezones()


@pytest.mark.parametrize("zone", ODD)
def test_the_odd_ones_are_among_them(zone: str) -> None:
    assert len(known()[zone][1]) >= 1
