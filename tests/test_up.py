import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.daemons import free_port
from tests.processes import ROOT, environment, manage, started, status, wait_until

pytestmark = [pytest.mark.sqlite, pytest.mark.timeout(240)]


class Running:
    """A `manage.py up` and what it says."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path, port: int) -> None:
        self.process, self.log, self.port = process, log, port

    @property
    def said(self) -> str:
        return self.log.read_text()

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + 90
        while "Letterbox" not in self.said:
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.1)

    def family(self) -> dict[int, str]:
        """Return every process of this place, by the DATA_DIR in its environment."""
        mark = f"DATA_DIR={self.log.parent}\0".encode()
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (folder / "environ").read_bytes() + b"\0":
                    found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
            except OSError:
                continue
        return found


@contextmanager
def up(place: Path, *options: str, **settings: str) -> Iterator[Running]:
    place.mkdir(exist_ok=True)
    port, log = free_port(), place / "said.log"
    log.write_text("")
    env = environment(place, PORT=str(port), **settings)
    with started([sys.executable, str(ROOT / "manage.py"), "up", *options], log, env) as process:
        yield Running(process, log, port)


def test_it_starts_says_where_to_go_and_leaves_nothing_behind(tmp_path: Path) -> None:
    place = tmp_path / "a place"

    with up(place, "--prepare") as first:
        first.wait_until_ready()
        for address in re.findall(r"http://\S+", first.said):
            assert status(address) == 200, address
        password = re.search(r"Log in as maud with (\S+)", first.said)
        assert status(f"http://localhost:{first.port}/readyz") == 200
        with socket.create_connection(("127.0.0.1", first.port)) as browser:
            browser.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
            first.process.send_signal(signal.SIGINT)
            assert first.process.wait(20) == 0, first.said
    with up(place, "--prepare") as second:
        second.wait_until_ready()
        seconds = time.monotonic()
        second.process.terminate()
        assert second.process.wait(20) == 0, second.said

    assert password
    assert len(first.said.splitlines()) < 15, first.said
    assert "Traceback" not in first.said + second.said
    assert "was killed" not in first.said + second.said
    assert "Log in as" not in second.said
    assert time.monotonic() - seconds < 10
    assert not second.family()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of a parent's death")
def test_kill_9_leaves_no_process(tmp_path: Path) -> None:
    with up(tmp_path / "place", "--prepare") as running:
        running.wait_until_ready()
        assert len(running.family()) >= 4

        running.process.kill()

        wait_until(lambda: not running.family(), seconds=20)


def test_a_child_that_dies_comes_back(tmp_path: Path) -> None:
    with up(tmp_path / "place", "--prepare") as running:
        running.wait_until_ready()
        worker = next(number for number, command in running.family().items() if " worker " in command)

        os.kill(worker, signal.SIGKILL)

        wait_until(lambda: "worker ended (killed by SIGKILL); starting it again in 1 s." in running.said)
        wait_until(lambda: any(" worker " in command for command in running.family().values()))


def test_a_taken_port_is_one_sentence_that_names_a_free_one(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        answer = manage(tmp_path, "up", "--prepare", PORT=str(port))

    assert answer.returncode == 1
    assert re.fullmatch(
        rf"CommandError: PORT {port} is in use by another program. Choose another, for example PORT=\d+.\n",
        answer.stderr,
    )
    assert not (tmp_path / "db.sqlite3").exists()


@pytest.mark.parametrize(
    "url", ["postgres://nobody@127.0.0.1:1/none", "sqlite:////nowhere/at/all.sqlite3", "sqlite:////etc/passwd"]
)
def test_a_database_out_of_reach_is_one_sentence(tmp_path: Path, url: str) -> None:
    answer = manage(tmp_path, "up", "--prepare", PORT=str(free_port()), DATABASE_URL=url)

    assert answer.returncode == 1
    assert answer.stderr.count("\n") == 1
    assert answer.stderr.startswith("CommandError: DATABASE_URL names a database that cannot be used: ")


def test_a_database_without_its_tables_is_one_sentence(tmp_path: Path) -> None:
    answer = manage(tmp_path, "up", PORT=str(free_port()))

    assert answer.stderr == "CommandError: The database lacks migrations. Run `python manage.py migrate` first.\n"


@pytest.mark.parametrize("python", ["/nowhere/python3", "false"])
def test_make_says_which_python_it_needs(tmp_path: Path, python: str) -> None:
    for name in ("Makefile", "requirements"):
        (tmp_path / name).symlink_to(ROOT / name)

    answer = subprocess.run(
        ["make", "run", f"PYTHON={python}"], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert answer.returncode == 2
    assert "Python 3.11 or newer is needed." in answer.stdout
    assert not (tmp_path / ".venv").exists()
