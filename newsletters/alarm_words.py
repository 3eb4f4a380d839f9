"""What alarms say: what happened, what is at hand, and the pages that do it; in the publication's language."""

from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import Any, Concatenate

from django.conf import settings
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, override

from newsletters import dates, personal, proofreading, runway
from newsletters.models import Alarm, Issue, Publication, Rehearsal
from newsletters.models.outgoing import OPEN, State

# An alarm names so many drafts or problems; the desk has them all.
NAMED = 3

Words = Callable[Concatenate[Publication, ...], Iterable[str]]


def in_its_language(words: Words) -> Callable[..., str]:
    """Join the paragraphs that a function yields, in the publication's language."""

    @wraps(words)
    def said(publication: Publication, *facts: Any) -> str:
        with override(publication.language):
            return "\n\n".join(filter(None, words(publication, *facts)))

    return said


def message(alarm: Alarm) -> tuple[str, str]:
    """Return the title and text to tell: the alarm, or that it is over."""
    title, _gap, text = alarm.text.partition("\n\n")
    name = alarm.publication.name if alarm.publication else settings.BASE_URL
    with override(alarm.publication.language if alarm.publication else settings.LANGUAGE_CODE):
        if alarm.cleared_at is None:
            return _("%(name)s: %(what)s") % {"name": name, "what": title}, text
        return _("%(name)s: all clear") % {"name": name}, _("It is over: %(what)s") % {"what": title}


@in_its_language
def low(publication: Publication, covered: runway.Runway, dry: list[runway.Cohort]) -> Iterable[str]:
    """Say that readers run dry, who and when, and what could cover them."""
    days = dry[0].days
    yield (
        ngettext("%(number)d day ahead is covered.", "%(number)d days ahead are covered.", days) % {"number": days}
        if days
        else _("The next email is not there yet.")
    )
    yield " ".join(runway.told(cohort, publication.language) for cohort in dry[:NAMED])
    yield _drafts(publication)
    if covered.reserve:
        number = {"number": covered.reserve}
        text = ngettext("The reserve holds %(number)d issue.", "The reserve holds %(number)d issues.", covered.reserve)
        yield "\n".join([text % number, _at_hand(_("Cover the next 7 days from it:"), publication, "#todo")])
    yield _at_hand(_("Announce a break:"), publication, "break/")


def _drafts(publication: Publication) -> str:
    """Return “2 drafts are not queued: “…”, “…”.”, with where to queue them; nothing where there is none."""
    drafts = publication.issues.filter(kind=Issue.Kind.DAILY, state__in=[Issue.State.DRAFT, Issue.State.READY])
    names = [_quoted(subject) for subject in drafts.order_by("-updated_at").values_list("subject", flat=True)[:NAMED]]
    number = drafts.count()
    if not number:
        return _at_hand(_("No draft is at hand. Write one:"), publication, "#todo")
    text = ngettext(
        "%(number)d draft is not queued: %(names)s.", "%(number)d drafts are not queued: %(names)s.", number
    )
    more = ", …" if number > NAMED else ""
    said = text % {"number": number, "names": ", ".join(names) + more}
    return "\n".join([said, _at_hand(_("Queue them:"), publication, "#todo")])


def _quoted(subject: str) -> str:
    return _("“%(text)s”") % {"text": personal.spoken(subject, {})}


@in_its_language
def not_started(publication: Publication, readers: int, reply: str) -> Iterable[str]:
    """Say that nothing has left ten minutes after the hour."""
    yield _("Today’s emails have not started.")
    hour = dates.hour(publication.hour, publication.language)
    text = ngettext(
        "%(number)d reader has been waiting since %(hour)s, their time.",
        "%(number)d readers have been waiting since %(hour)s, their time.",
        readers,
    )
    yield text % {"number": readers, "hour": hour}
    yield _reply(reply)
    yield _at_hand(_("See what waits:"), publication, "#now")


@in_its_language
def below_95(publication: Publication, states: Mapping[str, int], reply: str) -> Iterable[str]:
    """Say how many were accepted an hour after the hour, and what became of the others."""
    accepted, expected = states.get(State.SENT, 0), sum(states.values())
    yield _("%(accepted)d of %(expected)d emails were accepted within an hour.") % {
        "accepted": accepted,
        "expected": expected,
    }
    ends = {
        _("%(number)d wait."): sum(states.get(state, 0) for state in OPEN),
        _("%(number)d were missed."): states.get(State.MISSED, 0),
        _("%(number)d failed."): states.get(State.FAILED, 0),
        _("Of %(number)d nobody knows the end."): states.get(State.UNCERTAIN, 0) + states.get(State.HANDOFF, 0),
    }
    yield " ".join(text % {"number": number} for text, number in ends.items() if number)
    yield _reply(reply)
    yield _at_hand(_("See what became of them:"), publication, "#now")


@in_its_language
def limit(publication: Publication, short: int, whole: int) -> Iterable[str]:
    """Say in the morning how many emails the limits will keep back."""
    yield _("The limits cannot carry all of today’s emails.")
    text = ngettext(
        "Of %(whole)d, %(short)d would come too late.", "Of %(whole)d, %(short)d would come too late.", short
    )
    yield text % {"whole": whole, "short": short}
    yield _("Raise the limits of the mail server today, or let a second one help.")
    yield _at_hand(_("See what waits:"), publication, "#now")


@in_its_language
def rehearsal(publication: Publication, failed: Rehearsal) -> Iterable[str]:
    """Say what the dress rehearsal found."""
    yield _("The rehearsal for %(day)s found something wrong.") % {"day": dates.day(failed.date, publication.language)}
    language = publication.language
    yield "\n".join(proofreading.sentence(problem, language) for problem in failed.problems[:NAMED])
    yield _at_hand(_("See the email as it would go out:"), publication, "#tomorrow")


def _reply(reply: str) -> str:
    return _("The mail server said: %(reply)s") % {"reply": reply} if reply else ""


def _at_hand(words: str, publication: Publication, part: str) -> str:
    return f"{words} {desk(publication, part)}"


def desk(publication: Publication, part: str) -> str:
    """Return the address of a part of the author's page; what it offers there is done by a button."""
    return f"{settings.BASE_URL}/desk/{publication.slug}/{part}"
