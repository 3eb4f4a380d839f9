"""Who asks too often, and which form was filled in by no person."""

import ipaddress
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.core.signing import BadSignature, SignatureExpired, TimestampSigner
from django.db.models import QuerySet

from newsletters.models.subscriber import keyed_hash
from optin.models import OptInPage, Request

WINDOW = timedelta(hours=1)
PER_ADDRESS, PER_NETWORK, PER_PAGE = 5, 60, 2000

# Nobody reads the page and types an address in less; a form left open longer may show words that changed since.
QUICKEST, OLDEST = timedelta(seconds=2), timedelta(days=1)
signer = TimestampSigner(salt="optin.form")


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks, as far as the ledger and the limits need it: keyed hashes, and the browser's name."""

    ip_hash: str
    network_hash: str
    agent: str

    @classmethod
    def of(cls, ip: str, agent: str) -> "Asker":
        net = network(ip)
        return cls(keyed_hash(ip) if net else "", keyed_hash(net) if net else "", agent.replace("\0", "")[:300])


def network(ip: str) -> str:
    """Return the /24 or /48 around an address, which one subscriber line rarely exceeds; "" for what is no address."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return str(ipaddress.ip_network((address, 24 if address.version == 4 else 48), strict=False))


def back_at(page: OptInPage, address_hash: str, network_hash: str, now: datetime) -> datetime | None:
    """Return when a new request is welcome again, or None if one is welcome now."""
    recent = Request.objects.filter(created_at__gt=now - WINDOW)
    full = [
        oldest(recent.filter(address_hash=address_hash), PER_ADDRESS),
        oldest(recent.filter(network_hash=network_hash), PER_NETWORK) if network_hash else None,
        oldest(recent.filter(page=page), PER_PAGE),
    ]
    return max((moment + WINDOW for moment in full if moment), default=None)


def oldest(recent: QuerySet[Request], limit: int) -> datetime | None:
    """Return the request that must grow old before another fits, or None below the limit."""
    return recent.order_by("-created_at").values_list("created_at", flat=True)[limit - 1 : limit].first()


def stamp(page: OptInPage, wording: str) -> str:
    """Return what the form carries to tell when, and with which words, it was shown."""
    return signer.sign(keyed_hash(f"{page.pk} {wording}")[:16])


def doubt(stamped: str, page: OptInPage, wording: str) -> str:
    """Return why a form should be shown once more: "quick", "stale", or "" if it need not."""
    try:
        shown = signer.unsign(stamped, max_age=OLDEST)
    except (SignatureExpired, BadSignature):
        return "stale"
    if shown != keyed_hash(f"{page.pk} {wording}")[:16]:
        return "stale"
    try:
        signer.unsign(stamped, max_age=QUICKEST)
    except SignatureExpired:
        return ""
    return "quick"
