"""What comes back of our mails: refusals, complaints, automatic answers and people's. Each door leads to one function.

`take` reads one message, from a pipe, a mailbox or a provider; `refused` writes down what a server said while sending;
newsletters.bounces.events reads what providers tell by webhook.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from newsletters.bounces import answers, letter, origin, policy, report, verdict
from newsletters.bounces.origin import Origin
from newsletters.bounces.policy import Event
from newsletters.bounces.report import Failure, Report
from newsletters.models import Bounce, Delivery, Letter
from newsletters.models.outgoing import State
from newsletters.transports import Outcome

Kind, Door = Bounce.Kind, Bounce.Door

# What a message was: all but UNPLACED are done with.
UNPLACED = "unplaced"
# Refusals that are about the sender, whoever the reader is
US = {Kind.BLOCKED, Kind.AUTH, Kind.CONTENT, Kind.REPUTATION}


def take(raw: bytes, now: datetime, door: Bounce.Door = Door.MAIL) -> str:
    """Read a message that came back and do what follows; return in a word what it was.

    The words are bounce, complaint, delayed, notice, automatic, answer, offer, and unplaced for what is no business of
    ours. Any bytes may come: a message that makes no sense changes nothing, and the same message twice is once.
    """
    mail = letter.read(raw)
    told = report.read(mail)
    found = origin.of_mail(mail, told, now)
    if told is None:
        return answers.take(mail, raw, found, now)
    if told.kind == "notice" or found is None:
        return "notice" if told.kind == "notice" else UNPLACED
    failures = [one for one in told.failures if one.action not in {"delayed", "delivered", "relayed", "expanded"}]
    if not failures:
        return "delayed"
    failure = about(failures, found)
    policy.record(Event(kind_of(told, failure), found, door, key(found, mail), failure.status, said(failure)), now)
    return told.kind


def kind_of(told: Report, failure: Failure) -> Bounce.Kind:
    if told.kind == "complaint":
        return Kind.LEFT if failure.action.startswith("opt-out") else Kind.COMPLAINT
    return verdict.of(failure)


def about(failures: list[Failure], found: Origin) -> Failure:
    """Choose what is said of our reader, where a report names several recipients."""
    address = found.subscriber.address.lower() if found.subscriber else ""
    return next((one for one in failures if one.recipient.lower() == address), failures[0])


def said(failure: Failure) -> str:
    return failure.said or failure.around


def key(found: Origin, mail: letter.Letter) -> str:
    """Return what an event is called: where a token proves the mail, that mail; else whatever message told of it."""
    if found.known:
        return row_key(found.row)
    return f"mail {mail.header('message-id')} {row_key(found.row)}"


def row_key(row: Any) -> str:
    return f"{row._meta.model_name} {row.pk}"


def refused(rows: Iterable[Any], outcome: Outcome, now: datetime) -> None:
    """Write down what a server said to these rows while they were sent: deliveries or letters, or claims on deliveries.

    To be called after their settling, in the same transaction. Only what was said to the recipient may cost a reader,
    and that their address stands on the provider's own list. A refusal for now counts only where a provider asks for a
    proof of the sender.
    """
    failure = failure_of(outcome)
    # Whatever the words: it is asked before our list, and nothing of ours would arrive any more.
    kind = Kind.LEFT if outcome.reason == "blocked" else verdict.of(failure)
    if outcome.state != State.FAILED and not (outcome.state == State.RETRY and kind == Kind.AUTH):
        return
    if outcome.reason != "address" and kind in {Kind.HARD, Kind.SOFT, Kind.FULL}:
        kind = Kind.BLOCKED
    known: list[Delivery | Letter] = [row for row in map(loaded, rows) if row]
    for row in known:
        event = Event(
            kind, Origin(row, origin.reader_of(row)), Door.SERVER, row_key(row), failure.status, outcome.reply
        )
        policy.record(event, now)


def reason(outcome: Outcome) -> str:
    """Return why a refused mail failed. What our own way out says of us is our fault, at whatever command."""
    if outcome.reason == "address" and verdict.of(failure_of(outcome)) in US:
        return "refused"
    return outcome.reason


def failure_of(outcome: Outcome) -> Failure:
    return Failure("", status=report.in_text(report.STATUS, outcome.reply), said=outcome.reply)


def loaded(row: Any) -> Delivery | Letter | None:
    if isinstance(row, Delivery | Letter):
        return row
    found: Delivery | None = Delivery.objects.select_related("publication").filter(pk=row.pk).first()
    return found
