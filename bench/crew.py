"""Workers that can be killed by the hundred: one process has imported everything, and forks a fresh one at each word.

`python bench/crew.py KIND` reads names from its standard input; KIND is whose workers they are.
"""

import gc
import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from funnel.children import die_with_parent

# What a worker imports only when it needs it
PRELOADED = ["celery.apps.worker", "celery.bin.worker", "kombu.transport.redis"]
PRELOADED += [f"newsletters.{name}" for name in "alarms heartbeat notices planning promise rehearsal".split()]
PRELOADED += [f"newsletters.{name}" for name in "sending copies transports.smtp transports.letterbox".split()]
QUIET = ["--quiet", "--skip-checks", "worker", "--pool", "threads", "--concurrency", "4", "--loglevel", "ERROR"]
QUIET += ["--without-gossip", "--without-mingle"]


class Crew:
    """The workers as the drill sees them: names, and process numbers."""

    def __init__(self, kind: str, log: Path, env: dict[str, str], before: tuple[str, ...] = ()) -> None:
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [*before, sys.executable, __file__, kind],
                env=env | {"PYTHONWARNINGS": "ignore"},
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
                preexec_fn=die_with_parent,
            )
        self.pids: dict[str, int] = {}
        self.born = 0

    def start(self) -> str:
        self.born += 1
        name = f"w{self.process.pid}x{self.born}"
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{name}\n")
        self.process.stdin.flush()
        self.pids[name] = int(self.process.stdout.readline())
        return name

    def signal(self, name: str, number: int) -> None:
        os.kill(self.pids[name], number)

    def kill(self, *names: str) -> None:
        """Kill -9, all at once, and see them dead."""
        for name in names:
            with suppress(ProcessLookupError):
                self.signal(name, signal.SIGKILL)
        for name in names:
            while self.lives(name):
                time.sleep(0.001)
            del self.pids[name]

    def lives(self, name: str) -> bool:
        try:
            os.kill(self.pids[name], 0)
        except ProcessLookupError:
            return False
        return True

    def end(self) -> None:
        self.kill(*list(self.pids))
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(30)


def ours() -> Callable[[str], None]:
    """A worker as the service runs it."""
    import django

    django.setup()

    from funnel.celery import app

    for name in PRELOADED:
        importlib.import_module(name)
    # Each worker has a stop flag of its own there.
    assert "newsletters.tasks" not in sys.modules
    return lambda name: app.worker_main([*QUIET, "-n", f"{name}@drill"])


def kinds() -> dict[str, Callable[[], Callable[[str], None]]]:
    from bench import baselines

    return {"ours": ours, "mark": baselines.mark_after_send, "task": baselines.task_per_message}


def main(kind: str) -> None:
    work = kinds()[kind]()
    gc.freeze()
    # Nobody waits for the dead.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        if pid := os.fork():
            print(pid, flush=True)
        else:
            be(work, line.strip())


def be(work: Callable[[str], None], name: str) -> None:
    """Become a worker. Its sessions in PostgreSQL bear its name."""
    die_with_parent()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    os.environ["PGAPPNAME"] = name
    try:
        work(name)
    finally:
        sys.stderr.flush()
        os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
