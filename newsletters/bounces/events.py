"""What mail providers tell by webhook, in anymail's words. A provider signs what it says, so its word counts."""

import logging
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from anymail.signals import AnymailInboundEvent, AnymailTrackingEvent, EventType, RejectReason
from django.db import transaction
from django.utils import timezone

from newsletters import bounces, tasks, walks
from newsletters.bounces import origin, policy, verdict
from newsletters.bounces.origin import Origin
from newsletters.bounces.report import CODE, STATUS, Failure, in_text
from newsletters.headers import one_line
from newsletters.models import Bounce
from newsletters.models.outgoing import State
from newsletters.transports.providers import PROVIDERS

log = logging.getLogger(__name__)

Kind = Bounce.Kind
# What the reason alone says; a server's own words say more.
REASONS = {
    RejectReason.INVALID: Kind.HARD,
    RejectReason.BLOCKED: Kind.BLOCKED,
    RejectReason.SPAM: Kind.CONTENT,
    RejectReason.UNSUBSCRIBED: Kind.LEFT,
    RejectReason.TIMED_OUT: Kind.SOFT,
}
# The providers' own names of a dead address and of one that may live; anymail calls both “bounced”.
DEAD = {
    *("type=hardbounce", "type=bademailaddress", "type=activity.hard_bounced", "type=permanent", "event=hard_bounce"),
    *("event=invalid_email", "bouncetype=permanent", "bounce_class=10", "bounce_class=30", "hard_bounce=true"),
    *("status=hard_bounced", "reason=suppress-bounce"),
}
ALIVE = {
    *("type=softbounce", "type=transient", "type=activity.soft_bounced", "event=soft_bounce", "event=soft bounce"),
    *("bouncetype=transient", "bouncetype=undetermined", "severity=temporary", "hard_bounce=false"),
    "status=soft_bounced",
}
NAMES = {"type", "event", "bouncetype", "severity", "bounce_class", "hard_bounce", "status", "reason"}
# Where they give back the Message-ID of a mail that came by SMTP: Postal in the first two, Amazon in the third.
GIVEN_BACK = (
    ("payload", "message", "message_id"),
    ("payload", "original_message", "message_id"),
    ("mail", "commonHeaders", "messageId"),
)
TAKEN = {EventType.DELIVERED, EventType.SENT, EventType.QUEUED, EventType.DEFERRED, EventType.OPENED, EventType.CLICKED}


def happened(sender: Any, event: AnymailTrackingEvent, esp_name: str, **more: Any) -> None:
    """Do what follows from a provider's event, once however often it is told."""
    now, kind = timezone.now(), kind_of(event, esp_name)
    found = whose(event, kind, now)
    if found is None:
        return
    if event.event_type in TAKEN:
        arrived(found, str(event.message_id or ""), now)
    elif kind:
        text = event.mta_response or event.description or ""
        told = f"{esp_name} {event.event_id} {event.recipient}" if event.event_id else ""
        facts = (bounces.row_key(found.row), in_text(STATUS, text), text, told)
        policy.record(policy.Event(kind, found, Bounce.Door.HOOK, *facts), now)


def whose(event: AnymailTrackingEvent, kind: Bounce.Kind | None, now: datetime) -> Origin | None:
    """Find the mail by our own metadata or Message-ID; whoever wants no more may say so after months.

    Other mails go by the same account, also to our readers. What names one of them is none of ours; what names none
    is ours where the provider's own number is that of the address.
    """
    number = str(event.message_id or "")
    name = event.metadata.get("message_id", "") if isinstance(event.metadata, dict) else ""
    opened = list(origin.tokens([str(name), number, *given_back(event.esp_event)]))
    for token in opened:
        if found := origin.of_token(token, now, at_any_time=kind in {Kind.COMPLAINT, Kind.LEFT}):
            return found
    return None if event.metadata or opened else origin.of_address(event.recipient or "", now, number)


def given_back(raw: Any) -> Iterator[str]:
    for path in GIVEN_BACK:
        found = raw
        for name in path:
            found = found.get(name) if isinstance(found, dict) else None
        yield str(found)


def kind_of(event: AnymailTrackingEvent, esp_name: str) -> Bounce.Kind | None:
    if event.event_type == EventType.COMPLAINED:
        return Kind.COMPLAINT
    provider = PROVIDERS.get(esp_name.lower().replace(" ", "_"))
    if provider and provider.leaves(event.event_type, event.reject_reason):
        return Kind.LEFT
    if event.event_type == EventType.UNSUBSCRIBED:
        return Kind.LEFT
    if event.event_type in {EventType.BOUNCED, EventType.REJECTED, EventType.FAILED}:
        return failure_kind(event)
    return None


def failure_kind(event: AnymailTrackingEvent) -> Bounce.Kind:
    """Return the kind of a refusal: by the server's own words, then by the provider's."""
    if event.reject_reason == RejectReason.UNSUBSCRIBED:
        return Kind.LEFT
    text = f"{event.mta_response or ''} {event.description or ''}".strip()
    words = provider_words(event.esp_event)
    failure = Failure("", status=in_text(STATUS, text), code=in_text(CODE, text), said=text)
    by_text = verdict.outright(verdict.squeezed(text)) or (verdict.of(failure) if failure.status else None)
    if by_text == Kind.HARD and words & ALIVE:
        return Kind.SOFT
    if by_text:
        return by_text
    return REASONS.get(event.reject_reason) or (Kind.HARD if words & DEAD and not words & ALIVE else Kind.SOFT)


def provider_words(raw: Any, depth: int = 3) -> set[str]:
    """Return, as name=value, by which words a provider itself calls the event, wherever its format keeps them."""
    if not isinstance(raw, dict) or not depth:
        return set()
    found = {f"{name}={value}".lower() for name, value in raw.items() if isinstance(value, str | int)}
    found = {one for one in found if one.partition("=")[0] in NAMES}
    return found.union(*(provider_words(value, depth - 1) for value in raw.values()))


def arrived(found: Origin, number: str, now: datetime) -> None:
    """Settle a mail of which nobody knew whether the provider had taken it, be its call still under way.

    What the call says later changes it no more, so the provider's number is kept here, and a sequence goes on here.
    """
    if not found.known:
        return
    rows = type(found.row)._default_manager.filter(pk=found.row.pk)
    walks.advance(rows.filter(state=State.HANDOFF).claimed())
    facts: dict[str, Any] = {"reply": one_line(number)[:250]} if number else {}
    rows = rows.filter(state__in=(State.HANDOFF, State.UNCERTAIN))
    rows.update(state=State.SENT, settled_at=now, leased_until=None, **facts)


def received(sender: Any, event: AnymailInboundEvent, esp_name: str, **more: Any) -> None:
    """Take a message that a provider received for us."""
    message = event.message
    envelope = (message.envelope_recipient or "").replace("\r", "").replace("\n", "")
    head = f"Delivered-To: {envelope}\r\n".encode() if envelope else b""
    with transaction.atomic():
        what = bounces.take(head + message.as_bytes(), timezone.now(), Bounce.Door.HOOK)
    if what == bounces.UNPLACED:
        log.warning("%s brought a message that concerns no mail of ours", esp_name)
    tasks.wake()
