import sys
from typing import Any

from django.core.management.base import BaseCommand
from django.db import DatabaseError
from django.utils import timezone

from newsletters import bounces, tasks
from newsletters.bounces.letter import LONGEST

# sysexits.h: the mail server keeps the message and tries again.
TRY_AGAIN = 75


class Command(BaseCommand):
    help = "Take one message from standard input: a bounce, a complaint or an answer. For a mail server's pipe."

    def handle(self, *args: Any, **options: Any) -> None:
        raw = sys.stdin.buffer.read(LONGEST)
        # Whoever writes into a pipe that nobody reads any more takes it for an error.
        while sys.stdin.buffer.read(LONGEST):
            pass
        try:
            what = bounces.take(raw, timezone.now())
        except DatabaseError as error:
            self.stderr.write(f"The database did not take it: {error}")
            sys.exit(TRY_AGAIN)
        tasks.wake()
        self.stdout.write(what)
