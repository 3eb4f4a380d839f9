"""Run the whole suite on SQLite and on PostgreSQL, with a real Redis: `python -m tests [pytest arguments]`."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType
from xml.etree import ElementTree

import pytest

from funnel.children import die_with_parent
from tests.daemons import NoServer, postgresql, redis

ROOT = Path(__file__).resolve().parent.parent


def main(arguments: list[str]) -> int:
    signal.signal(signal.SIGTERM, stop)
    # A shell lets what it starts in the background ignore Ctrl-C, and all that comes of it: servers would never end.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="funnel-servers-") as folder:
        place = Path(folder)
        place.chmod(0o755)
        try:
            with redis(place) as redis_url, postgresql(place) as postgres_url:
                os.environ |= {"TEST_REDIS_URL": redis_url, "TEST_DATABASE_URL": postgres_url}
                ends = [
                    run("SQLite", "", place / "sqlite.xml", arguments),
                    run("PostgreSQL", postgres_url, place / "postgresql.xml", arguments),
                ]
                skipped = [line for report in place.glob("*.xml") for line in skips(report)]
        except NoServer as error:
            sys.exit(str(error))
    return verdict(ends, skipped)


def stop(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


def run(name: str, database_url: str, report: Path, arguments: list[str]) -> int:
    print(f"\n=== {name} ===", flush=True)
    started = time.monotonic()
    # A third process works while two wait for a server or a clock.
    command = [sys.executable, "-m", "pytest", f"--junitxml={report}", "-q", "-n", "3", *arguments]
    environment = os.environ | {"DATABASE_URL": database_url}
    code = subprocess.run(
        command, cwd=ROOT, env=environment, preexec_fn=die_with_parent, stdin=subprocess.DEVNULL, check=False
    ).returncode
    print(f"=== {name}: {time.monotonic() - started:.0f} s ===", flush=True)
    # With arguments that pick a few tests, one of the two runs may have none of them.
    return 0 if arguments and code == pytest.ExitCode.NO_TESTS_COLLECTED else code


def skips(report: Path) -> list[str]:
    lines = []
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        for skip in case.findall("skipped"):
            where = f"{case.get('classname')}::{case.get('name')}"
            lines.append(f"{where} ({report.stem}): {skip.get('message')}")
    return lines


def verdict(ends: list[int], skipped: list[str]) -> int:
    if skipped:
        print(f"\nSkipped, with the reason ({len(skipped)}):", *sorted(skipped), sep="\n  ")
    if any(ends):
        return 1
    # Real input is no part of the repository; without it there is nothing to miss.
    missed = [line for line in skipped if os.environ.get("CORPORA") or "CORPORA" not in line]
    if missed and os.environ.get("CI") == "true":
        print("\nUnder CI nothing may be skipped.")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
