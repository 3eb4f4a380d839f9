"""What the senders know of a row: read from its lease, written at its end. Pure."""

from datetime import date, datetime
from typing import Any, NamedTuple


class End(NamedTuple):
    """How a row ended: its key, and what is written down."""

    pk: Any
    state: str
    reason: str = ""
    reply: str = ""


class Claim(NamedTuple):
    """A leased delivery, with what it takes to write and to settle it; no more is read of a reader."""

    local_date: date
    subscriber_id: int
    slot: int
    publication_id: int
    way: str
    issue_id: int
    series_id: int | None
    rank: int | None
    attempts: int
    address: str
    first_name: str
    zone: str
    began: datetime

    @property
    def pk(self) -> tuple[date, int, int]:
        return self[:3]

    @classmethod
    def of(cls, delivery: Any) -> "Claim":
        """Return what `claimed` reads."""
        reader, key = delivery.subscriber, (delivery.local_date, delivery.subscriber_id, delivery.slot)
        began, entry = reader.member_since or reader.created_at, delivery.entry
        walk = (entry.series_id, entry.rank) if entry else (None, None)
        what = (delivery.publication_id, delivery.way, delivery.issue_id or 0, *walk, delivery.attempts)
        return cls._make([*key, *what, reader.address, reader.first_name, reader.zone, began])
