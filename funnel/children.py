"""A few processes that live and end together."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

PR_SET_PDEATHSIG = 1
# Longer than a group at the mail server takes, shorter than a supervisor's patience.
PATIENCE = 20.0
# For so many seconds a child that is to end may see to others' requests.
GRACE = 5
LONGEST_PAUSE = 60.0


def die_with_parent() -> None:
    """Ask Linux, between fork and exec, to end this process when its parent does, even by kill -9 (prctl(2))."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


@dataclass
class Child:
    """One process that is started again, after a growing pause, whenever it ends."""

    name: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    process: "subprocess.Popen[bytes] | None" = None
    started_at: float = 0.0
    start_at: float = 0.0
    pause: float = 1.0

    def start(self) -> None:
        # A group of its own, so that Ctrl-C in a terminal reaches the parent alone, which then ends all in order.
        self.process = subprocess.Popen(
            self.command, env=os.environ | self.environment, process_group=0, preexec_fn=die_with_parent
        )
        self.started_at = time.monotonic()

    def watch(self, say: Callable[[str], None]) -> None:
        """Start the process when it is due; notice that it ended."""
        now = time.monotonic()
        if self.process is None:
            if now >= self.start_at:
                self.start()
        elif (code := self.process.poll()) is not None:
            if now - self.started_at > LONGEST_PAUSE:
                self.pause = 1.0
            say(f"{self.name} ended ({ending(code)}); starting it again in {self.pause:.0f} s.")
            self.process, self.start_at = None, now + self.pause
            self.pause = min(LONGEST_PAUSE, self.pause * 2)

    def end(self, deadline: float) -> bool:
        """Wait for the process, which has had its SIGTERM; return False where it had to be killed."""
        if self.process is None:
            return True
        try:
            self.process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            return False
        return True


def ending(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def run(children: list[Child], say: Callable[[str], None], ready: Callable[[], bool]) -> None:
    """Keep the children running until SIGTERM or Ctrl-C, then end them all. `ready` is asked until it says yes."""
    stopping: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # nohup stands for "stay when the terminal closes".
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda number, frame: stopping.append(number))
    try:
        greeted = False
        while not stopping:
            for child in children:
                child.watch(say)
            greeted = greeted or ready()
            time.sleep(0.2)
    finally:
        end(children, say)


def end(children: list[Child], say: Callable[[str], None]) -> None:
    for child in children:
        if child.process and child.process.poll() is None:
            child.process.terminate()
    deadline = time.monotonic() + PATIENCE
    for child in children:
        if not child.end(deadline):
            say(f"{child.name} did not stop within {PATIENCE:.0f} s and was killed.")
