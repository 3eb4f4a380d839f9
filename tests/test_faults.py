"""The drill in small: real workers, a real broker, PostgreSQL and mail server, and what breaks them."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.drilled import Ours
from bench.ground import POSTFIX
from tests.processes import ROOT, environment

# Starts servers of its own; one of the two runs is enough.
pytestmark = [pytest.mark.postgresql, pytest.mark.timeout(300)]


@pytest.fixture
def sink() -> None:
    if shutil.which("smtp-sink", path=POSTFIX) is None:
        pytest.skip("no smtp-sink: apt-get install --no-install-recommends postfix")


def test_under_fire_nothing_is_doubled_and_nothing_lost(sink: None, tmp_path: Path) -> None:
    found = tmp_path / "found.json"
    command = [sys.executable, "bench/faults.py", "--readers", "200", "--kills", "6", "--seed", "3", "--cases", "ours"]

    run = subprocess.run(
        [*command, "--json", str(found)],
        cwd=ROOT,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )

    assert run.returncode == 0, run.stdout + run.stderr
    (ours,) = [json.loads(line) for line in found.read_text().splitlines()]
    none = ("doubled", "lost", "settled_doubled", "settled_lost", "settled_uncertain")
    assert {name: ours[name] for name in none} == dict.fromkeys(none, 0)
    assert ours["uncertain"] > 0
    assert {"kill", *Ours.FAULTS} <= ours["landed"].keys()
