"""The drill in small: real workers, a real broker, PostgreSQL and mail server, and what breaks them."""

from pathlib import Path
from typing import Any

import pytest

from bench.drilled import Ours
from bench.faults import ROWS
from tests.processes import run_bench

# Starts servers of its own; one of the two runs is enough.
pytestmark = [pytest.mark.postgresql, pytest.mark.timeout(300)]

HARM = ("doubled", "lost", "settled_doubled", "settled_lost", "settled_uncertain")


def drilled(place: Path, *options: str) -> list[dict[str, Any]]:
    return run_bench("faults", place, "--readers", "200", "--seed", "3", *options)


@pytest.mark.usefixtures("smtp_sink")
def test_under_fire_nothing_is_doubled_and_nothing_lost(tmp_path: Path) -> None:
    (ours,) = drilled(tmp_path, "--kills", "6", "--cases", "ours")

    assert {name: ours[name] for name in HARM} == dict.fromkeys(HARM, 0)
    assert ours["uncertain"] > 0
    assert {"kill", *Ours.FAULTS} <= ours["landed"].keys()


@pytest.mark.usefixtures("smtp_sink")
def test_each_kind_of_fault_by_itself_doubles_and_loses_nothing(tmp_path: Path) -> None:
    lines = drilled(tmp_path, "--each", "1")

    kinds = [name for name in ROWS if name not in Ours.NOT_POSSIBLE]
    assert [line["case"] for line in lines] == [f"ours {name.replace('_', ' ')}" for name in kinds]
    assert all(line["landed"][name] == 1 for line, name in zip(lines, kinds, strict=True))
    assert [line[name] for line in lines for name in HARM] == [0] * len(HARM) * len(lines)


def test_a_disk_that_refuses_is_among_what_the_drill_breaks() -> None:
    if why := Ours.NOT_POSSIBLE.get("refuse_fsync"):
        pytest.skip(why)

    assert {"kill", "kill_after_hand_off", *Ours.FAULTS} == ROWS.keys()
