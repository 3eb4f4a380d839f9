"""The benches in small: they run to their end, and say of each case what docs/operating.md tells of it."""

from pathlib import Path
from typing import Any

import pytest

from tests.processes import run_bench

# Each starts a PostgreSQL of its own; one of the two runs is enough.
pytestmark = [pytest.mark.postgresql, pytest.mark.timeout(300)]


def by_case(lines: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {line["case"]: line for line in lines}


@pytest.mark.usefixtures("smtp_sink")
def test_a_day_is_sent_beside_the_other_senders(tmp_path: Path) -> None:
    found = by_case(run_bench("send", tmp_path, "--readers", "60", "--runs", "1"))

    assert {"smtp-source", "ours send", "django", "django premailer each"} <= found.keys()
    assert {line["readers"] for line in found.values()} == {60}
    assert all(line["per_second"] > 0 and line["cpu_us"] > 0 for line in found.values())
    ours = found["ours send"]
    assert (ours["of"], ours["in_doubt"]) == ("smtp-source", 20)
    assert ours["peak_mb"] > ours["above_mb"] >= 0


def test_a_day_is_planned_beside_a_bare_insert(tmp_path: Path) -> None:
    found = by_case(run_bench("plan", tmp_path, "--readers", "300", "--runs", "1", "--history", "3000"))

    planned = [line for case, line in found.items() if case.startswith("ours plan, ")]
    assert len(planned) == 2
    assert all(line["readers"] == 300 and line["ratio"] > 0 for line in planned)
