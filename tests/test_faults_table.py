"""The operators' table of faults: each row names a test that exists."""

import re

from tests.processes import ROOT

COUNTS = {"K": 5, "R": 3, "P": 4, "S": 11, "C": 3, "N": 2, "D": 2, "M": 1, "W": 2, "B": 1}
IDS = [f"{letter}{number + 1}" for letter, many in COUNTS.items() for number in range(many)]


def test_each_fault_has_a_test_that_exists() -> None:
    text = (ROOT / "docs/operating.md").read_text().partition("## What stands for each fault")[2]
    rows = re.findall(r"^\| ([A-Z]\d[^|]*) \| [^|]+ \| ([^|]+) \|$", text, re.MULTILINE)

    assert sorted(name for ids, _tests in rows for name in ids.split(", ")) == sorted(IDS)
    for ids, tests in rows:
        named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", tests)
        assert named, ids
        for file, name in named:
            assert f"\ndef {name}(" in (ROOT / "tests" / file).read_text(), (ids, file, name)
