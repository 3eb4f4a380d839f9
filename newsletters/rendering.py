"""Issue -> Revision -> Blueprint: everything that is the same for all readers is done here, once per issue."""

import hashlib
import html
import json
import logging
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import time
from functools import cache
from typing import Any
from urllib.parse import quote, urljoin

from django.conf import settings
from django.template.loader import render_to_string
from django.utils import timezone, translation
from django.utils.safestring import mark_safe
from django.utils.translation import gettext as _
from premailer import Premailer

from newsletters import clock, colour, dates, headers, markup, mime, personal, plain
from newsletters.mime import Blueprint, Field, Slot
from newsletters.models import Issue, Publication, Revision

# Gmail cuts a message off at about 102 KB of HTML; counting links later makes it longer.
CLIPPED_AT = 102_000
NEARLY_CLIPPED_AT = 90_000
# Keeps a mailbox from showing the first lines of the mail behind a short preheader.
FILLER = mark_safe("\u034f\u200c\u00a0" * 12)
RENDERED_BY = "colour dates headers markup mime personal plain rendering"

_blueprints: dict[tuple[int, str], Blueprint] = {}


@dataclass(frozen=True, slots=True)
class Brand:
    """What of a publication stands in its mails."""

    number: int
    name: str
    author: str
    sender: str
    reply_to: str
    postal_address: str
    accent: str
    language: str
    hour: time
    weekdays: str
    root: str
    domain: str
    slug: str

    @classmethod
    def of(cls, publication: Publication) -> "Brand":
        return cls(publication.pk, *(getattr(publication, name) for name in list(cls.__dataclass_fields__)[1:]))

    @property
    def place(self) -> str:
        """Return where readers came in, as people write it: without https://."""
        return self.root.partition("://")[2]

    def context(self, language: str) -> dict[str, Any]:
        """Return what every mail's template needs."""
        return {
            "brand": self,
            "name": self.name.upper(),
            "language": language,
            "direction": "rtl" if translation.get_language_info(language)["bidi"] else "ltr",
            "accent": colour.ink(self.accent, colour.ON_LIGHT),
            "accent_dark": colour.ink(self.accent, colour.ON_DARK),
            "days": dates.weekdays(self.weekdays, language),
            "hour": dates.hour(self.hour, language),
        }


class Markers:
    """Words that hold the places of what differs from reader to reader; no author's text can contain one."""

    def __init__(self, *texts: str) -> None:
        self.nonce = secrets.token_hex(6)
        while any(self.nonce in text.lower() for text in texts):
            self.nonce = secrets.token_hex(6)
        self.fields: dict[str, Field] = {}

    def mark(self, name: str, fallback: str = "", lead: str = "") -> str:
        """Return the marker of a field, the same for the same field."""
        field = Field(name, fallback, lead)
        for marker, known in self.fields.items():
            if known == field:
                return marker
        marker = f"q{self.nonce}{len(self.fields)}z"
        self.fields[marker] = field
        return marker

    def settle(self, url: str) -> str:
        """Return an address with the fallbacks in it: no other site is told a reader's name."""
        return fill(url, self.fields, {}, lambda value: quote(value, safe=""))


def fill(text: str, fields: Mapping[str, Field], values: Mapping[str, str], escape: Any = str) -> str:
    """Return text with each marker replaced by its value or fallback."""

    def value(match: re.Match[str]) -> str:
        name, fallback, lead = fields[match[0]]
        spoken = values.get(name) or fallback
        return escape(lead + spoken) if spoken else ""

    return re.sub("|".join(fields), value, text) if fields else text


def revision_of(issue: Issue) -> Revision:
    """Return the frozen rendering of an issue as it stands now, made when its content is first seen."""
    print_ = fingerprint(issue)
    known = Revision.objects.filter(issue=issue, fingerprint=print_).first()
    if known is None:
        # Two workers may render at once: the first row counts for both.
        Revision.objects.bulk_create([render(issue)], ignore_conflicts=True)
        known = Revision.objects.get(issue=issue, fingerprint=print_)
    known.issue = issue
    return known


def blueprint(revision: Revision) -> Blueprint:
    """Return a revision's message with its gaps; each process makes it once."""
    key = (revision.issue_id, revision.fingerprint)
    if key not in _blueprints:
        if len(_blueprints) >= 64:
            _blueprints.clear()
        _blueprints[key] = _blueprint(revision)
    return _blueprints[key]


def _blueprint(revision: Revision) -> Blueprint:
    issue = revision.issue
    brand = Brand.of(issue.publication)
    head = [
        *envelope(brand, revision.subject, f"issue{issue.pk}:pub{brand.number}:{issue.kind}"),
        way_out,
        headers.list_id(brand.name, f"daily.{brand.slug}.{brand.domain}"),
        headers.address_list("List-Archive", f"{brand.root}/archive/"),
    ]
    fields = {marker: Field(*field) for marker, field in revision.slots.items()}
    return mime.blueprint(head, revision.text, revision.html, fields)


