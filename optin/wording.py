"""The words of an opt-in page: the author's own, or the standard ones, in the publication's language."""

import re
from dataclasses import dataclass
from datetime import date

from django.utils.translation import gettext as _
from django.utils.translation import override

from newsletters import dates, markup, personal
from newsletters.models import Issue
from optin.models import OptInPage

EVERY_DAY = 7
# A sample stands beside the form: enough to hear the voice, not a second page.
SAMPLE_LENGTH = 1400


@dataclass(frozen=True, slots=True)
class Find:
    title: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Question:
    title: str
    answer: str


@dataclass(frozen=True, slots=True)
class Sample:
    subject: str
    body: str
    whole: bool


def promise(page: OptInPage) -> str:
    """Return the promise in one sentence."""
    publication = page.publication
    with override(publication.language):
        return page.promise or _("One email %(days)s, at %(hour)s.") % {
            "days": dates.weekdays(publication.weekdays, publication.language),
            "hour": dates.hour(publication.hour, publication.language),
        }


def consent(page: OptInPage) -> str:
    """Return the exact wording that the form shows and the ledger keeps."""
    publication = page.publication
    with override(publication.language):
        text = _(
            "By subscribing you ask to receive %(days)s the email of %(author)s. Each email carries a link to leave."
        )
        return " ".join(page.consent.split()) or text % {
            "days": dates.weekdays(publication.weekdays, publication.language),
            "author": publication.author,
        }


def button(page: OptInPage) -> str:
    with override(page.publication.language):
        daily = len(page.publication.weekdays) == EVERY_DAY
        return page.button or (_("Receive tomorrow’s email") if daily else _("Receive the next email"))


def when(day: date, today: date, language: str) -> str:
    """Return “tomorrow, Tuesday 24 November”, or the date alone where it is further away."""
    with override(language):
        date_text = dates.day(day, language)
        names = {0: _("today, %(date)s"), 1: _("tomorrow, %(date)s")}
        return names.get((day - today).days, _("on %(date)s")) % {"date": date_text}


def finds(page: OptInPage) -> list[Find]:
    """Read lines such as “One idea: neither a list of links nor a dossier.”"""
    lines = [line.partition(":") for line in page.bullets.splitlines() if line.strip()]
    return [Find(title.strip(), sentence.strip()) for title, _colon, sentence in lines]


def questions(page: OptInPage) -> list[Question]:
    """Read Markdown whose headings are questions; the answers come back as clean HTML."""
    parts = re.split(r"^#+[ \t]*(.+)$", page.questions.replace("\r\n", "\n"), flags=re.MULTILINE)
    return [
        Question(title.strip(), markup.html(answer)) for title, answer in zip(parts[1::2], parts[2::2], strict=True)
    ]


def sample(issue: Issue | None) -> Sample | None:
    """Return the beginning of an issue as someone without a first name reads it."""
    if issue is None:
        return None
    body = issue.body.replace("\r\n", "\n").strip()
    shown = beginning(body)
    return Sample(personal.spoken(issue.subject, {}), markup.html(shown), whole=shown == body)


def beginning(markdown: str) -> str:
    """Return whole paragraphs up to about SAMPLE_LENGTH characters, and at least the first."""
    end = markdown.find("\n\n", SAMPLE_LENGTH)
    return markdown if end < 0 else markdown[:end]
