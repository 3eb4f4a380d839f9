import signal
import time
from argparse import ArgumentParser
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from newsletters import planning, promise, sending, tasks
from newsletters.models import Delivery, Letter
from newsletters.models.outgoing import WAITING


class Command(BaseCommand):
    help = "Plan and send, in the foreground, what is due now or at a given instant."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--at", help="an instant such as 2026-11-24T07:00+01:00; default: now")
        parser.add_argument("--drain", action="store_true", help="wait for what was put off, until nothing is left")

    def handle(self, *args: Any, at: str | None, drain: bool, **options: Any) -> None:
        start = time.monotonic()
        shift = self.instant(at) - timezone.now()
        done = self.round(shift)
        while drain and (wait := self.next_try(timezone.now() + shift)) is not None:
            time.sleep(min(wait, 30))
            done += self.round(shift)
        ends = ", ".join(f"{count} {state}" for state, count in sorted(done.items())) or "nothing was due"
        self.stdout.write(f"{ends} in {time.monotonic() - start:.1f} s")

    def instant(self, at: str | None) -> datetime:
        try:
            instant = datetime.fromisoformat(at) if at else timezone.now()
        except ValueError:
            raise CommandError(f"--at {at} is no instant. Write it as 2026-11-24T07:00+01:00.") from None
        return instant if instant.tzinfo else instant.replace(tzinfo=UTC)

    def round(self, shift: Any) -> Counter[str]:
        plans = planning.tick(timezone.now() + shift)
        for plan in plans:
            self.stdout.write(f"{plan.publication}: {plan.rows} emails planned for {plan.date} in {plan.zone}")
        sending.sweep(timezone.now() + shift)
        done: Counter[str] = Counter()
        # Ctrl-C and whoever stops reading wait for the answers to what has been handed off.
        with tasks.unhurried(signal.SIGINT) as stopping:
            while ended := sending.drain(lambda: timezone.now() + shift, stopping=stopping, report=self.show):
                done += ended
        promise.tick(timezone.now() + shift, plans)
        return done

    def show(self, done: Counter[str]) -> None:
        with suppress(OSError):
            self.stdout.write(f"  {sum(done.values())} so far")

    def next_try(self, now: datetime) -> float | None:
        """Return the seconds until the next row that waits may go, or None where none does."""
        tries = [
            table.objects.filter(state__in=WAITING, late_until__gt=now)
            .order_by("try_at")
            .values_list("try_at", flat=True)
            .first()
            for table in (Letter, Delivery)
        ]
        soonest = min((at for at in tries if at), default=None)
        return None if soonest is None else max((soonest - now).total_seconds(), 0)
