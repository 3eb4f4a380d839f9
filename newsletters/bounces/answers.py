"""Answers to our mails: a machine's is dropped, a person's goes on to the author, a bare “stop” gets the way out."""

import hashlib
import html
import re
from datetime import datetime, timedelta
from email.utils import format_datetime, parseaddr

from django.db import transaction
from django.utils import translation
from django.utils.translation import gettext as _

from newsletters import addresses, headers, letters, links, mime, postage
from newsletters.bounces import policy
from newsletters.bounces.letter import Letter as Mail
from newsletters.bounces.letter import words
from newsletters.bounces.origin import Origin
from newsletters.bounces.prose import AUTOMATIC_SUBJECT
from newsletters.links import Purpose
from newsletters.models import Bounce, Letter
from newsletters.rendering import Brand, envelope

LONGEST = 20_000
# More than this is no person's, whatever it says. A mail of ours proves only that its reader, or whoever got it
# from them, writes.
MOST_A_DAY = 20
ROBOTS = re.compile(
    r"^(?:mailer-daemon|postmaster|no-?reply|do-?not-?reply|bounces?|root"
    r"|daemon)[@+-]",
    re.IGNORECASE,
)
# Where an answer ends and what it answers begins
QUOTE = re.compile(
    r"^(?:>|-{2,} ?(?:original|message|forwarded)|_{5,}|-- ?$|(?:on|le|am|el|il) .{3,200}(?:wrote|écrit|schrieb"
    r"|escribió|scritto)"
    r" ?:?$|(?:from|de|von|envoyé|sent) ?: .)",
    re.IGNORECASE,
)
LEAVING = re.compile(
    r"(?:please |merci de |svp |s.il vous pla[iî]t )?(?:stop|unsubscribe|d[eé]sinscri\w*|d[eé]sabonn\w*|remove"
    r"|quit|leave|cancel|"
    r"arr[eê]te[rz]?|me d[eé]sinscrire|me d[eé]sabonner|unsuscribe|opt[- ]?out|abmelden|baja)"
    r"(?: me| moi| emails?| e-mails?| mails?| please| svp| merci| s.il vous pla[iî]t| now| all| from (?:this"
    r"|the|your) list)*"
)


def take(mail: Mail, raw: bytes, found: Origin | None, now: datetime) -> str:
    """Read an answer: return automatic, answer, offer or unplaced."""
    if found is None or not found.known:
        return "unplaced"
    if automatic(mail):
        return "automatic"
    if answered_today(found, now) >= MOST_A_DAY:
        return "unplaced"
    text = own_words(mail.text)
    what = "offer" if asks_to_leave(text, words(mail.header("subject"))) else "answer"
    name = f"answer {mail.header('message-id') or hashlib.sha256(raw).hexdigest()}"
    with transaction.atomic():
        event = policy.Event(Bounce.Kind.REPLIED, found, Bounce.Door.MAIL, name)
        if bounce := policy.record(event, now):
            offer(found, now) if what == "offer" else pass_on(mail, found, bounce, now)
    return what


def automatic(mail: Mail) -> bool:
    """Tell whether a machine wrote this (RFC 3834 section 2, and the signs that are older)."""
    submitted = mail.header("auto-submitted").lower()
    return bool(
        (submitted and not submitted.startswith("no"))
        # A receipt (RFC 8098), or a report that makes no sense
        or mail.kind == "multipart/report"
        or mail.header("precedence").lower() in {"bulk", "list", "junk", "auto_reply"}
        or any(name in mail.headers for name in ("x-autoreply", "x-autorespond", "x-autoresponse", "list-id"))
        or mail.header("return-path").strip() == "<>"
        or ROBOTS.match(writer(mail)[1])
        or AUTOMATIC_SUBJECT.match(words(mail.header("subject")))
    )


