"""How fast a day is sent: `python bench/send.py [--readers N] [--runs K] [--seed S] [--profile] [--json FILE]`.

`ours send` goes from planned rows to settled rows in PostgreSQL, with the crash-safe hand-off. `smtp-source`, Postfix's
own load generator, shows what the mail server can take at most; `django` is Django's SMTP backend with a message of
its own per reader. All of them send messages of the same size to the same servers: Postfix's `smtp-sink`, and a sink
in C that costs next to nothing, so that the sender's own cost shows.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import servers
from bench.ground import POSTFIX
from bench.others import (
    CONNECTIONS,
    NAMES,
    Measure,
    cpu,
    django_backend,
    filled,
    remember,
    sample,
    smtp_source,
)
from bench.shares import Shares, told
from bench.table import Line, heading, middle, save, show
from tests.daemons import NOBODY, free_port, running

FIRST = date(2026, 11, 2)
SIZES = (10_000, 100_000)
MILLION, HISTORY = 1_000_000, 30_000_000
SIZE = 25_000
# As many as are compared as rates with the others; each reader costs them milliseconds.
DJANGO, PREMAILER = 3_000, 1_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--readers", type=int, help="only this size; default: 10,000 and 100,000")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1, help="shuffles which reader has which name")
    parser.add_argument("--workers", type=int, default=1, help="how many processes of ours send")
    parser.add_argument("--history", type=int, help="rows that lie there already; 30,000,000 for 1,000,000 readers")
    parser.add_argument("--profile", action="store_true", help="say which parts of a worker take its time")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.worker:
        work(wanted.worker, wanted.profile)
        return
    with servers.place() as folder, servers.postgresql(folder) as url:
        servers.django(url, folder)
        print(heading(versions(wanted)), flush=True)
        lines = measure(wanted, folder)
    show(lines)
    save(lines, wanted.json)


def versions(wanted: argparse.Namespace) -> str:
    import django

    postgresql = query("SHOW server_version")[0][0]
    return (
        f"PostgreSQL {postgresql} (fsync=on, synchronous_commit=on), Django {django.__version__}; "
        f"{wanted.workers} worker of ours, {CONNECTIONS} connections each way"
    )


def measure(wanted: argparse.Namespace, folder: Path) -> list[Line]:
    sizes = (wanted.readers,) if wanted.readers else SIZES
    lines: list[Line] = []
    with ExitStack() as stack:
        sinks = {"": stack.enter_context(smtp_sink(folder))}
        if program := compiled(folder):
            sinks[", free sink"] = stack.enter_context(free_sink(program, folder))
        for size in sizes:
            bench = Bench(size, wanted)
            for _ in range(1 if size >= MILLION else wanted.runs):
                for name, port in sinks.items():
                    bench.round(name, port)
            lines += bench.lines()
    return lines


class Bench:
    """One size: its readers, its rounds, its lines."""

    def __init__(self, readers: int, wanted: argparse.Namespace) -> None:
        self.readers, self.workers, self.profile, self.day = readers, wanted.workers, wanted.profile, FIRST
        self.publication, self.issue = fill(readers, wanted.seed)
        history = wanted.history if wanted.history is not None else HISTORY if readers >= MILLION else 0
        for ahead in range(history // readers):
            plan(self.publication, self.issue, FIRST - timedelta(days=ahead + 1), "sent")
        query("VACUUM ANALYZE")
        self.message = sample()
        self.done: dict[str, list[Measure]] = {}

    def round(self, sink: str, port: int) -> None:
        few = self.readers <= SIZES[0]
        self.take(f"smtp-source{sink}", lambda: smtp_source(port, self.readers, len(self.message)))
        self.take(f"ours send{sink}", lambda: self.ours(port))
        if few and not sink:
            self.take("django", lambda: django_backend(port, min(DJANGO, self.readers), each=False))
            self.take("django premailer each", lambda: django_backend(port, min(PREMAILER, self.readers), each=True))

    def take(self, case: str, act: Callable[[], Measure]) -> None:
        done = act()
        self.done.setdefault(case, []).append(done)
        print(
            f"{self.readers:>9,} {case:<26} {done.rate:>9,.0f}/s  CPU {done.cpu / done.count * 1e6:.0f} µs", flush=True
        )

    def ours(self, port: int) -> Measure:
        self.day += timedelta(days=1)
        url = f"smtp://127.0.0.1:{port}?connections={CONNECTIONS}"
        at = datetime(self.day.year, self.day.month, self.day.day, 6, tzinfo=UTC)
        workers = [Worker(at, url, self.profile) for _ in range(self.workers)]
        for worker in workers:
            worker.warm(self)
        plan(self.publication, self.issue, self.day, "planned")
        query("VACUUM ANALYZE newsletters_delivery")
        query("CHECKPOINT")
        started = time.perf_counter()
        for worker in workers:
            worker.tell("go")
        reports = [worker.report() for worker in workers]
        seconds = time.perf_counter() - started
        counted = """
            SELECT state, count(*) FROM newsletters_delivery WHERE local_date = %s AND publication_id = %s GROUP BY 1"""
        states = dict(query(counted, self.day, self.publication))
        if states != {"sent": self.readers}:
            sys.exit(f"Not all were sent: {states}")
        if self.profile:
            busy = sum(report["cpu"] for report in reports) / seconds
            seen = sum((Counter(report["seen"]) for report in reports), Counter[str]())
            print(f"{self.readers:>9,} {busy:.2f} of a core: {told(seen)}", flush=True)
        peak, idle = (max(report[name] for report in reports) for name in ("peak", "idle"))
        return Measure(self.readers, seconds, sum(report["cpu"] for report in reports), peak, idle)

    def lines(self) -> list[Line]:
        rates = {case: middle([one.rate for one in done]) for case, done in self.done.items()}
        return [self.line(case, done, rates) for case, done in self.done.items()]

    def line(self, case: str, done: list[Measure], rates: dict[str, float]) -> Line:
        name, _comma, sink = case.partition(", ")
        of = "" if name == "smtp-source" else f"smtp-source{', ' * bool(sink)}{sink}"
        ours = name.startswith("ours")
        return Line(
            case,
            done[0].count,
            rates[case],
            of,
            rates[case] / rates[of] if of else None,
            peak_mb=max(one.peak for one in done) if ours else None,
            above_mb=max(one.peak - one.idle for one in done) if ours else None,
            cpu_us=middle([one.cpu / one.count * 1e6 for one in done]),
            in_doubt=CONNECTIONS * self.workers if ours else None,
        )


# Who sends


class Worker:
    """A process of ours. It sends what is due when it is told to."""

    def __init__(self, at: datetime, url: str, profile: bool) -> None:
        command = [sys.executable, __file__, "--worker", at.isoformat(), *["--profile"] * profile]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | {"MAIL_URL": url}
        )

    def tell(self, word: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()

    def warm(self, bench: Bench) -> None:
        """Let it send a few first: imports and the blueprint are made once in a worker's life."""
        plan(bench.publication, bench.issue, bench.day + timedelta(days=9999), "planned", 200, bench.day)
        self.tell("go")
        assert self.process.stdout
        self.process.stdout.readline()
        query("DELETE FROM newsletters_delivery WHERE local_date = %s", bench.day + timedelta(days=9999))

    def report(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(30)
        report: dict[str, Any] = json.loads(line)
        return report


def work(at: str, profile: bool) -> None:
    """Be a worker: drain each time a line comes, and tell what it cost."""
    import django

    django.setup()
    import logging

    from newsletters import sending

    logging.disable(logging.INFO)
    now = datetime.fromisoformat(at)
    for _line in sys.stdin:
        before, idle = cpu(resource.RUSAGE_SELF), memory("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")
        shares = Shares()
        if profile:
            shares.begin()
        while sending.drain(lambda: now):
            pass
        report = {"cpu": cpu(resource.RUSAGE_SELF) - before, "peak": memory("VmHWM"), "idle": idle}
        print(json.dumps(report | {"seen": shares.end()}), flush=True)


def memory(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:"))


# What is sent

PARAGRAPH = (
    "Une habitude ne se décide pas, elle se répète : chaque matin, le même geste, à la même heure, avant que le reste "
    "de la journée ne commence. Personne ne voit les dix premiers jours ; tout le monde voit le centième. "
)


def fill(readers: int, seed: int) -> tuple[int, int]:
    """Make a publication with its readers and an issue of about 25 KB; return their numbers."""
    from newsletters.models import Issue, Publication

    publication = Publication.objects.create(
        name="Le pas du jour",
        slug=f"bench-{readers}",
        language="fr",
        author="Maud Castéra",
        sender="maud@lepasdujour.example",
        reply_to="maud@lepasdujour.example",
        postal_address="8, rue du Fanal, 64100 Bayonne, France",
    )
    issue = Issue(publication=publication, kind="daily", state="queued", subject="Le pas du jour", public_id="bench")
    paragraphs = 4
    while True:
        issue.body = body(paragraphs)
        issue.save()
        if len(filled(issue)) >= SIZE or paragraphs > 200:
            break
        paragraphs += 1
    remember(issue)
    query(
        """
        INSERT INTO newsletters_subscriber (publication_id, address, address_key, address_hash, status, zone, language,
            first_name, fields, tags, origin, weekdays, catching_up, member_since, created_at)
        SELECT %s, 'reader' || n || '@example.com', 'reader' || n || '@example.com', md5(n::text), 'active',
            'Europe/Paris', 'fr', (%s::text[])[1 + (n::bigint * 7919 + %s) %% %s], '{}', '[]', '', '', false,
            %s::timestamptz - n %% 400 * interval '1 day', now()
        FROM generate_series(1, %s) n""",
        publication.pk,
        NAMES,
        seed,
        len(NAMES),
        datetime(2026, 11, 1, tzinfo=UTC),
        readers,
    )
    return publication.pk, issue.pk


def body(paragraphs: int) -> str:
    links = [f"[Lire la suite {number}](https://lepasdujour.example/articles/{number}/)" for number in range(1, 7)]
    texts = [PARAGRAPH + (links[number] if number < len(links) else "") for number in range(paragraphs)]
    return "Bonjour {{ first_name|vous }},\n\n" + "\n\n".join([*texts, *links[paragraphs:]])


def plan(
    publication: int, issue: int, day: date, state: str, limit: int | None = None, due: date | None = None
) -> None:
    at = datetime((due or day).year, (due or day).month, (due or day).day, 6, tzinfo=UTC)
    query(
        """
        INSERT INTO newsletters_delivery (local_date, subscriber_id, slot, publication_id, way, issue_id, state, reason,
            due_at, try_at, late_until, attempts, reply)
        SELECT %s, id, 0, publication_id, 'daily', %s, %s, '', %s, %s, %s, 0, '' FROM newsletters_subscriber
        WHERE publication_id = %s ORDER BY id LIMIT %s""",
        *(day, issue, state, at, at, at + timedelta(hours=15), publication, limit),
    )


def query(statement: str, *values: Any) -> list[Any]:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(statement, values or None)
        return list(cursor.fetchall()) if cursor.description else []


# Who receives


@contextmanager
def smtp_sink(folder: Path) -> Iterator[int]:
    program, port = shutil.which("smtp-sink", path=POSTFIX), free_port()
    if program is None:
        sys.exit("smtp-sink is missing. Install it: apt-get install --no-install-recommends postfix.")
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    with running([program, *user, f"127.0.0.1:{port}", "1000"], port, folder / "smtp-sink.log"):
        yield port


def compiled(folder: Path) -> Path | None:
    """Compile the sink that costs next to nothing, where there is a compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        print("No C compiler: the free sink is left out.")
        return None
    program = folder / "sink"
    subprocess.run([compiler, "-O2", "-o", program, Path(__file__).with_name("sink.c")], check=True)
    return program


@contextmanager
def free_sink(program: Path, folder: Path) -> Iterator[int]:
    port = free_port()
    user = NOBODY if os.geteuid() == 0 else None
    with running([program, str(port)], port, folder / "sink.log", user):
        yield port


if __name__ == "__main__":
    main()