def envelope(brand: Brand, subject: str, feedback: str) -> Iterable[bytes | Slot]:
    """Return the headers of every mail of a publication; `feedback` is the first three words of Feedback-ID."""
    yield headers.mailbox("From", brand.author, brand.sender)
    yield lambda values: headers.mailbox("To", values.get("to_name", ""), values["to_address"])
    if personal.spoken(subject, {}) == subject:
        yield headers.text("Subject", subject)
    else:
        yield lambda values: headers.text("Subject", personal.spoken(subject, values))
    yield lambda values: headers.plain("Date", values["date"])
    yield lambda values: headers.plain("Message-ID", f"<{values['message_id']}>")
    yield lambda values: headers.mailbox("Reply-To", brand.author, values.get("reply_to") or brand.reply_to)
    # Google asks for a word of 5 to 15 characters that stays with the sender; none of the four may name a reader.
    sender = re.sub("[^a-z0-9]", "", brand.domain.lower())[:15].ljust(5, "0")
    yield headers.plain("Feedback-ID", f"{feedback}:{sender}")
    yield headers.plain("Precedence", "bulk")
    yield headers.plain("X-Auto-Response-Suppress", "OOF, AutoReply")


def way_out(values: Mapping[str, str]) -> bytes:
    """Write the headers of one-click leaving (RFC 2369, RFC 8058)."""
    line = headers.address_list("List-Unsubscribe", values.get("leave_url", ""))
    return line + headers.plain("List-Unsubscribe-Post", "List-Unsubscribe=One-Click") if line else b""


def preview(issue: Issue) -> tuple[str, str, list[str]]:
    """Return HTML, text and warnings as a reader without a name would get them now; nothing is saved."""
    draft = render(issue)
    today = clock.local_date(timezone.now(), issue.publication.zone)
    language = issue.publication.language
    values = {
        "today": capitalised(dates.day(today, language)),
        "since": dates.full_date(today, language),
        "leave_url": "#",
        "reader_url": "#",
    }
    fields = {marker: Field(*field) for marker, field in draft.slots.items()}
    return fill(draft.html, fields, values, html.escape), fill(draft.text, fields, values), draft.warnings


def capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def fingerprint(issue: Issue) -> str:
    """Return a hash of everything that goes into a rendering."""
    content = [issue.pk, issue.kind, issue.subject, issue.preheader, issue.body, issue.canonical_url, issue.public_id]
    everything = [_version(), *content, *asdict(Brand.of(issue.publication)).values()]
    return hashlib.sha256(json.dumps(everything, default=str).encode()).hexdigest()


@cache
def _version() -> str:
    """Return a hash of the templates, translations and modules that make a mail."""
    files = [
        *sorted((settings.BASE_DIR / "templates/emails").rglob("*.*")),
        *sorted((settings.BASE_DIR / "locale").rglob("*.mo")),
        *(settings.BASE_DIR / "newsletters" / f"{name}.py" for name in RENDERED_BY.split()),
    ]
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


def render(issue: Issue) -> Revision:
    """Return an issue's rendering, not saved yet."""
    brand = Brand.of(issue.publication)
    subject, preheader, body = (_clean(text) for text in (issue.subject, issue.preheader, issue.body))
    markers = Markers(subject, preheader, body, issue.canonical_url, *map(str, asdict(brand).values()))
    warnings: list[str] = []
    base = issue.canonical_url or f"{brand.root}/"

    def address(url: str) -> str:
        settled = markers.settle(url)
        if settled != url:
            warnings.append(_("A link's address names the reader; it has the fallback instead: %s") % settled)
        return markup.reachable(urljoin(base, settled))

    with translation.override(brand.language):
        marked = personal.replace(body, markers.mark)
        title = personal.replace(headers.one_line(subject), markers.mark)
        context = brand.context(brand.language) | {
            "kind": issue.kind,
            "subject": title,
            "preheader": personal.replace(preheader, markers.mark),
            "filler": FILLER,
            "title": f"{title}\n{'-' * len(personal.spoken(subject, {}))}",
            "web_url": f"{brand.root}/archive/{issue.public_id}/",
            **{name: markers.mark(name) for name in ("today", "since", "leave_url", "reader_url")},
        }
        text = render_to_string("emails/issue/body.txt", context | {"body": plain.plain(marked, address)})
        warnings.clear()
        page = inlined(
            render_to_string("emails/issue/body.html", context | {"body": markup.email_html(marked, address)})
        )
        warnings += _too_long(page, len(markers.fields))
    return Revision(
        issue=issue,
        fingerprint=fingerprint(issue),
        subject=subject,
        html=page,
        text=text,
        slots={marker: list(field) for marker, field in markers.fields.items()},
        warnings=warnings,
    )


def _clean(text: str) -> str:
    """Return text with one kind of line end and without control characters or half characters."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return "\n".join(re.sub("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", "", line) for line in lines)


def inlined(page: str) -> str:
    """Return a mail's HTML with its rules inside its tags; nothing is fetched."""
    return str(
        Premailer(
            page,
            allow_network=False,
            allow_loading_external_files=False,
            strip_important=False,
            keep_style_tags=False,
            disable_validation=True,
            disable_basic_attributes=["align", "bgcolor", "valign", "width", "height"],
            cssutils_logging_level=logging.CRITICAL,
            cache_css_parsing=False,
        ).transform(pretty_print=False)
    )


def _too_long(page: str, fields: int) -> list[str]:
    size = len(page.encode()) + fields * 100
    if size > CLIPPED_AT:
        return [
            _("This email has %d KB of HTML. Gmail cuts it off at 102 KB, and the way out with it.") % (size / 1000)
        ]
    if size > NEARLY_CLIPPED_AT:
        return [_("This email has %d KB of HTML. Stay below 90: Gmail cuts off at 102.") % (size / 1000)]
    return []
