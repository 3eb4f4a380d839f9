"""The figures of a date, in numbers of readers: from counted rows, and from what was known to what is. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from newsletters.models import Break
from newsletters.models.outgoing import State

# Failures that the reader's own mailbox or server causes: shown, but they break no promise.
THEIRS = {"address", "deferred", "server"}


@dataclass(frozen=True, slots=True)
class Figures:
    """`expected` are all but the skipped, also those on their way; `kept` is None where nobody expected anything."""

    expected: int = 0
    on_time: int = 0
    late: int = 0
    failed: int = 0
    uncertain: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    missed: dict[str, int] = field(default_factory=dict)
    kept: bool | None = None


NAMES = [each.name for each in fields(Figures)]


def read(rows: Iterable[tuple[str, str, bool, int]], rest: str) -> Figures:
    """Add up rows of (state, reason, on time, number). On an announced break nothing is kept or missed."""
    ends, skipped, missed = Counter[str](), Counter[str](), Counter[str]()
    for state, reason, on_time, number in rows:
        if state == State.SKIPPED:
            skipped[reason] += number
            continue
        ends["expected"] += number
        if state == State.SENT:
            ends["on_time" if on_time else "late"] += number
        elif state == State.MISSED:
            missed[reason] += number
            ends["broken"] += number if reason not in THEIRS else 0
        elif state in {State.FAILED, State.UNCERTAIN}:
            ends[state] += number
            ends["broken"] += number if state == State.FAILED and reason not in THEIRS else 0
    broken = bool(ends.pop("broken", 0))
    promised = ends["expected"] and rest != Break.Kind.SILENCE
    return Figures(**ends, skipped=dict(skipped), missed=dict(missed), kept=not broken if promised else None)


def plus(known: Figures, changes: Mapping[str, Any]) -> Figures:
    """Add a correction, such as {"on_time": -1, "missed": {"late": 1}, "kept": False}."""
    values = asdict(known)
    for name, change in changes.items():
        if name == "kept":
            values[name] = change
        elif isinstance(change, dict):
            sums = {reason: values[name].get(reason, 0) + change.get(reason, 0) for reason in values[name] | change}
            values[name] = {reason: number for reason, number in sums.items() if number}
        else:
            values[name] += change
    return Figures(**values)


def difference(known: Figures, counted: Figures) -> dict[str, Any]:
    """Return the correction that leads from the known figures to the counted ones; empty where they are equal."""
    changes: dict[str, Any] = {}
    for name in NAMES:
        before, now = getattr(known, name), getattr(counted, name)
        if before == now:
            continue
        if name == "kept":
            changes[name] = now
        elif isinstance(now, dict):
            moved = {reason: now.get(reason, 0) - before.get(reason, 0) for reason in sorted({*before, *now})}
            changes[name] = {reason: number for reason, number in moved.items() if number}
        else:
            changes[name] = now - before
    return changes
