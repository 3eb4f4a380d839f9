"""How fast a day is planned: `python bench/plan.py [--readers N] [--runs K] [--seed S] [--history N] [--json FILE]`.

A third of the readers is in a sequence, a third on the daily queue, and a third had today's issue already and gets
one of the reserve. Each plan is followed by a bare insert of the very same rows, a date later, into the same table.
"""

import argparse
import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import servers
from bench.table import Line, heading, hundredth, middle, save, show

FIRST = date(2026, 11, 2)
SIZES = (10_000, 100_000, 1_000_000)
ZONES = """
    Pacific/Kiritimati Pacific/Apia Pacific/Auckland Pacific/Fiji Pacific/Noumea Australia/Sydney Australia/Adelaide
    Asia/Tokyo Asia/Shanghai Asia/Bangkok Asia/Yangon Asia/Dhaka Asia/Kathmandu Asia/Kolkata Asia/Karachi Asia/Kabul
    Asia/Dubai Asia/Tehran Europe/Moscow Africa/Cairo Europe/Paris Europe/London Africa/Abidjan Atlantic/Azores
    Atlantic/Cape_Verde America/Nuuk America/Sao_Paulo America/St_Johns America/Halifax America/New_York
    America/Chicago America/Denver America/Los_Angeles America/Anchorage Pacific/Marquesas Pacific/Honolulu
    Pacific/Pago_Pago Pacific/Chatham
""".split()


@dataclass
class Measure:
    """One timed statement or call."""

    seconds: float
    wal: int
    backend_mb: float
    own_mb: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--readers", type=int, help="only this size; default: 10,000, 100,000 and 1,000,000")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1, help="shuffles which reader lives where")
    parser.add_argument("--history", type=int, default=30_000_000, help="rows that lie there already")
    parser.add_argument("--json", type=Path)
    wanted = parser.parse_args()
    sizes = (wanted.readers,) if wanted.readers else SIZES
    with servers.place() as folder, servers.postgresql(folder) as url:
        servers.django(url, folder)
        print(heading(versions()), flush=True)
        lines = measure(sizes, wanted)
    show(lines)
    save(lines, wanted.json)


def versions() -> str:
    import django

    settings = ", ".join(f"{name}={servers.SETTINGS[name]}" for name in ("shared_buffers", "work_mem", "autovacuum"))
    return f"PostgreSQL {scalar('SHOW server_version')} ({settings}), Django {django.__version__}"


