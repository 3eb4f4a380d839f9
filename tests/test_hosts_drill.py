"""Two worker hosts, one of them cut off from one thing after another: network namespaces, where they may be made."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench import hosts
from bench.ground import POSTFIX
from tests.processes import ROOT, environment

pytestmark = [pytest.mark.postgresql, pytest.mark.timeout(300)]


def test_a_host_that_is_cut_off_loses_and_doubles_nothing(tmp_path: Path) -> None:
    if why := hosts.able():
        pytest.skip(why)
    if shutil.which("smtp-sink", path=POSTFIX) is None:
        pytest.skip("no smtp-sink: apt-get install --no-install-recommends postfix")
    found = tmp_path / "found.json"

    run = subprocess.run(
        [sys.executable, "bench/hosts.py", "--readers", "300", "--json", str(found)],
        cwd=ROOT,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )

    assert run.returncode == 0, run.stdout + run.stderr
    cuts = [json.loads(line) for line in found.read_text().splitlines()]
    assert [cut["case"].split()[-1] for cut in cuts] == ["database", "broker", "mail"]
    none = ("doubled", "lost", "left", "settled_doubled", "settled_lost", "settled_uncertain")
    assert [cut[name] for cut in cuts for name in none] == [0] * len(none) * len(cuts)
    assert all(cut["taken_over"] > 0 for cut in cuts if "broker" not in cut["case"])
    assert all(cut["uncertain"] <= hosts.MOST for cut in cuts)
