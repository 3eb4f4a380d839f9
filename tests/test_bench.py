"""The benches in small: they run to their end, and say of each case what docs/operating.md tells of it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.others import POSTFIX
from tests.processes import ROOT, environment

# Each starts a PostgreSQL of its own; one of the two runs is enough.
pytestmark = [pytest.mark.postgresql, pytest.mark.timeout(300)]


def lines(bench: str, place: Path, *arguments: str) -> dict[str, dict[str, Any]]:
    """Run a bench and return what it found, by case."""
    found = place / "found.json"
    run = subprocess.run(
        [sys.executable, f"bench/{bench}.py", *arguments, "--json", str(found)],
        cwd=ROOT,
        env=environment(place),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    told = [json.loads(line) for line in found.read_text().splitlines()]
    return {line["case"]: line for line in told}


def test_a_day_is_sent_beside_the_other_senders(tmp_path: Path) -> None:
    if shutil.which("smtp-sink", path=POSTFIX) is None:
        pytest.skip("no smtp-sink: apt-get install --no-install-recommends postfix")

    found = lines("send", tmp_path, "--readers", "60", "--runs", "1")

    assert {"smtp-source", "ours send", "django", "django premailer each"} <= found.keys()
    assert {line["readers"] for line in found.values()} == {60}
    assert all(line["per_second"] > 0 and line["cpu_us"] > 0 for line in found.values())
    ours = found["ours send"]
    assert (ours["of"], ours["in_doubt"]) == ("smtp-source", 20)
    assert ours["peak_mb"] > ours["above_mb"] >= 0


def test_a_day_is_planned_beside_a_bare_insert(tmp_path: Path) -> None:
    found = lines("plan", tmp_path, "--readers", "300", "--runs", "1", "--history", "3000")

    planned = [line for case, line in found.items() if case.startswith("ours plan, ")]
    assert len(planned) == 2
    assert all(line["readers"] == 300 and line["ratio"] > 0 for line in planned)
