"""What one relay may send of what is due: leased within the limits, and accounted for when it has ended."""

import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from time import monotonic
from typing import Any

from newsletters import allowances, limits
from newsletters.allowances import Lanes, Route
from newsletters.models import Allowance, Relay
from newsletters.models.outgoing import OutgoingQuerySet, State
from newsletters.transports import Outcome, Unreachable

GONE = (State.SENT, State.FAILED, State.UNCERTAIN, State.HANDOFF)
# So many leases in a row may bring nothing but emails to domains that take no more for now.
IN_VAIN = 20


class Supply:
    """The rows of one route that go by one of its relays."""

    def __init__(self, route: Route, relay: Relay, lanes: Lanes, clock: Callable[[], datetime]) -> None:
        self.route, self.relay, self.lanes, self.clock = route, relay, lanes, clock
        self.owner = uuid.uuid4()
        self.bites: list[Bite] = []
        self.heard = Counter[str]()
        self.since = monotonic()

    def lease(self, size: int) -> list[Any]:
        """Claim rows of one lane: no letter ever waits behind a daily send."""
        now = self.clock()
        self.route = self.route.fresh()
        self.relay = next((relay for relay in self.route.relays if relay.pk == self.relay.pk), self.relay)
        if not allowances.is_turn(self.route, self.relay, now):
            return []
        for lane in self.lanes:
            for _try in range(IN_VAIN):
                rows = self._lease(lane(), size, now)
                if rows is None:
                    break
                if rows:
                    return rows
        return []

    def _lease(self, lane: OutgoingQuerySet, size: int, now: datetime) -> list[Any] | None:
        """Return the rows that may go now; None where nothing more is due or may go at all."""
        mine, taken = self.route.of(lane), None
        if limits.windows(self.relay, now):
            # An idle lane takes nothing that it would only give back.
            if not mine.due(now).exists():
                return None
            taken = allowances.take(self.relay, size, now, allowances.is_letters(lane))
            if taken is None:
                return None
        rows = mine.lease(taken.number if taken else size, now, self.owner)
        admitted, by_domain = allowances.admit(self.relay, lane, rows, self.owner, now)
        for one in filter(None, [taken, *by_domain]):
            domain = one.domain
            keys = {row.pk for row in admitted if not domain or allowances.domain_of(row) == domain}
            self._count(Bite(one, keys))
        return admitted if rows else None

    def ended(self, ends: Mapping[Any, Outcome]) -> None:
        """Hear how rows have ended, and tell the other workers once a bite is through."""
        for bite in self.bites:
            mine = [key for key in ends if key in bite.out]
            bite.out.difference_update(mine)
            bite.left += sum(ends[key].state in GONE for key in mine)
        for bite in list(self.bites):
            self._settle(bite)
        for outcome in ends.values():
            # Only a reply of the server tells its mood.
            if outcome.state in GONE or outcome.reply[:1] == "4":
                self.heard[outcome.state] += 1
        if any(outcome.state == State.SENT for outcome in ends.values()):
            allowances.wake(self.relay, self.clock())
        if self.heard.total() >= allowances.MANY:
            allowances.heard(self.relay, self.heard, monotonic() - self.since, self.clock())
        if self.heard.total() >= 100:
            self.heard, self.since = Counter(), monotonic()

    def _count(self, bite: "Bite") -> None:
        self.bites.append(bite)
        self._settle(bite)

    def _settle(self, bite: "Bite") -> None:
        if not bite.out:
            Allowance.objects.filter(pk=bite.taken.pk).update(number=bite.left, until=self.clock())
            self.bites.remove(bite)

    def unreachable(self, error: Unreachable) -> Outcome:
        """Let the relay rest, and say what becomes of the rows that were to go by it."""
        now = self.clock()
        allowances.rest(self.relay, now, error.retry_after, error.everywhere)
        if any(relay.pk != self.relay.pk for relay in allowances.free(self.route.fresh(), now)):
            return Outcome(State.PLANNED)
        return Outcome(State.RETRY, "", str(error) or repr(error))

    def opens_in(self) -> float | None:
        """Return the seconds after which it is worth while to lease again, or None where the next tick will do."""
        self.route = self.route.fresh()
        return allowances.opens_in(self.route, self.relay, self.lanes, self.clock())


class Bite:
    """What was taken of an allowance: the keys still out, and how many have left."""

    def __init__(self, taken: Allowance, out: set[Any]) -> None:
        self.taken, self.out, self.left = taken, out, 0
