"""Tomorrow's email as its readers will get it, mailed to the author with what the rehearsal found."""

import html
import re
from datetime import date, datetime
from email.utils import format_datetime

from django.utils import translation
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from newsletters import dates, headers, mime, postage, proofreading
from newsletters.mime import Field
from newsletters.models import Issue, Letter
from newsletters.rendering import Brand, capitalised, envelope, revision_of

NOTE = '<div style="max-width:600px;margin:0 auto;padding:16px 24px;font:16px/24px sans-serif;">{}</div>'


def message_bytes(letter: Letter, now: datetime) -> bytes:
    """Return the complete message. Its ways out are no reader's, so it has no header to leave by."""
    brand, day = Brand.of(letter.publication), date.fromisoformat(letter.context["day"])
    issue = Issue.objects.select_related("publication").filter(pk=letter.context["issue"]).first()
    lines = list(note(letter, day, issue))
    page = NOTE.format("<br>".join(html.escape(line) for line in lines))
    text, subject, fields = "\n".join(lines), "", {}
    if issue:
        frozen = revision_of(issue)
        page = re.sub(r"<main\b[^>]*>", lambda main: main[0] + page, frozen.html, count=1)
        text, subject = f"{text}\n\n\n{frozen.text}", frozen.subject
        fields = {marker: Field(*field) for marker, field in frozen.slots.items()}
    with translation.override(letter.language):
        subject = _("For %(day)s: %(subject)s") % {"day": dates.day(day, letter.language), "subject": subject}
    head = [
        *envelope(brand, subject, f"letter:pub{brand.number}:sample"),
        headers.plain("Auto-Submitted", "auto-generated"),
    ]
    values = {
        "to_address": letter.address,
        "message_id": postage.message_id(letter),
        "date": format_datetime(now),
        "today": capitalised(dates.day(day, brand.language)),
        "since": dates.full_date(day, brand.language),
        "leave_url": "#",
        "reader_url": "#",
    }
    return mime.blueprint(head, text, page, fields).fill(values)


def note(letter: Letter, day: date, issue: Issue | None) -> list[str]:
    """Return the lines that stand above the email."""
    readers, found = letter.context["readers"], letter.context["found"]
    with translation.override(letter.language):
        words = {"number": readers, "day": dates.day(day, letter.language)}
        lines = [
            ngettext(
                "Rehearsed for %(day)s, with %(number)d reader.",
                "Rehearsed for %(day)s, with %(number)d readers.",
                readers,
            )
            % words
        ]
        if issue is None:
            lines.append(_("This issue has been deleted since."))
        lines.append(_("To look at:") if found else _("Nothing is wrong. This is the email:"))
        return lines + [f"- {proofreading.sentence(one, letter.language)}" for one in found]
