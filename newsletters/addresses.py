"""Email addresses as people type them, as mail needs them, and as a page may show them."""

import difflib
from dataclasses import dataclass

import idna
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _
from email_validator import EmailNotValidError, validate_email

from newsletters.models.subscriber import keyed_hash

# What phones and word processors leave around a pasted address.
INVISIBLE = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\u00ad"))

GMAIL = ("gmail.com", "googlemail.com")
PROVIDERS = (
    *("aol.com", "bbox.fr", "bluewin.ch", "free.fr", "gmail.com", "gmx.de", "gmx.fr", "hotmail.com", "hotmail.fr"),
    *("icloud.com", "laposte.net", "live.fr", "neuf.fr", "orange.fr", "outlook.com", "outlook.fr", "proton.me"),
    *("protonmail.com", "sfr.fr", "skynet.be", "videotron.ca", "wanadoo.fr", "web.de", "yahoo.com", "yahoo.fr"),
)
# Real providers that look like a slip of the finger.
LOOKALIKES = frozenset(
    (
        *("aim.com", "att.net", "email.com", "fre.fr", "gmx.at", "gmx.ch", "gmx.com", "gmx.net", "googlemail.com"),
        *("hotmail.be", "hotmail.ca", "hotmail.ch", "hotmail.co.uk", "hotmail.de", "hotmail.es", "hotmail.it"),
        *("live.be", "live.ca", "live.com", "live.de", "mac.com", "mail.com", "me.com", "msn.com", "outlook.be"),
        *(
            "outlook.de",
            "outlook.es",
            "pm.me",
            "protonmail.ch",
            "rocketmail.com",
            "yahoo.be",
            "yahoo.ca",
            "yahoo.co.uk",
        ),
        *("yahoo.de", "yahoo.es", "yahoo.it", "ymail.com"),
    )
)


@dataclass(frozen=True, slots=True)
class Address:
    """`address` is what a server is given, ASCII only; `key` the same in lower case; `hash` the key's keyed hash."""

    address: str
    key: str
    hash: str


def normalise(raw: str) -> Address:
    """Read what someone typed. Raises ValidationError with a sentence that says what to do."""
    typed = raw.translate(INVISIBLE).strip().removeprefix("mailto:")
    if "@" not in typed:
        raise ValidationError(_("An address has an @ in it, as in name@example.com."), code="invalid")
    try:
        valid = validate_email(typed, check_deliverability=False, strict=True)
    except EmailNotValidError:
        raise ValidationError(
            _("This address cannot receive mail as it is written. Look for a missing letter, a space or a comma."),
            code="invalid",
        ) from None
    if not valid.ascii_email:
        raise ValidationError(
            _("Before the @, write letters without accents: many mail servers refuse others."), code="invalid"
        )
    key = valid.ascii_email.lower()
    return Address(valid.ascii_email, key, keyed_hash(key))


def mailbox_key(address: str) -> str:
    """Return one name for all spellings of a mailbox: without +tag, and without dots at Gmail, which ignores them."""
    local, _at, domain = address.lower().rpartition("@")
    local = local.partition("+")[0] or local
    if domain in GMAIL:
        local, domain = local.replace(".", "") or local, GMAIL[0]
    return f"{local}@{domain}"


def readable(address: str) -> str:
    """Return an address with its domain as people write it: é.example instead of xn--9ca.example."""
    local, _at, domain = address.rpartition("@")
    try:
        return f"{local}@{idna.decode(domain)}"
    except idna.IDNAError:
        return address


def masked(address: str) -> str:
    """Return “c•••@s•••.example”: enough for its owner to know it again, and no more."""
    local, _at, domain = readable(address).rpartition("@")
    return f"{local[:1]}•••@{domain[:1]}•••.{domain.rpartition('.')[2]}"


def typo_hint(address: str) -> str | None:
    """Return the address that was probably meant, where the domain is one slip away from a large provider's."""
    local, _at, domain = address.rpartition("@")
    domain = domain.lower()
    if domain in PROVIDERS or domain in LOOKALIKES:
        return None
    # Gmail exists under one ending only.
    meant = [GMAIL[0]] if domain.startswith("gmail.") else difflib.get_close_matches(domain, PROVIDERS, 1, 0.88)
    return f"{local}@{meant[0]}" if meant else None
