"""What an author is told when mails come back: what happened, why, and what to do; in the publication's language."""

import re
from collections.abc import Iterable

from django.utils.translation import gettext as _

from newsletters.alarm_words import desk, in_its_language
from newsletters.models import Publication, Stop

PROOF = re.compile(r"(?<![\d.])([45]\.7\.(?:2\d|3[0-2]|515))(?![\d.])")


def proof_code(text: str) -> str:
    match = PROOF.search(text)
    return match[1] if match else ""


@in_its_language
def stopped(publication: Publication, cause: str, number: int, emails: int) -> Iterable[str]:
    """Say that a publication was stopped by what came back."""
    yield _("Your emails were stopped.")
    yield happened(cause, number, emails)
    yield advice(cause)
    yield again(publication)


@in_its_language
def warned(publication: Publication, cause: str, number: int, emails: int) -> Iterable[str]:
    """Say that more comes back than should."""
    yield {
        Stop.Cause.COMPLAINTS: _("Readers call your email spam."),
        Stop.Cause.BOUNCES: _("Many addresses do not exist any more."),
    }.get(Stop.Cause(cause), _("The mail server refuses some of your emails."))
    yield happened(cause, number, emails)
    yield advice(cause)


def happened(cause: str, number: int, emails: int) -> str:
    text = {
        Stop.Cause.COMPLAINTS: _("%(number)d of %(emails)d emails of a day were marked as spam."),
        Stop.Cause.BOUNCES: _("%(number)d of %(emails)d emails of a day went to addresses that do not exist."),
    }.get(
        Stop.Cause(cause),
        _("%(number)d of %(emails)d emails of a day were refused because of their content or sender."),
    )
    return text % {"number": number, "emails": emails}


def advice(cause: str) -> str:
    return {
        Stop.Cause.COMPLAINTS: _(
            "Look where these readers came from, and whether the issue keeps what its page promised. Whoever "
            "complained gets nothing any more."
        ),
        Stop.Cause.BOUNCES: _(
            "Look where these addresses came from: an old list, or an import. They are not written to any more."
        ),
    }.get(Stop.Cause(cause), _("Read what the server says in the list of bounces, and mend that first."))


def again(publication: Publication) -> str:
    command = f"manage.py stuck --go-on {publication.slug}"
    values = {"address": desk(publication, "#now"), "command": command}
    return _("When it is mended, let it go on at your desk, %(address)s, or with: %(command)s") % values


@in_its_language
def unproven(publication: Publication, code: str, said: str) -> Iterable[str]:
    """Say which proof of the sender a provider asks for, and what to do."""
    yield _("A provider does not believe that your emails are yours.")
    yield to_do(code.partition(".7.")[2], publication.domain)
    if said:
        yield _("The mail server said: %(reply)s") % {"reply": said}
    yield again(publication)


def to_do(number: str, domain: str) -> str:
    """Return what to do about a provider's code: Gmail's 4.7.x and 5.7.x share their numbers; 515 is Outlook's."""
    texts = {
        "23": _("The mail server’s address has no name (PTR) that leads back to it. Ask its host to set one."),
        "25": _("The mail server’s address has no name (PTR) that leads back to it. Ask its host to set one."),
        "27": _("SPF does not pass for %(domain)s. Add the mail server to the domain’s SPF record in the DNS."),
        "29": _("The mail server sends without TLS. Switch TLS on there."),
        "30": _(
            "DKIM does not pass for %(domain)s. Publish the mail server’s DKIM key in the domain’s DNS, and let "
            "it sign."
        ),
        "31": _("%(domain)s has no DMARC record. Publish one in the DNS; v=DMARC1; p=none is enough to begin with."),
        "32": _(
            "Neither SPF nor DKIM is in the name of %(domain)s. Let the mail server sign with a key of that domain."
        ),
        "515": _(
            "Outlook asks for SPF, DKIM and DMARC together for %(domain)s. Publish all three in the domain’s DNS."
        ),
    }
    other = _("Check SPF, DKIM and DMARC of %(domain)s: the mail server must be in SPF and sign in the domain’s name.")
    return texts.get(number, other) % {"domain": domain}