def answered_today(found: Origin, now: datetime) -> int:
    """Count the answers that came from one reader within a day; readers who were erased count as one."""
    letter = found.row if isinstance(found.row, Letter) and not found.subscriber else None
    answers = Bounce.objects.filter(kind=Bounce.Kind.REPLIED, subscriber=found.subscriber, letter=letter)
    return answers.filter(publication=found.publication, at__gt=now - timedelta(days=1)).count()


def writer(mail: Mail) -> tuple[str, str]:
    """Return name and address of whoever wrote."""
    name, address = parseaddr(words(mail.header("from"))[:1000])
    return headers.one_line(name)[:120], headers.one_line(address)[:320]


def own_words(text: str) -> str:
    """Return an answer without what it quotes."""
    lines: list[str] = []
    for line in text[:LONGEST].splitlines():
        if QUOTE.match(line.strip()):
            break
        lines.append(line.rstrip())
    return "\n".join(lines).strip()


def asks_to_leave(text: str, subject: str) -> bool:
    """Tell whether an answer is nothing but “stop”: in its text, or in its subject where there is none."""
    said = text or re.sub(r"^\s*(?:re|aw|tr|fwd?)\s*:\s*", "", subject, flags=re.IGNORECASE)
    said = re.sub(r"[^\w' ’-]+", " ", said[:200]).replace("’", "'").strip().lower()
    return len(said) <= 60 and bool(LEAVING.fullmatch(re.sub(r"\s+", " ", said)))


def offer(found: Origin, now: datetime) -> None:
    """Write to the reader, at their own address and once a day, how to leave. Nobody leaves by a mail that says so."""
    reader = found.subscriber
    if reader is None or reader.status not in {reader.Status.ACTIVE, reader.Status.PAUSED}:
        return
    cause, language = f"stop {now:%Y-%m-%d}", reader.publication.language
    letters.write(
        reader.publication, Letter.Kind.OFFER, reader.address, cause, language=language, subscriber=reader, now=now
    )


def pass_on(mail: Mail, found: Origin, bounce: Bounce, now: datetime) -> None:
    """Write the answer to the author, as a letter."""
    name, address = writer(mail)
    publication = found.publication
    context = {
        "name": name,
        "address": address,
        "subject": headers.one_line(words(mail.header("subject")))[:200],
        "text": mail.text[:LONGEST].strip(),
        "more": len(mail.text) > LONGEST or len(mail.parts) > len(mail.of_kind("text/plain", "text/html")),
    }
    letters.write(
        publication, Letter.Kind.ANSWER, publication.reply_to, f"bounce {bounce.pk}", language=publication.language,
        subscriber=found.subscriber, context=context, now=now,
    )  # fmt: skip


def message_bytes(letter: Letter, now: datetime) -> bytes:
    """Return the complete message that brings an answer to the author, who answers it as any other mail."""
    brand, context, reader = Brand.of(letter.publication), letter.context, letter.subscriber
    name = context["name"] or addresses.masked(context["address"])
    with translation.override(letter.language):
        lines = [context["text"]]
        lines += [_("There is more in this mail than its text; ask for it.")] if context["more"] else []
        lines += ["--", _("An answer of %(name)s <%(address)s>.") % {"name": name, "address": context["address"]}]
        if reader:
            page = f"{letter.publication.origin}/reader/{links.seal(Purpose.READER, reader.pk)}/"
            lines.append(_("This reader’s page: %(link)s") % {"link": page})
        subject = context["subject"] or _("An answer of %(name)s") % {"name": name}
    head = list(envelope(brand, "", f"letter:pub{brand.number}:answer"))
    head = [headers.mailbox("From", name, brand.sender), *head[1:2], headers.text("Subject", subject), *head[3:5]]
    head += [headers.mailbox("Reply-To", name, context["address"]), headers.plain("Auto-Submitted", "auto-generated")]
    text = "\n\n".join(lines)
    values = {"to_address": letter.address, "message_id": postage.message_id(letter), "date": format_datetime(now)}
    page = f'<html><body style="white-space:pre-wrap">{html.escape(text)}</body></html>'
    return mime.blueprint(head, text, page, {}).fill(values)
