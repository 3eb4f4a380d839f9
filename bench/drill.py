"""A sender under fire: its servers, its workers, what breaks them, and the count of what arrived."""

import os
import random
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import redis as redis_client

from bench import ground
from bench.crew import Crew
from bench.ground import Taken, until

WORKERS, CONNECTIONS = 4, 4
# So long nothing may move before a day counts as stuck, in seconds
STUCK = 90.0


@dataclass
class Count:
    """What a run came to. `doubt` is how many rows stood between hand-off and settling when their worker died; `after`
    (doubled, lost) and `still` (uncertain) are what the settling by the record left."""

    case: str
    readers: int
    days: int = 0
    sent: int = 0
    accepted: int = 0
    doubled: int = 0
    lost: int = 0
    uncertain: int = 0
    delivered: int = 0
    after: tuple[int, int] = (0, 0)
    still: int = 0
    doubt: int = 0
    bound: int = 0
    landed: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    fault: str = ""  # where one kind of fault had these days for itself


class Drill(ABC):
    """The grounds. A sender of its own kind says what a day is, who holds what, and when a day is over."""

    kind = ""
    # Of each hundred kills; every one of them at least once
    FAULTS = {"kill_all": 1.0, "flush_Redis": 2.0, "stop_PostgreSQL": 0.5, "kill_mail_server": 2.0}
    # Faults that this machine cannot bring about, with the reason
    NOT_POSSIBLE: dict[str, str] = {}

    def __init__(self, readers: int, seed: int, folder: Path, connections: int = CONNECTIONS) -> None:
        self.readers, self.folder, self.connections = readers, folder, connections
        self.random = random.Random(f"{self.kind} {seed}")
        self.count = Count(self.kind, readers)
        self.day = 0
        self.taken, self.subject = Counter[Taken](), ""
        self.stopping = threading.Event()
        self.database: psycopg.Connection[Any] | None = None

    @contextmanager
    def grounds(self) -> Iterator[None]:
        with ExitStack() as stack:
            place = self.folder / self.kind
            place.mkdir()
            place.chmod(0o755)
            self.record = place / "record"
            self.postgresql = stack.enter_context(ground.postgresql(place).running(signal.SIGQUIT))
            self.redis = stack.enter_context(ground.redis(place).running())
            self.sink = stack.enter_context(ground.smtp_sink(self.record).running())
            slow = stack.enter_context(ground.slow(self.sink.port, 4, place).running())
            self.database_url = f"postgres://postgres@127.0.0.1:{self.postgresql.port}/postgres"
            self.environment = {name: os.environ[name] for name in ("HOME", "LANG", "PATH") if name in os.environ} | {
                "DATABASE_URL": self.database_url,
                "REDIS_URL": f"redis://127.0.0.1:{self.redis.port}/0",
                "MAIL_URL": f"smtp://127.0.0.1:{slow.port}?connections={self.connections}",
                "DATA_DIR": str(place / "var"),
            }
            self.broker_url = self.environment["REDIS_URL"]
            self.prepare()
            self.crew = Crew(self.kind, place / "crew.log", self.environment)
            stack.callback(self.crew.end)
            for _ in range(WORKERS):
                self.crew.start()
            self.keep_pace_beside(stack)
            yield

    def keep_pace_beside(self, stack: ExitStack) -> None:
        pace = threading.Thread(target=self.keep_pace, daemon=True)
        pace.start()
        stack.callback(pace.join)
        stack.callback(self.stopping.set)

    # The database

    def query(self, statement: str, *values: Any) -> list[Any]:
        """Ask the database; where it is away, come back."""
        for _ in range(600):
            try:
                if self.database is None:
                    self.database = psycopg.connect(self.database_url, autocommit=True, application_name="drill")
                cursor = self.database.execute(statement, values or None)
                return cursor.fetchall() if cursor.description else []
            except psycopg.OperationalError:
                self.database = None
                time.sleep(0.05)
        raise RuntimeError("The database does not come back.")

    @property
    def broker(self) -> "redis_client.Redis":
        return redis_client.Redis(port=self.redis.port)

    # What a sender of a kind must say

    @abstractmethod
    def prepare(self) -> None:
        """Make the tables, the readers and the text."""

    @abstractmethod
    def plan(self) -> None:
        """Make the day's rows."""

    @abstractmethod
    def open(self) -> int:
        """Return how many rows of the day have not ended."""

    @abstractmethod
    def pace(self) -> None:
        """Do what the clock does, twice a second."""

    @abstractmethod
    def busy(self, aimed: bool) -> list[str]:
        """Return the workers that hold something; with `aimed`, those that have handed something over."""

    @abstractmethod
    def buried(self, *names: str) -> tuple[int, int]:
        """Return how many rows dead workers held before and after the hand-off, and let time pass for these."""

    @abstractmethod
    def passed(self) -> None:
        """Let time pass for whatever was held when the database went down."""

    @abstractmethod
    def close(self) -> None:
        """Compare the day with the mail server's record."""

    def of_the_day(self) -> Counter[str]:
        """Read what the mail server has written down by now; return how many copies of the day each address got."""
        self.taken += ground.read(self.record)
        return Counter({one.recipient: count for one, count in self.taken.items() if one.subject == self.subject})

    # The days

    def keep_pace(self) -> None:
        while not self.stopping.wait(0.5):
            with suppress(Exception):
                self.pace()

    def run(self, faults: list[str]) -> Count:
        """Let all faults land, as many days as that takes, and then the last day come to its end."""
        started, done, shown = time.monotonic(), 0, time.monotonic()
        # Whoever cannot wait gets the count of what has landed.
        signal.signal(signal.SIGTERM, lambda number, frame: faults.clear())
        while faults or not self.count.days:
            self.next_day()
            while faults and self.open():
                self.let_pass(self.random.uniform(0, self.readers / 100))
                name = faults[-1] if faults else "kill"
                if getattr(self, name)():
                    self.count.landed[name] += 1
                    done += 1
                    del faults[-1:]
                if time.monotonic() > shown + 20:
                    shown = time.monotonic()
                    print(
                        f"  {self.kind}: day {self.count.days}, {done} faults landed, {len(faults)} to go", flush=True
                    )
            self.finish()
            self.close()
        self.count.seconds = time.monotonic() - started
        return self.count

    def next_day(self) -> None:
        self.count.days += 1
        self.day += 1
        self.plan()

    def let_pass(self, messages: float) -> None:
        """Let so many messages leave before the next fault, and then a moment more."""
        left = self.open() - messages
        until(lambda: self.open() <= left, 3, 0.05)
        time.sleep(self.random.uniform(0, 0.05))

    def finish(self) -> None:
        """Wait until nothing is open, or nothing moves any more."""
        left, since = self.open(), time.monotonic()
        while left and time.monotonic() - since < STUCK:
            time.sleep(0.1)
            if (now := self.open()) != left:
                left, since = now, time.monotonic()

    # What breaks. Each returns whether it landed.

    def kill(self) -> bool:
        return self.strike(aimed=False)

    def kill_after_hand_off(self) -> bool:
        """Stop a worker, see in the database that it has handed over what it has not settled, and kill it."""
        return self.strike(aimed=True)

    def strike(self, aimed: bool) -> bool:
        if not (name := self.someone(aimed)):
            return False
        if aimed:
            self.crew.signal(name, signal.SIGSTOP)
            if name not in self.busy(aimed):
                self.crew.signal(name, signal.SIGCONT)
                return False
        return self.dead(name)[1 if aimed else 0] > 0

    def someone(self, aimed: bool) -> str:
        """Choose one of the workers that hold something; wait for one where there is none."""
        until(lambda: self.busy(aimed), 3, 0.02)
        names = self.busy(aimed)
        return self.random.choice(names) if names else ""

    def dead(self, *names: str) -> tuple[int, int]:
        """Kill, replace, and return how many rows were held at all, and how many after their hand-off."""
        self.crew.kill(*names)
        before, after = self.buried(*names)
        self.count.landed["killed in doubt"] += after > 0
        self.count.landed["killed holding rows"] += before + after > 0
        for _ in names:
            self.crew.start()
        return before + after, after

    def kill_all(self) -> bool:
        return self.dead(*list(self.crew.pids))[0] > 0

    def flush_Redis(self) -> bool:  # noqa: N802
        landed = int(self.broker.dbsize()) > 0
        self.broker.flushall()
        return landed

    def stop_PostgreSQL(self) -> bool:  # noqa: N802
        name = self.someone(aimed=False)
        self.postgresql.end(signal.SIGQUIT)
        time.sleep(self.random.uniform(0.1, 1))
        self.postgresql.start()
        self.passed()
        return bool(name)

    def kill_mail_server(self) -> bool:
        landed = bool(self.someone(aimed=True))
        self.sink.end()
        time.sleep(self.random.uniform(0.05, 0.5))
        self.sink.start()
        self.count.bound += self.connections * WORKERS * landed
        return landed
