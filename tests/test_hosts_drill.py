"""Two worker hosts, one of them cut off from one thing after another: network namespaces, where they may be made."""

from pathlib import Path

import pytest

from bench import hosts
from tests.processes import run_bench

pytestmark = [pytest.mark.postgresql, pytest.mark.timeout(300)]


@pytest.mark.usefixtures("smtp_sink")
def test_a_host_that_is_cut_off_loses_and_doubles_nothing(tmp_path: Path) -> None:
    if why := hosts.able():
        pytest.skip(why)

    cuts = run_bench("hosts", tmp_path, "--readers", "300")

    assert [cut["case"].split()[-1] for cut in cuts] == ["database", "broker", "mail"]
    none = ("doubled", "lost", "left", "settled_doubled", "settled_lost", "settled_uncertain")
    assert [cut[name] for cut in cuts for name in none] == [0] * len(none) * len(cuts)
    assert all(cut["taken_over"] > 0 for cut in cuts if "broker" not in cut["case"])
    assert all(cut["uncertain"] <= hosts.MOST for cut in cuts)
