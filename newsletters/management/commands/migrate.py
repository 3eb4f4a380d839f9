from typing import Any

from django.core.management.base import CommandError
from django.core.management.commands import migrate
from django.db import OperationalError, connections

PATIENCE = "2s"


class Command(migrate.Command):
    """Django's own, but it waits no longer than this for a table: all who send would wait behind it."""

    def handle(self, *args: Any, **options: Any) -> None:
        connection = connections[options["database"]]
        if connection.vendor != "postgresql":
            super().handle(*args, **options)
            return
        with connection.cursor() as cursor:
            cursor.execute(f"SET lock_timeout = '{PATIENCE}'")
        try:
            super().handle(*args, **options)
        except OperationalError as error:
            if "lock timeout" not in str(error):
                raise
            words = f"A table was in use for longer than {PATIENCE}. Nothing is half done. Run it again."
            raise CommandError(words) from None
        finally:
            # What follows in this process waits as long as it did before.
            if not connection.in_atomic_block:
                connection.close()
