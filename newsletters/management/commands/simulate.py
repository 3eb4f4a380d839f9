import logging
import os
import random
import tempfile
import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from itertools import groupby
from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connection

from newsletters import promise
from newsletters.models import Day
from newsletters.simulation.run import Simulation

# So many broken invariants are told while the days go by; at the end, all are.
SHOWN = 20
# The ledger of so many days is printed day by day.
SPAN = 62
FIGURES = ["expected", "on time", "late", "failed", "uncertain"]


class Command(BaseCommand):
    told = 0
    help = "Live through days that never were, in a database of their own, and tell every rule that did not hold."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--days", type=int, default=30)
        parser.add_argument("--subscribers", type=int, default=100)
        parser.add_argument("--zones", type=int, default=40, help="in how many time zones they live")
        parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same days")
        parser.add_argument("--faults", action="store_true", help="with crashes, lost wake-ups, outages and refusals")

    def handle(self, *args: Any, days: int, subscribers: int, zones: int, seed: int, faults: bool, **o: Any) -> None:
        if min(days, subscribers, zones) < 1:
            raise CommandError("Give at least one day, one subscriber and one zone.")
        random.seed(seed)
        started = time.monotonic()
        with quiet(), scratch():
            simulation = Simulation(days, subscribers, zones, seed, faults)
            simulation.run(lambda day: self.progress(day, simulation))
            self.ledger()
            self.summary(simulation)
        self.stdout.write(f"{days} days, {subscribers} subscribers, {zones} zones: {time.monotonic() - started:.0f} s")
        self.verdict(simulation)

    def progress(self, day: date, simulation: Simulation) -> None:
        if day.day == 1:
            accepted = simulation.witness.accepted.total()
            self.stderr.write(f"  {day:%-d %B %Y}: {accepted} messages, {len(simulation.broken)} broken invariants")
        for line in list(simulation.broken)[self.told : SHOWN]:
            self.stderr.write(line)
        self.told = len(simulation.broken)
        self.stderr.flush()

    def ledger(self) -> None:
        """Print each date, or each month where there are many."""
        days = list(Day.objects.order_by("date").prefetch_related("corrections"))
        spans = [[day] for day in days] if len(days) <= SPAN else by_month(days)
        heads = ["date" if len(days) <= SPAN else "month", *FIGURES, "kept", "not kept"]
        self.stdout.write("  ".join(f"{head:>10}" for head in heads) + "  not sent")
        for span in spans:
            figures = [promise.figures(day) for day in span]
            numbers = [sum(getattr(known, name.replace(" ", "_")) for known in figures) for name in FIGURES]
            kept = [sum(known.kept is verdict for known in figures) for verdict in (True, False)]
            left_out = sum((Counter(known.missed) + Counter(known.skipped) for known in figures), Counter[str]())
            first = f"{span[0].date:%Y-%m}" if len(days) > SPAN else f"{span[0].date}"
            row = "  ".join(f"{cell:>10}" for cell in [first, *numbers, *kept])
            self.stdout.write(f"{row}  {told(left_out)}".rstrip())

    def summary(self, simulation: Simulation) -> None:
        self.stdout.write("\nRows: " + told(simulation.ends()))
        self.stdout.write(f"The server accepted {simulation.witness.accepted.total()} messages.")
        self.stdout.write("People: " + told(simulation.world.did))
        self.stdout.write("Looked at: " + told(simulation.looked))
        if simulation.wanted:
            self.stdout.write("Faults: " + told(simulation.faults.landed))

    def verdict(self, simulation: Simulation) -> None:
        idle = simulation.faults.never_landed()
        for kind in idle:
            self.stdout.write(f"This fault never landed: {kind}. Give more days or subscribers.")
        for line in simulation.broken:
            self.stdout.write(line)
        self.stdout.write(f"{len(simulation.broken)} broken invariants")
        if simulation.broken or idle:
            raise SystemExit(1)


def told(counts: dict[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in sorted(counts.items()))


def by_month(days: list[Day]) -> list[list[Day]]:
    return [list(month) for _first, month in groupby(days, key=lambda day: day.date.replace(day=1))]


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the faults that are wanted out of the log."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


@contextmanager
def scratch() -> Iterator[None]:
    """Work in a throwaway file, or in a throwaway schema that sees no other: no row of the real database is touched."""
    settings = connection.settings_dict
    kept = {"NAME": settings["NAME"], "OPTIONS": settings["OPTIONS"]}
    with tempfile.TemporaryDirectory(prefix="simulation-") as folder:
        name = f"simulation_{os.getpid()}"
        if connection.vendor == "postgresql":
            create(name)
            path = f"-c search_path={name} -c synchronous_commit=off"
            settings["OPTIONS"] = settings["OPTIONS"] | {"options": path}
        else:
            settings["NAME"] = Path(folder) / "simulation.sqlite3"
            unsafe = "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;"
            settings["OPTIONS"] = settings["OPTIONS"] | {"init_command": unsafe}
        connection.close()
        try:
            call_command("migrate", verbosity=0)
            yield
        finally:
            connection.close()
            settings.update(kept)
            if connection.vendor == "postgresql":
                drop(name)


def create(name: str) -> None:
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE SCHEMA {connection.ops.quote_name(name)}")
    except DatabaseError as error:
        raise CommandError(f"A simulation needs a schema of its own, and cannot create it: {error}") from None


def drop(name: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"DROP SCHEMA {connection.ops.quote_name(name)} CASCADE")
