"""One relay's loop: what is staged is handed off in groups, and each hand-off settles the group before it."""

import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from datetime import datetime, timedelta
from typing import Any

from django.db import InterfaceError, OperationalError, connection, transaction

from newsletters import bounces, walks
from newsletters.claims import Claim, End
from newsletters.copies import Made, compose
from newsletters.models import Delivery, Letter
from newsletters.models.outgoing import HAD, LEASE, OutgoingQuerySet, State
from newsletters.supply import Supply
from newsletters.transports import Line, Outcome, Unreachable

log = logging.getLogger(__name__)

# How many rows are leased at once: what takes about a second, so that no letter waits long behind a daily send.
LEAST, MOST = 20, 400
FIRST_RETRY = timedelta(minutes=1)
LONGEST_RETRY = timedelta(minutes=30)
# With no news for so long, whatever is there is committed, in seconds.
QUIET = 0.005
# The longest that a reply waits for its commit, and an idle loop for news
SETTLED_WITHIN = 1.0
# For so long a stop waits for the replies to what has been handed off; Celery's own end takes some seconds more.
LAST_REPLIES = 4.0


class Sender:
    """Rows of one relay between their lease and their end."""

    def __init__(self, line: Line, supply: Supply, clock: Callable[[], datetime]) -> None:
        self.line, self.supply, self.owner, self.clock = line, supply, supply.owner, clock
        self.size = LEAST
        self.made: Iterator[Made] = iter(())
        self.leased_at = self.stirred_at = time.monotonic()
        self.leased: dict[Any, Any] = {}
        self.revisions: dict[Any, int | None] = {}
        self.out: dict[Any, Any] = {}
        self.ended: list[tuple[Any, Outcome]] = []
        self.ended_at = self.leased_at
        self.staged = 0
        self.dry = self.dead = False
        self.done = Counter[str]()

    @property
    def busy(self) -> bool:
        return bool(self.leased or self.out or self.ended)

    def rested(self) -> float | None:
        """Look again what may be leased; return the seconds after which that is worth while, None where it is not."""
        pause = None if self.dead else self.supply.opens_in()
        self.dry = pause is None
        return pause

    def step(self, more: bool, patience: float) -> None:
        """Feed the line, hear its news, commit what is worth it. With `more`, new rows may be leased."""
        try:
            self.feed(more and not self.dead)
            quiet = not self.listen(patience) and (patience > 0 or time.monotonic() - self.stirred_at >= QUIET)
        except Unreachable as error:
            self.give_up(error)
            quiet = True
        overdue = self.ended and time.monotonic() - self.ended_at >= SETTLED_WITHIN
        if overdue or len(self.line.staged) >= self.line.group or (quiet and (self.line.staged or self.ended)):
            self.commit()

    # To the line

    def feed(self, more: bool) -> None:
        """Give the line as much as it takes. The next rows are leased while the last ones are on the wire."""
        while self.line.room > 0:
            made = next(self.made, None)
            if made is None:
                if not more or self.dry or not self.lease_more():
                    return
                continue
            row, message, revision, trouble = made
            if trouble or message is None:
                self.end(row, trouble or Outcome(State.RETRY))
            elif row.pk in self.leased:
                self.revisions[row.pk] = revision
                self.line.stage(message)

    def lease_more(self) -> bool:
        now = time.monotonic()
        # The first lease says nothing about the server's pace.
        if now - self.leased_at < SETTLED_WITHIN / 2:
            self.size = min(MOST, self.size * 2)
        elif now - self.leased_at > SETTLED_WITHIN * 2:
            self.size = max(LEAST, self.size // 2)
        # A row whose lease ran out on a slow connection may come again: one copy of it is enough.
        try:
            rows = [row for row in self.supply.lease(self.size) if row.pk not in self.leased and row.pk not in self.out]
        except (OperationalError, InterfaceError):
            if not self.busy:
                raise
            # First what the server said must be written down; the next wake-up leases again.
            log.exception("Nothing could be leased")
            self.dead = True
            return False
        self.leased |= {row.pk: row for row in rows}
        self.made, self.leased_at, self.dry = self.fresh(compose(rows, self.clock)), now, not rows
        if rows:
            self.stirred_at = now
        return bool(rows)

    def fresh(self, made: Iterator[Made]) -> Iterator[Made]:
        """Stop short of rows whose lease has grown old: another worker may have them soon."""
        until = time.monotonic() + LEASE.total_seconds() / 2
        for one in made:
            yield one
            if time.monotonic() > until:
                waiting = [pk for pk in self.leased if pk not in self.revisions]
                self.release(waiting)
                return

    # News

    def listen(self, patience: float) -> bool:
        """Wait for news of the line, and return whether there were any."""
        pressing = self.ended or self.line.staged
        ended = self.line.poll(min(QUIET, patience) if pressing else patience)
        for key, outcome in ended.items():
            row = self.out.get(key) or self.leased.get(key)
            if row is not None:
                self.end(row, outcome)
        staged, self.staged = self.staged, len(self.line.staged)
        news = bool(ended) or self.staged > staged
        if news:
            self.stirred_at = time.monotonic()
        return news

    def end(self, row: Any, outcome: Outcome) -> None:
        if not self.ended:
            self.ended_at = time.monotonic()
        self.ended.append((row, outcome))

    # To the database

    def commit(self) -> None:
        """Hand off what is staged and settle what has ended, in one commit; then let the last bytes go."""
        keys, ended, now = list(self.line.staged), self.ended, self.clock()
        try:
            passed = self.write(keys, ended, now)
        except (OperationalError, InterfaceError) as error:
            log.warning("The database went away: %s", error)
            self.rescue(keys, ended, now)
            passed = set()
        self.out |= {key: self.leased.pop(key) for key in passed}
        dropped = set(keys) - passed
        for key in keys:
            self.leased.pop(key, None)
            self.revisions.pop(key, None)
        self.staged = 0
        self.line.hand_off(passed, dropped)
        self.forget(ended)
        self.account(dict.fromkeys(dropped, Outcome(State.PLANNED)))

    def write(self, keys: list[Any], ended: list[tuple[Any, Outcome]], now: datetime) -> set[Any]:
        """Commit; return the keys that passed."""
        plain = not any(unusual(row, outcome) for row, outcome in ended) and len({type(key) for key in keys}) < 2
        # Whose address has just turned out to be dead is handed nothing in the same commit.
        rounds = [([], ended), (keys, [])] if any_refused(ended) else [(keys, ended)]
        passed: set[Any] = set()
        with nullcontext() if plain else transaction.atomic():
            for some, ends in rounds:
                for table, kind in lanes():
                    mine = [key for key in some if isinstance(key, kind)]
                    share = [(row, outcome) for row, outcome in ends if isinstance(row.pk, kind)]
                    passed |= self.exchange(table, mine, share, now)
        return passed

    def rescue(self, keys: list[Any], ended: list[tuple[Any, Outcome]], now: datetime) -> None:
        """Write down after an outage of the database what the server said, as soon as there is a database again.

        Whether the hand-off was committed nobody knows; but these last bytes never left, so these rows may be tried
        again in either case.
        """
        deadline = time.monotonic() + LAST_REPLIES
        while True:
            connection.close()
            try:
                be_quick()
                self.write([], ended, now)
                for table, kind in lanes():
                    mine = [key for key in keys if isinstance(key, kind)]
                    table.put_off(mine, self.owner, now, "", states=(State.LEASED, State.HANDOFF))
            except (OperationalError, InterfaceError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
            else:
                connection.close()
                return

    def exchange(
        self, table: OutgoingQuerySet, keys: list[Any], ended: list[tuple[Any, Outcome]], now: datetime
    ) -> set[Any]:
        """Write one table's share of a commit; return the keys that passed."""
        settled: list[End] = []
        for row, outcome in ended:
            if outcome.state == State.RETRY:
                at = now + delay(row.attempts)
                both = (State.LEASED, State.HANDOFF)
                table.put_off([row.pk], self.owner, at, clean(outcome.reply), outcome.reason, both)
            elif outcome.state == State.PLANNED:
                table.release([row.pk], self.owner)
            else:
                settled.append(End(row.pk, outcome.state, reason(outcome), clean(outcome.reply)))
        walks.advance([row for row, outcome in ended if outcome.state in HAD])
        passed = table.hand_off(keys, self.owner, now, settled, [self.revisions.get(key) for key in keys])
        if len(passed) < len(keys):
            table.drop([key for key in keys if key not in passed], self.owner, now)
        for row, outcome in ended:
            if outcome.state in {State.FAILED, State.RETRY} and outcome.reply:
                note(row, outcome, now)
        return passed

    def forget(self, ended: list[tuple[Any, Outcome]]) -> None:
        for row, outcome in ended:
            self.out.pop(row.pk, None)
            self.leased.pop(row.pk, None)
            self.revisions.pop(row.pk, None)
            self.done[outcome.state] += 1
        self.ended = []
        self.account({row.pk: outcome for row, outcome in ended})

    def account(self, ends: dict[Any, Outcome]) -> None:
        """Tell the limits. Where that cannot be written down they take more for used than was; no email hangs on it."""
        try:
            self.supply.ended(ends)
        except (OperationalError, InterfaceError):
            log.exception("What a limit has left could not be written down")
            connection.close_if_unusable_or_obsolete()

    # The end

    def give_up(self, error: Unreachable) -> None:
        """Leave what has not been handed off to another relay, or to a later try; this one rests."""
        log.warning("The mail server cannot be reached: %s", error)
        self.dead, self.made = True, iter(())
        try:
            outcome = self.supply.unreachable(error)
        except (OperationalError, InterfaceError):
            outcome = Outcome(State.RETRY, "", str(error))
        self.line.recall()
        ended = {row.pk for row, _outcome in self.ended}
        for row in self.leased.values():
            if row.pk not in ended:
                self.end(row, outcome)

    def recall(self) -> None:
        """Give back whatever has not been handed off."""
        self.dead, self.made = True, iter(())
        self.line.recall()
        ended = {row.pk for row, _outcome in self.ended}
        self.release([pk for pk in self.leased if pk not in ended])

    def release(self, keys: list[Any]) -> None:
        try:
            for table, kind in lanes():
                if mine := [key for key in keys if isinstance(key, kind)]:
                    table.release(mine, self.owner)
        except (OperationalError, InterfaceError):
            log.exception("What was leased stays so until the lease runs out")
            connection.close_if_unusable_or_obsolete()
        for key in keys:
            self.leased.pop(key)
            self.revisions.pop(key, None)
        self.account(dict.fromkeys(keys, Outcome(State.PLANNED)))

    def conclude(self) -> None:
        """Write down that nobody knows what became of that which was not answered in time."""
        ended = {row.pk for row, _outcome in self.ended}
        for row in [row for key, row in self.out.items() if key not in ended]:
            self.end(row, Outcome(State.UNCERTAIN, "no reply", "Stopped before the server answered."))
        if self.ended:
            self.commit()


def lanes() -> Iterator[tuple[OutgoingQuerySet, type]]:
    """Yield both tables, each with the type of its keys."""
    yield Delivery.objects.all(), tuple
    yield Letter.objects.all(), int


def be_quick() -> None:
    """Let no statement of this session wait for long: whoever holds the rows may be what went wrong."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET statement_timeout = '2s'")


def unusual(row: Any, outcome: Outcome) -> bool:
    """Tell whether an end takes more than the one statement."""
    if outcome.state in {State.RETRY, State.PLANNED, State.FAILED}:
        return True
    return isinstance(row, Claim) and row.way == Delivery.Way.SEQUENCE


def any_refused(ended: list[tuple[Any, Outcome]]) -> bool:
    return any(outcome.state == State.FAILED for _row, outcome in ended)


def reason(outcome: Outcome) -> str:
    return bounces.reason(outcome) if outcome.state == State.FAILED else outcome.reason


def note(row: Any, outcome: Outcome, now: datetime) -> None:
    """Draw the consequences of a refusal. Whatever goes wrong in that, its row and its group are settled."""
    try:
        with transaction.atomic():
            bounces.refused([row], outcome, now)
    except (OperationalError, InterfaceError):
        # The whole commit is made again.
        raise
    except Exception:
        log.exception("A refusal was settled, but no more followed from it: %s", outcome.reply)


def clean(reply: str) -> str:
    # PostgreSQL takes neither NUL nor half of a surrogate pair.
    return reply[:250].replace("\x00", "").encode("utf-8", "replace").decode()


def delay(attempts: int) -> timedelta:
    """Return how long to wait before the next try: twice as long each time, at most half an hour, a fifth jittered."""
    steady: timedelta = min(FIRST_RETRY * 2.0 ** min(attempts, 10), LONGEST_RETRY)
    return steady * random.uniform(0.9, 1.1)
