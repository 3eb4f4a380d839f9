from collections import Counter
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from newsletters import composing
from newsletters.articles import ReadError, reading
from newsletters.articles.importing import Report, import_articles
from newsletters.articles.sources import FORMATS
from newsletters.models import Issue, Publication, Series


class Command(BaseCommand):
    help = "Read the articles of a blog: its address or feed, a WordPress export, a folder of Markdown, or plain text."
    # For tests: what may be fetched. Not an option that could be typed.
    stealth_options = ("guard",)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("publication", help="the publication's short name")
        parser.add_argument("source", help="an address, a file or a folder")
        parser.add_argument("--format", choices=FORMATS, default="", help="only where it cannot be seen")
        parser.add_argument("--titles", metavar="FILE", help="plain text: the titles at which to cut it, one a line")
        parser.add_argument("--marker", default="", metavar="LINE", help="plain text: the line that separates articles")
        place = parser.add_mutually_exclusive_group()
        place.add_argument("--series", metavar="SLUG", help="also queue the articles' issues in this sequence")
        place.add_argument("--queue", action="store_true", help="also queue the articles' issues in the daily queue")
        parser.add_argument(
            "--way", choices=Issue.Cut.values, default=Issue.Cut.WHOLE, help="how an article becomes issues"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        publication = Publication.objects.filter(slug=options["publication"]).first()
        if publication is None:
            raise CommandError(_("There is no publication “%(slug)s”.") % {"slug": options["publication"]})
        titles = _lines(options["titles"]) if options["titles"] else ()
        try:
            report = import_articles(
                publication,
                options["source"],
                options["format"],
                titles,
                options["marker"],
                guard=options.get("guard"),
                say=self.stdout.write,
            )
        except ReadError as error:
            raise CommandError(str(error)) from error
        for article in report.changed:
            self.stdout.write(_("“%(title)s” has changed.") % {"title": article.title})
        self.stdout.write(_summary(report))
        if options["series"] or options["queue"]:
            series = (
                composing.sequence(publication, options["series"])
                if options["series"]
                else composing.daily_queue(publication)
            )
            issues = composing.compose_into(series, report.articles, options["way"])
            self.stdout.write(_queued(series, len(issues)))


def _lines(path: str) -> list[str]:
    try:
        text = reading.decode(Path(path).read_bytes())
    except OSError as error:
        raise CommandError(
            _("The titles in %(path)s cannot be read: %(error)s.") % {"path": path, "error": error.strerror}
        ) from error
    return [line.strip() for line in text.split("\n") if line.strip()]


def _summary(report: Report) -> str:
    done = _("%(new)d new, %(changed)d changed, %(unchanged)d unchanged") % {
        "new": len(report.new),
        "changed": len(report.changed),
        "unchanged": len(report.unchanged),
    }
    left_out = ", ".join(_left_out(report.left_out))
    return _("%(done)s; left out: %(kinds)s.") % {"done": done, "kinds": left_out} if left_out else f"{done}."


def _left_out(n: Counter[str]) -> list[str]:
    words = {
        "draft": ngettext("%d draft", "%d drafts", n["draft"]),
        "page": ngettext("%d page", "%d pages", n["page"]),
        "attachment": ngettext("%d attachment", "%d attachments", n["attachment"]),
        "private": ngettext("%d private post", "%d private posts", n["private"]),
        "scheduled": ngettext("%d scheduled post", "%d scheduled posts", n["scheduled"]),
        "other": ngettext("%d thing of another kind", "%d things of other kinds", n["other"]),
        "empty": ngettext("%d item without text", "%d items without text", n["empty"]),
        "problem": ngettext("%d item that cannot be used", "%d items that cannot be used", n["problem"]),
    }
    return [words[kind] % n[kind] for kind in words if n[kind]]


def _queued(series: Series, number: int) -> str:
    words = ngettext("%(number)d issue queued in “%(series)s”.", "%(number)d issues queued in “%(series)s”.", number)
    return words % {"number": number, "series": series.name}
