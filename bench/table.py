"""What a bench says: the machine and the command above, one line a case below, and JSON for programs."""

import json
import os
import platform
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median


@dataclass
class Line:
    """One case. `of` names the case that `ratio` is measured against; what does not apply is None."""

    case: str
    readers: int
    per_second: float | None = None
    of: str = ""
    ratio: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    peak_mb: float | None = None
    above_mb: float | None = None
    wal_bytes: float | None = None
    cpu_us: float | None = None
    in_doubt: int | None = None


def heading(*versions: str) -> str:
    """Return the machine, the versions and the command."""
    model = next(
        (line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")), platform.machine()
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    machine = f"{model}, {os.cpu_count()} cores, {memory:.0f} GB, load {os.getloadavg()[0]:.1f}"
    return "\n".join(
        [machine, f"{platform.system()} {platform.release()}, Python {platform.python_version()}", *versions]
    ) + (f"\n$ python {' '.join(sys.argv)}\n")


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


COLUMNS = {
    "per_second": ("rows/s", 0),
    "ratio": ("ratio", 2),
    "p50_ms": ("p50 ms", 1),
    "p99_ms": ("p99 ms", 1),
    "cpu_us": ("CPU µs/row", 0),
    "peak_mb": ("peak MB", 0),
    "above_mb": ("above idle", 1),
    "wal_bytes": ("WAL B/row", 0),
    "in_doubt": ("in doubt", 0),
}


def show(lines: list[Line]) -> None:
    """Print a table of the columns that any case has."""
    told = {name: head for name, head in COLUMNS.items() if any(getattr(line, name) is not None for line in lines)}
    print(f"{'case':<34}{'readers':>12}" + "".join(f"{head:>12}" for head, _digits in told.values()))
    for line in lines:
        cells = [number(getattr(line, name), digits) for name, (_head, digits) in told.items()]
        print(f"{line.case:<34}{line.readers:>12,}" + "".join(f"{cell:>12}" for cell in cells))


def number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def save(lines: list[Line], path: Path | None) -> None:
    """Write one JSON object a line."""
    if path:
        rows = ({name: value for name, value in asdict(line).items() if value not in (None, "")} for line in lines)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def middle(values: list[float]) -> float:
    return median(values)


def hundredth(values: list[float]) -> float:
    """Return the value that one in a hundred exceeds."""
    return sorted(values)[min(len(values) - 1, len(values) * 99 // 100)]
