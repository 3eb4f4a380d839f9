"""What may be wrong with an issue as readers would get it: found by the rehearsal, told in the author's language."""

import re
from dataclasses import dataclass
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any
from urllib.parse import urlsplit

from django.utils import translation
from django.utils.translation import gettext, gettext_lazy, ngettext
from lxml import html

from newsletters import markup, personal
from newsletters.models import Issue, Revision
from newsletters.rendering import CLIPPED_AT

# Worth a look, and no reason to wake anybody
MILD = {"alt", "name"}
# A text part that lacks so many of the words that the HTML shows is not the same email.
LACKING, ENOUGH_WORDS = 0.3, 20
REACHABLE = ("http://", "https://", "mailto:", "tel:")

SENTENCES = {
    "render": gettext_lazy("“%(subject)s” cannot be made into an email: %(what)s"),
    "bare": gettext_lazy("“%(subject)s” has no subject, or no text."),
    "leave": gettext_lazy("“%(subject)s” lacks the link to leave in its %(what)s part."),
    "long": gettext_lazy("“%(subject)s” has %(what)s KB of HTML. Gmail cuts it off at 102, and the way out with it."),
    "relative": gettext_lazy("A link in “%(subject)s” leads nowhere: %(what)s. Write its whole address."),
    "unbalanced": gettext_lazy("The plain text of “%(subject)s” lacks much of what its HTML says."),
    "alt": gettext_lazy("A picture in “%(subject)s” has no description for those who do not see it: %(what)s"),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found; `what` is the link, the picture, the size, or the part."""

    kind: str
    what: str = ""


def revision(issue: Issue, revision: Revision) -> list[Finding]:
    """Read what is the same for every reader."""
    found = []
    if not personal.spoken(issue.subject, {}).strip() or not issue.body.strip():
        found.append(Finding("bare"))
    size = len(revision.html.encode())
    if size > CLIPPED_AT:
        found.append(Finding("long", str(size // 1000)))
    page = html.fromstring(revision.html)
    found += [Finding("alt", image.get("src", "")) for image in page.iter("img") if not image.get("alt", "").strip()]
    if not balanced(page, revision.text):
        found.append(Finding("unbalanced"))
    return found + [Finding("relative", url) for url in relative(issue)]


def relative(issue: Issue) -> list[str]:
    """Return the addresses in an issue that lead nowhere, for want of an article's own to start from."""
    seen: list[str] = []

    def note(url: str) -> str:
        if not issue.canonical_url and url and not urlsplit(url).scheme:
            seen.append(url)
        return markup.reachable(url)

    markup.parse(issue.body, note)
    return list(dict.fromkeys(seen))


def balanced(page: Any, text: str) -> bool:
    """Tell whether the text part says what the HTML shows."""
    shown = words(" ".join(node for node in page.xpath(VISIBLE)))
    lacking = shown - words(text)
    return len(shown) < ENOUGH_WORDS or len(lacking) <= LACKING * len(shown)


VISIBLE = (
    "//body//text()[not(ancestor::style) and not(ancestor::*[contains(@class, 'preheader')"
    " or contains(translate(@style, ' ', ''), 'display:none')])]"
)


def words(text: str) -> set[str]:
    return set(re.findall(r"\w{3,}", text.lower()))


def message(data: bytes, leave_url: str) -> list[Finding]:
    """Read one reader's copy as a mail client does: both parts have the way out, and no link leads nowhere."""
    mail = message_from_bytes(data, policy=default)
    assert isinstance(mail, EmailMessage)
    found = []
    for name, kind in (("text", "plain"), ("HTML", "html")):
        part = mail.get_body((kind,))
        content = part.get_content() if part else ""
        if leave_url not in content:
            found.append(Finding("leave", name))
        if kind == "html" and content:
            links = [url for _tag, _name, url, _at in html.fromstring(content).iterlinks()]
            found += [Finding("relative", url) for url in links if not url.startswith(REACHABLE)]
    return found


def sentence(found: dict[str, Any], language: str) -> str:
    """Return what was found in a sentence for the author."""
    with translation.override(language):
        readers = found.get("readers", 0)
        match found["kind"]:
            case "dry":
                text = ngettext("%(readers)d reader has no email.", "%(readers)d readers have no email.", readers)
            case "name":
                text = ngettext(
                    "“%(subject)s” speaks to a reader by name, and %(readers)d has not told any. Add a fallback.",
                    "“%(subject)s” speaks to readers by name, and %(readers)d have not told any. Add a fallback.",
                    readers,
                )
            case "empty":
                text = gettext("In “%(subject)s” something is missing for %(readers)d readers: %(what)s")
            case kind:
                text = str(SENTENCES[kind])
        return text % ({"subject": "", "what": "", "readers": 0} | found)