def measure(sizes: tuple[int, ...], wanted: argparse.Namespace) -> list[Line]:
    import logging

    logging.disable(logging.INFO)
    days = max(wanted.history // sum(sizes), wanted.runs * 4 + 4)
    publications = {size: fill(size, days) for size in sizes}
    load(days)
    print(f"{scalar('SELECT count(*) FROM newsletters_delivery'):,} rows of history, {size_of_table()}\n", flush=True)
    lines: list[Line] = []
    for size, publication in publications.items():
        lines += case(publication, size, "one zone", wanted.runs)
        spread(publication, wanted.seed)
        lines += case(publication, size, f"{len(ZONES)} zones", wanted.runs)
    return [*lines, *idle()]


# The tables


def fill(readers: int, days: int) -> int:
    """Make a publication with its readers, three series, and a walk for each third reader; return its number."""
    from newsletters.models import Publication, Series

    publication = Publication.objects.create(name="Bench", slug=f"bench-{readers}", sender="bench@example.com")
    for kind in Series.Kind.values:
        Series.objects.create(publication=publication, kind=kind, name=kind, slug=kind)
    names = {"publication": publication.pk, "readers": readers, "issues": days + 60, "since": moment(FIRST, -days - 9)}
    run(
        """
        INSERT INTO newsletters_subscriber (publication_id, address, address_key, address_hash, status, zone, language,
            first_name, fields, tags, origin, weekdays, catching_up, member_since, created_at)
        SELECT %(publication)s, n || '@example.com', n || '@example.com', md5(n::text), 'active', 'Europe/Paris', 'fr',
            '', '{}', '[]', '', '', false, %(since)s, %(since)s
        FROM generate_series(1, %(readers)s) n;
        INSERT INTO newsletters_issue (publication_id, kind, state, subject, preheader, body, cut, canonical_url,
            digest_of, public_id, created_at, updated_at)
        SELECT %(publication)s, 'daily', 'queued', s.kind || ' ' || n, '', '', '', '', '', left(s.kind, 2) || n,
            %(since)s, %(since)s
        FROM newsletters_series s, generate_series(1, CASE kind WHEN 'sequence' THEN 12 ELSE %(issues)s END) n
        WHERE s.publication_id = %(publication)s;
        INSERT INTO newsletters_entry (series_id, issue_id, rank, added_at, placed_at)
        SELECT s.id, i.id, substr(i.public_id, 3)::bigint * 1024, %(since)s, %(since)s FROM newsletters_issue i
        JOIN newsletters_series s ON s.publication_id = i.publication_id AND left(s.kind, 2) = left(i.public_id, 2)
        WHERE i.publication_id = %(publication)s;
        CREATE TEMP TABLE fresh AS SELECT id, nextval('newsletters_text_id_seq') AS text FROM newsletters_issue
        WHERE publication_id = %(publication)s;
        INSERT INTO newsletters_text (id, publication_id, part, parts) SELECT text, %(publication)s, 1, 1 FROM fresh;
        INSERT INTO newsletters_issuetext (issue_id, text_id) SELECT id, text FROM fresh;
        DROP TABLE fresh;
        """,
        names,
    )
    # They stand at eight places of the sequence, one after another.
    run(
        """
        INSERT INTO newsletters_walk (subscriber_id, series_id, position, started_at, reached)
        SELECT r.id, s.id, 0, %(begun)s - (1 + r.id / 3 %% 8) * interval '1 day', (1 + r.id / 3 %% 8) * 1024
        FROM newsletters_subscriber r JOIN newsletters_series s ON s.publication_id = r.publication_id
        WHERE s.kind = 'sequence' AND r.publication_id = %(publication)s AND r.id %% 3 = 0
        """,
        names | {"begun": moment(FIRST) - timedelta(hours=12)},
    )
    return publication.pk


def load(days: int) -> None:
    """Write the history: a row a day for every reader, all sent; the last days partly from the reserve."""
    started = time.monotonic()
    indexes = rows("SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'newsletters_delivery'")
    run("ALTER TABLE newsletters_delivery DROP CONSTRAINT newsletters_delivery_pkey")
    for name, _definition in indexes:
        if not name.endswith("_pkey"):
            run(f"DROP INDEX {name}")
    for day in range(1, days + 1):
        at = moment(FIRST, day - days - 1)
        run(
            """
            INSERT INTO newsletters_delivery (local_date, subscriber_id, slot, publication_id, way, issue_id, entry_id,
                state, reason, due_at, try_at, late_until, attempts, owner, handoff_at, settled_at, reply)
            SELECT %(date)s, r.id, 0, r.publication_id, h.way, e.issue_id, e.id, 'sent', '', %(at)s, %(at)s,
                %(at)s::timestamptz + interval '15 hours', 0, '00000000-0000-4000-8000-000000000000',
                %(at)s::timestamptz + interval '20 s', %(at)s::timestamptz + interval '21 s', '250 2.0.0 Ok: queued'
            FROM newsletters_subscriber r
            CROSS JOIN LATERAL (SELECT %(day)s - %(days)s + CASE r.id %% 3 WHEN 0 THEN 1 + r.id / 3 %% 8
                WHEN 1 THEN -%(days)s ELSE 3 END AS step) p
            CROSS JOIN LATERAL (SELECT CASE WHEN step <= 0 THEN 'daily' WHEN r.id %% 3 = 0 THEN 'sequence'
                ELSE 'reserve' END AS way,
                CASE WHEN step > 0 THEN step WHEN r.id %% 3 = 2 THEN %(day)s ELSE %(day)s + 50 END AS number) h
            JOIN newsletters_series s ON s.publication_id = r.publication_id AND s.kind = h.way
            JOIN newsletters_entry e ON e.series_id = s.id AND e.rank = h.number * 1024
            """,
            {"day": day, "days": days, "date": at.date(), "at": at},
        )
    for name, definition in indexes:
        run(definition if not name.endswith("_pkey") else PRIMARY_KEY)
    run("VACUUM ANALYZE")
    print(f"history written in {time.monotonic() - started:.0f} s", flush=True)


PRIMARY_KEY = "ALTER TABLE newsletters_delivery ADD PRIMARY KEY (local_date, subscriber_id, slot)"


def spread(publication: int, seed: int) -> None:
    """Let the readers of a publication live in 38 zones."""
    run(
        "UPDATE newsletters_subscriber SET zone = (%(zones)s::text[])[1 + (id * 7919 + %(seed)s) / 3 %% %(number)s]"
        " WHERE publication_id = %(publication)s",
        {"zones": ZONES, "number": len(ZONES), "seed": seed, "publication": publication},
    )
    run("VACUUM FULL ANALYZE newsletters_subscriber")


# The cases


def case(publication: int, readers: int, where: str, runs: int) -> list[Line]:
    """Plan a day and insert the same rows bare, by turns."""
    ours, bare = [], []
    for _ in range(runs):
        day = following(publication)
        ours.append(timed(partial(plan, publication, day)))
        check(publication, day, readers)
        copy(publication, day)
        bare.append(timed(lambda: run(BARE)))
        run("DROP TABLE same; ANALYZE newsletters_delivery")
    rate, base = (readers / middle([one.seconds for one in done]) for done in (ours, bare))
    memory = max(one.backend_mb for one in ours), max(one.own_mb for one in ours)
    print(
        f"{readers:>9,} in {where}: {rate:,.0f} rows/s, {rate / base:.2f} of bare insert; "
        f"planner process {memory[1]:.0f} MB, its backend {memory[0]:.0f} MB",
        flush=True,
    )
    return [
        Line(
            f"ours plan, {where}",
            readers,
            rate,
            "bare insert",
            rate / base,
            peak_mb=memory[1],
            wal_bytes=wal(ours, readers),
        ),
        Line(f"bare insert, {where}", readers, base, wal_bytes=wal(bare, readers)),
    ]


def wal(done: list[Measure], readers: int) -> float:
    return middle([one.wal for one in done]) / readers


def following(publication: int) -> date:
    """Return a date that nothing is planned for, and set the clocks to it."""
    from newsletters import clock
    from newsletters.models import Clock, Delivery, Publication

    of = Publication.objects.get(pk=publication)
    last = Delivery.objects.filter(publication_id=publication).order_by("-local_date").first()
    assert last
    day: date = last.local_date + timedelta(days=1)
    Clock.objects.filter(publication=of).delete()
    zones = of.subscribers.values_list("zone", flat=True).distinct()
    for zone in {of.zone, *zones}:
        at = clock.instant(day, of.hour, zone)
        Clock.objects.create(publication=of, zone=zone, next_date=day, next_at=at)
    return day


def plan(publication: int, day: date) -> None:
    """Let the hour strike in one zone after another."""
    from newsletters import planning
    from newsletters.models import Clock

    for at in sorted(set(Clock.objects.filter(publication=publication).values_list("next_at", flat=True))):
        planning.tick(at)


def check(publication: int, day: date, readers: int) -> None:
    """Make sure that the plan is what the case says: all of them, a third each way."""
    names = {"day": day, "publication": publication}
    ways = dict(
        rows(
            "SELECT way, count(*) FROM newsletters_delivery WHERE local_date = %(day)s"
            " AND publication_id = %(publication)s AND state = 'planned' GROUP BY way",
            names,
        )
    )
    third = readers // 3
    if set(ways) != {"sequence", "daily", "reserve"} or any(abs(count - third) > 1 for count in ways.values()):
        sys.exit(f"The plan of {day} is {ways}, and not a third each.")


COLUMNS = """subscriber_id, slot, publication_id, way, issue_id, entry_id, state, reason, due_at, try_at, late_until,
    attempts, reply, settled_at"""
BARE = f"""
    INSERT INTO newsletters_delivery (local_date, {COLUMNS}) SELECT local_date, {COLUMNS} FROM same
    ON CONFLICT DO NOTHING"""


def copy(publication: int, day: date) -> None:
    run(
        f"CREATE UNLOGGED TABLE same AS SELECT local_date + 1 AS local_date, {COLUMNS} FROM newsletters_delivery"
        " WHERE local_date = %(day)s AND publication_id = %(publication)s",
        {"day": day, "publication": publication},
    )


def idle() -> list[Line]:
    """Measure a tick with nothing due among 1,000 publications in 40 zones each."""
    from tzdata import IANA_VERSION

    from newsletters import planning
    from newsletters.models import Clock, Publication

    made = [Publication(name="Idle", slug=f"idle-{number}", sender="idle@example.com") for number in range(1000)]
    zones = [*ZONES, "Asia/Seoul", "Europe/Rome"]
    at = moment(FIRST, 300)
    Clock.objects.all().delete()
    Clock.objects.bulk_create(
        Clock(publication=publication, zone=zone, next_date=at.date(), next_at=at, rules=IANA_VERSION)
        for publication in Publication.objects.bulk_create(made)
        for zone in zones
    )
    run("ANALYZE newsletters_clock")
    now = at - timedelta(hours=1)
    times = []
    for _ in range(500):
        started = time.perf_counter()
        planning.tick(now)
        times.append((time.perf_counter() - started) * 1000)
    return [Line("ours idle tick, 1,000 × 40 clocks", 0, p50_ms=middle(times), p99_ms=hundredth(times))]


# The measuring


def timed(act: Callable[[], Any]) -> Measure:
    run("CHECKPOINT")
    pid, before = scalar("SELECT pg_backend_pid()"), scalar("SELECT pg_current_wal_insert_lsn()")
    with peak(pid) as memory:
        started = time.perf_counter()
        act()
        seconds = time.perf_counter() - started
    written = scalar("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), %(before)s)", {"before": before})
    return Measure(seconds, int(written), memory[0] / 1024, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


@contextmanager
def peak(pid: int) -> Iterator[list[float]]:
    """Watch the private memory of a database process, in KB."""
    highest, done = [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("RssAnon"):
                    highest[0] = max(highest[0], float(line.split()[1]))

    watcher = threading.Thread(target=watch)
    if os.path.exists(f"/proc/{pid}/status"):
        watcher.start()
    try:
        yield highest
    finally:
        done.set()
        if watcher.ident:
            watcher.join()


def moment(day: date, days: int = 0) -> datetime:
    """Return when it is 7:00 in Paris, in winter."""
    return datetime(day.year, day.month, day.day, 6, tzinfo=UTC) + timedelta(days=days)


def size_of_table() -> str:
    return str(scalar("SELECT pg_size_pretty(pg_total_relation_size('newsletters_delivery'))"))


def run(statement: str, names: dict[str, Any] | None = None) -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(statement, names)


def rows(statement: str, names: dict[str, Any] | None = None) -> list[Any]:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(statement, names)
        return list(cursor.fetchall())


def scalar(statement: str, names: dict[str, Any] | None = None) -> Any:
    return rows(statement, names)[0][0]


if __name__ == "__main__":
    main()
