from typing import Any

from django.core.management.base import BaseCommand

from newsletters.models import Publication
from optin import demo


class Command(BaseCommand):
    help = "Make a sample publication with its page, series, readers and an author's login, where there is none yet."

    def handle(self, *args: Any, **options: Any) -> None:
        if Publication.objects.exists():
            return
        login = demo.make()
        self.stdout.write("The sample publication « Le pas du jour » is ready.")
        if login:
            self.stdout.write(f"  Log in as {login.name} with {login.password} (shown only now).")
