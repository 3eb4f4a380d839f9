import subprocess
import sys
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from datetime import datetime
from itertools import islice
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from newsletters import asking, postfix, stuck, tasks
from newsletters.bounces import breaker
from newsletters.models import Heartbeat, Publication, Stop
from newsletters.models.outgoing import State
from newsletters.stuck import Row

SHOWN = 200


class Command(BaseCommand):
    help = "List what is uncertain or overdue, and why; settle it by the mail server's record or by your own choice."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--publication", help="only this one, by its short name in addresses")
        parser.add_argument("--from-log", metavar="FILE", help="settle by a Postfix log; - reads standard input")
        parser.add_argument(
            "--whole",
            action="store_true",
            help="with --from-log: what is not in this log was not taken, by any relay; without it, that settles only"
            " publications with one relay, a mail server, and a log that goes on for eleven minutes",
        )
        parser.add_argument("--queue", action="store_true", help="settle by the queue of Postfix on this machine")
        parser.add_argument("--ask", action="store_true", help="settle by what the relays' providers know")
        choice = parser.add_mutually_exclusive_group()
        choice.add_argument("--sent", action="store_true", help="take what is left uncertain for sent")
        choice.add_argument(
            "--again", action="store_true", help="send what is left uncertain again, while its day lasts"
        )
        parser.add_argument("--go-on", metavar="PUBLICATION", help="let a stopped publication go on")

    def handle(self, *args: Any, **options: Any) -> None:
        now = timezone.now()
        self.faults: list[str] = []
        only = self.publication(options["publication"]) if options["publication"] else None
        if options["go_on"]:
            stopped = self.publication(options["go_on"])
            self.stdout.write("It goes on." if breaker.go_on(stopped, now) else "It was not stopped.")
        done = self.settle(options, now, only)
        if done:
            self.stdout.write("Settled: " + ", ".join(f"{number} {state}" for state, number in sorted(done.items())))
        if done[State.PLANNED] or options["go_on"]:
            tasks.wake()
        self.show(now, only)
        if self.faults:
            raise CommandError(" ".join(self.faults))

    def publication(self, slug: str) -> Publication:
        found = Publication.objects.filter(slug=slug).first()
        if found is None:
            raise CommandError(f"There is no publication {slug}. Give its short name, as in its addresses.")
        return found

    def settle(self, options: dict[str, Any], now: datetime, only: Publication | None) -> Counter[str]:
        done: Counter[str] = Counter()
        if options["from_log"]:
            done += self.by_log(options["from_log"], options["whole"], now, only)
        if options["queue"]:
            done += self.by_queue(now, only)
        if options["ask"]:
            done += self.by_providers(now, only)
        for choice, settle in (("sent", stuck.sent), ("again", stuck.again)):
            if options[choice]:
                for row in list(stuck.uncertain(only)):
                    done[str(settle([row], now))] += 1
        return done

    def by_log(self, name: str, whole: bool, now: datetime, only: Publication | None) -> Counter[str]:
        with ExitStack() as stack:
            try:
                lines = sys.stdin if name == "-" else stack.enter_context(open(name, errors="replace"))
            except OSError as error:
                raise CommandError(f"{name} cannot be read: {error.strerror}.") from None
            return stuck.settle(postfix.Log(lines, now, whole), now, only, whole)

    def by_queue(self, now: datetime, only: Publication | None) -> Counter[str]:
        try:
            return stuck.settle(postfix.queue(), now, only)
        except (OSError, subprocess.SubprocessError) as error:
            raise CommandError(
                f"Postfix cannot be asked: {error}. Run this where it runs, as a user it allows."
            ) from None

    def by_providers(self, now: datetime, only: Publication | None) -> Counter[str]:
        done: Counter[str] = Counter()
        names = asking.providers(only)
        if not names:
            self.faults.append("No relay is a provider's. Give --from-log or --queue where the mail server is yours.")
        for name in names:
            record = asking.Asked(name, now)
            done += stuck.settle(record, now, only)
            self.faults += [record.fault] if record.fault else []
        return done

    def show(self, now: datetime, only: Publication | None) -> None:
        stops = {stop.publication_id: stop for stop in stuck.stops(only)}
        for stop in stops.values():
            name = stop.publication.slug
            self.stdout.write(
                f"{name} is stopped since {stop.at:%Y-%m-%d %H:%M}: {stop.get_cause_display()}. --go-on {name}"
            )
        number = self.listed("uncertain", stuck.uncertain(only), lambda row: unknown(row, now))
        number += self.listed(
            "overdue", stuck.overdue(now, only), lambda row: late(row, stops.get(row.publication_id), now)
        )
        if not number and not stops:
            self.stdout.write("Nothing is stuck.")

    def listed(self, word: str, rows: Iterable[Row], why: Any) -> int:
        rows = iter(rows)
        number = 0
        for row in islice(rows, SHOWN):
            number += 1
            self.stdout.write(f"{word}: {row.publication.slug} {row} due {row.due_at:%Y-%m-%d %H:%M}: {why(row)}")
        more = sum(1 for _row in rows)
        if more:
            self.stdout.write(f"{word}: {more} more")
        return number + more


def unknown(row: Row, now: datetime) -> str:
    """Say why nobody knows a row's end, and what may still be done."""
    at = f"handed over at {row.handoff_at:%H:%M:%S}, " if row.handoff_at else ""
    said = row.reply or "no reply came"
    rest = f"may go again until {row.late_until:%H:%M}" if row.late_until > now else "its day is over"
    return f"{at}{said}; {rest}"


def late(row: Row, stop: Stop | None, now: datetime) -> str:
    """Say what a row waits for."""
    if stop:
        return "its publication is stopped"
    if row.state == State.RETRY:
        return f"put off {row.attempts} times, next at {row.try_at:%H:%M}: {row.reply or 'no reply'}"
    tick = Heartbeat.objects.filter(name="tick").values_list("at", flat=True).first()
    if tick is None or now - tick > stuck.OVERDUE:
        return f"no worker has come round since {tick:%Y-%m-%d %H:%M}" if tick else "no worker has ever come round"
    return "no worker has taken it yet"
