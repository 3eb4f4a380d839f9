from argparse import ArgumentParser
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from django.utils.translation import override

from newsletters import clock, halt
from newsletters.models import Halt, Issue, Publication


class Command(BaseCommand):
    help = "Stop the sending of one issue in all workers; then go on, send another issue instead, or leave it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("publication", help="its short name in addresses")
        parser.add_argument("--issue", type=int, help="the issue's number; default: the stopped one, else today's")
        decision = parser.add_mutually_exclusive_group()
        decision.add_argument("--go-on", action="store_true", help="send it, as it reads now, to those without it")
        decision.add_argument("--instead", type=int, metavar="ISSUE", help="send this issue to those without it")
        decision.add_argument("--leave", action="store_true", help="send it to nobody more; it is a draft again")

    def handle(self, *args: Any, publication: str, issue: int | None, **decision: Any) -> None:
        found = Publication.objects.filter(slug=publication).first()
        if found is None:
            raise CommandError(f"There is no publication {publication}. Give its short name, as in its addresses.")
        now = timezone.now()
        meant = self.issue(found, issue) if issue else halt.going(found, clock.local_date(now, found.zone))
        if meant is None:
            raise CommandError("No issue is going out today. Name the one you mean with --issue NUMBER.")
        with override(found.language):
            self.stdout.write(self.act(found, meant, now, **decision))
            self.stdout.write(self.figures(meant))

    def issue(self, publication: Publication, number: int) -> Issue:
        found = publication.issues.filter(pk=number).first()
        if found is None:
            raise CommandError(f"{publication} has no issue {number}. The admin shows each issue's number.")
        return found

    def act(self, publication: Publication, issue: Issue, now: datetime, **decision: Any) -> str:
        name = f"Issue {issue.pk}, “{issue.subject}”"
        if not (decision["go_on"] or decision["instead"] or decision["leave"]):
            halt.stop(issue, now)
            return f"{name}, is stopped. Decide with --go-on, --instead ISSUE or --leave."
        standing = Halt.objects.standing().filter(issue=issue).first()
        if standing is None:
            raise CommandError(f"{name}, is not stopped. Stop it first: manage.py stop_send {publication.slug}")
        if decision["go_on"]:
            halt.go_on(standing, now)
            return f"{name}, goes on."
        if decision["leave"]:
            halt.leave(standing, now)
            return f"{name}, goes to nobody more; it is a draft again."
        other = self.issue(publication, decision["instead"])
        try:
            halt.instead(standing, other, now)
        except halt.CannotDecide as error:
            raise CommandError(str(error)) from None
        return f"Issue {other.pk}, “{other.subject}”, goes to those without {name}."

    def figures(self, issue: Issue) -> str:
        known = halt.figures(issue)
        return (
            f"{known['have']} have it, {known['unknown']} may have it, {known['waiting']} wait, "
            f"{known['without']} do without."
        )
