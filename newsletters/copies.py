"""A row's own message: the work per issue is done once, a reader's share is splicing bytes."""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from newsletters import headers, letters, postage, rendering
from newsletters.models import Issue, Letter
from newsletters.models.outgoing import State
from newsletters.transports import Message, Outcome

log = logging.getLogger(__name__)

Clock = Callable[[], datetime]
# A row with its message and revision, or with what keeps it from having one
Made = tuple[Any, Message | None, int | None, Outcome | None]


def compose(rows: list[Any], clock: Clock) -> Iterator[Made]:
    """Make each row's message, when it is asked for.

    Whatever is wrong with one issue or one row keeps no other waiting behind it.
    """
    for share in shares(rows):
        try:
            make, revision = maker(share[0], clock)
        except Exception as error:
            log.exception("%s could not be made", share[0])
            yield from ((row, None, None, _later(error)) for row in share)
            continue
        for row in share:
            yield (row, None, None, Outcome(State.MISSED, "withdrawn")) if make is None else made(row, make, revision)


def made(row: Any, make: Callable[[Any], Message], revision: int | None) -> Made:
    try:
        return row, make(row), revision, None
    except Exception as error:
        log.exception("%s could not be made", row)
        return row, None, None, _later(error)


def _later(error: Exception) -> Outcome:
    """Try again later: what is wrong may be mended before the day is over."""
    return Outcome(State.RETRY, "", repr(error))


def shares(rows: list[Any]) -> list[list[Any]]:
    """Group rows that are made from the same text: each letter by itself, deliveries by their issue."""
    same: dict[int, list[Any]] = defaultdict(list)
    for row in rows:
        same[row.pk if isinstance(row, Letter) else row.issue_id].append(row)
    return list(same.values())


def maker(row: Any, clock: Clock) -> tuple[Callable[[Any], Message] | None, int | None]:
    """Return what makes the messages of rows like this one, or None where the issue has left the queue since."""
    if isinstance(row, Letter):
        return lambda letter: of_letter(letter, clock()), None
    issue = Issue.objects.select_related("publication").get(pk=row.issue_id)
    if issue.state != Issue.State.QUEUED:
        return None, None
    revision = rendering.revision_of(issue)
    blueprint = rendering.blueprint(revision)
    write = postage.writer(issue.publication)
    sender = headers.addr_spec(issue.publication.sender)

    def make(claim: Any) -> Message:
        values = write(claim, clock())
        recipient = headers.addr_spec(claim.address)
        return Message(claim.pk, values["message_id"], sender, recipient, blueprint.fill(values), blueprint, values)

    return make, revision.pk


def of_letter(letter: Letter, now: datetime) -> Message:
    # Outside, an international domain has only its ASCII form (RFC 5890).
    sender, recipient = headers.addr_spec(letter.publication.sender), headers.addr_spec(letter.address)
    return Message(letter.pk, postage.message_id(letter), sender, recipient, letters.message_bytes(letter, now))
