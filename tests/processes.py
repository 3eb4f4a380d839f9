"""The real commands in processes of their own, with a clean environment."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from funnel.children import die_with_parent

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
Value = TypeVar("Value")


def environment(data_dir: Path, **settings: str) -> dict[str, str]:
    """Return what a process needs, and nothing of this one's settings."""
    kept = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    return kept | {"PATH": path, "DATA_DIR": str(data_dir), "PYTHONUNBUFFERED": "1"} | settings


def run_bench(name: str, place: Path, *arguments: str) -> list[dict[str, Any]]:
    """Run a bench, which must find nothing wrong, and return its lines."""
    found = place / "found.json"
    run = subprocess.run(
        [sys.executable, f"bench/{name}.py", *arguments, "--json", str(found)],
        cwd=ROOT,
        env=environment(place),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return [json.loads(line) for line in found.read_text().splitlines()]


def manage(data_dir: Path, *arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    """Run a management command to its end."""
    return subprocess.run(
        [sys.executable, ROOT / "manage.py", *arguments],
        env=environment(data_dir, **settings),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@contextmanager
def started(command: list[str], log: Path, env: dict[str, str]) -> "Iterator[subprocess.Popen[bytes]]":
    """Run a command until the block ends; whatever is left of it is killed."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            env=env,
            cwd=ROOT,
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            preexec_fn=die_with_parent,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until(question: Callable[[], Value], seconds: float = 40, pause: float = 0.1) -> Value:
    """Ask until the answer is true, and return it."""
    deadline = time.monotonic() + seconds
    while not (answer := question()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s")
        time.sleep(pause)
    return answer


def status(url: str, **headers: str) -> int:
    """Return the status of a page, 0 while nobody answers."""
    try:
        with urlopen(Request(url, headers=headers), timeout=10) as answer:
            return int(answer.status)
    except HTTPError as error:
        return error.code
    except (URLError, OSError):
        return 0
