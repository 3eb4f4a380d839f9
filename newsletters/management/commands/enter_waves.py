from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from newsletters import waves
from newsletters.models import Publication


class Command(BaseCommand):
    help = "Let the readers who came in numbers enter in waves that the limits can carry, and print the calendar."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("publication", help="its short name in addresses")
        parser.add_argument("--preview", action="store_true", help="print the calendar and change nothing")

    def handle(self, *args: Any, publication: str, preview: bool, **options: Any) -> None:
        found = Publication.objects.filter(slug=publication).first()
        if found is None:
            raise CommandError(f"There is no publication {publication}. Give its short name, as in its addresses.")
        now = timezone.now()
        seats, without = waves.planned(found, now)
        calendar = [(day, len(keys)) for day, keys in seats] if preview else waves.enter(found, now)
        for day, number in calendar:
            self.stdout.write(f"{day}  {number:>9,}")
        self.stdout.write(f"{sum(number for _day, number in calendar):,} readers enter in {len(calendar)} waves.")
        if without:
            self.stdout.write(f"{without:,} find no place: the limits would have to grow. Run it again once they have.")
