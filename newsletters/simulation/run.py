"""The loop of a simulation: strike, send, let people act, look whether every rule still holds."""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from itertools import count
from random import Random

from django.db import OperationalError
from django.db.models import Min, Q
from django.db.models.functions import Now

from newsletters import clock, invariants, notices, planning, promise, sending, stuck
from newsletters.invariants import Struck
from newsletters.models import Clock, Correction, Day, Delivery, Letter, Rest
from newsletters.models.outgoing import LEASE, OPEN, WAITING, State
from newsletters.planning import Plan
from newsletters.simulation.faults import KILLS_PLANNER, STOPS_SENDER, Faults, Killed
from newsletters.simulation.witness import Witness
from newsletters.simulation.world import World

FIRST = date(2027, 1, 4)
BEAT = timedelta(seconds=30)
# Of many readers, one plan in so many is compared with a plain reading of the rules; of a few, each is.
SAMPLE, FEW = 10, 100
# How likely somebody asks the mail server of a day what became of the emails in doubt.
ASKED = 0.5
# What is older was looked at in the nights before, and at the end all is.
RECENT = timedelta(days=4)
JUMPS = {
    "clock an hour ahead": timedelta(hours=1),
    "clock an hour back": timedelta(hours=-1),
    "clock a day ahead": timedelta(days=1),
}

Act = Callable[[datetime], None]


def midnight(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)


@dataclass
class Simulation:
    """Run with `run()`; then `broken` names each rule that did not hold."""

    days: int
    subscribers: int
    zones: int
    seed: int
    wanted: bool
    broken: dict[str, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self.faults = Faults(Random(self.seed + 1), self.wanted)
        self.start = midnight(FIRST)
        self.end = self.start + timedelta(days=self.days)
        # True time, what the machines' clocks are off by, and until when no beat comes.
        self.now, self.shift, self.asleep = self.start, timedelta(0), self.start
        self.world = World(self.random, self.subscribers, self.zones, self.start)
        self.witness = Witness(self.faults, self.leave_now)
        self.agenda: list[tuple[datetime, int, Act]] = []
        self.number = count()
        self.struck: dict[str, date] = {}
        self.looked = Counter[str]()

    def tell(self, broken: Iterable[str]) -> None:
        """Note what is broken, each once."""
        self.broken |= dict.fromkeys(broken)

    def clock(self) -> datetime:
        return self.now + self.shift

    def at(self, moment: datetime, act: Act) -> None:
        heapq.heappush(self.agenda, (moment, next(self.number), act))

    def run(self, report: Callable[[date], None] = lambda day: None) -> None:
        for ahead in range(self.days):
            day = FIRST + timedelta(days=ahead)
            self.faults.progress = ahead / self.days
            for moment, act in self.world.day(day):
                self.at(moment, act)
            self.at(midnight(day) + timedelta(hours=self.random.uniform(0, 24)), self.ask_the_server)
            self.live(until=midnight(day + clock.ONE_DAY))
            promise.go_round(self.clock())
            self.look_around(day)
            report(day)
        self.finish()

    def live(self, until: datetime) -> None:
        """Let time pass: acts and beats in their order. A beat at the end itself is the last one."""
        while True:
            beat = self.next_beat()
            if self.agenda and self.agenda[0][0] <= min(beat, until):
                self.now, _, do = heapq.heappop(self.agenda)
                do(self.clock())
            elif beat <= until:
                self.now = beat
                self.beat()
            else:
                self.now = until
                return

    def next_beat(self) -> datetime:
        """Return when a beat comes that has something to do."""
        waiting = (table.objects.filter(state__in=WAITING) for table in (Delivery, Letter))
        moments = [Clock.objects.aggregate(at=Min("next_at"))["at"]]
        rests = Rest.objects.aggregate(until=Min("until"))["until"] or self.start
        for rows in waiting:
            next_one = rows.aggregate(at=Min("try_at"), end=Min("late_until"))
            moments += [next_one["at"] and max(next_one["at"], rests), next_one["end"]]
        soonest = min(moment for moment in moments if moment) - self.shift
        earliest = max(soonest, self.now, self.asleep)
        beats = -(-(earliest - self.start) // BEAT)
        moment: datetime = self.start + beats * BEAT
        return moment if moment > self.now else moment + BEAT

    def beat(self) -> None:
        self.disturb()
        if self.asleep > self.now:
            return
        self.tick()
        if self.faults.strike("tick doubled"):
            self.tick()
        if not self.faults.strike("wake-up lost"):
            self.send()
            if self.faults.strike("wake-up doubled"):
                self.send()

    def disturb(self) -> None:
        """Let machines and clocks fail for a while."""
        for kind, hours in (("beat late by hours", self.random.uniform(0.1, 5)), ("beat down for days", 72)):
            if self.faults.strike(kind):
                self.asleep = self.now + timedelta(hours=hours)
        for kind, jump in JUMPS.items():
            if not self.shift and self.faults.strike(kind):
                self.shift = jump
                self.at(self.now + timedelta(minutes=self.random.randint(10, 90)), self.set_right)
        if self.faults.strike("server away for hours"):
            self.witness.away = True
            self.at(self.now + timedelta(hours=self.random.uniform(0.5, 20)), self.server_back)

    def set_right(self, now: datetime) -> None:
        self.shift = timedelta(0)

    def server_back(self, now: datetime) -> None:
        self.witness.away = False

    def tick(self) -> None:
        now = self.clock()
        plans: list[Plan] | None = None
        try:
            with self.faults.within(KILLS_PLANNER, 12):
                notices.tick(now)
                plans = planning.tick(now)
            promise.tick(now, plans)
        except Killed:
            pass
        if plans != []:
            self.look_at_plans()
        sending.sweep(now)

    def send(self) -> None:
        try:
            with self.faults.within(STOPS_SENDER, 12):
                sending.drain(self.clock, way_out=self.witness.connect)
        except (Killed, OperationalError):
            # What the dead worker held comes back when its lease runs out, by the database's clock.
            self.at(self.now + LEASE, self.expire)

    def ask_the_server(self, now: datetime) -> None:
        """Settle what is uncertain by the server's record, on some days."""
        if self.random.random() < ASKED and not self.witness.away:
            self.looked["emails in doubt settled by the server's record"] += sum(
                stuck.settle(self.witness, now).values()
            )

    def expire(self, now: datetime) -> None:
        for table in (Delivery, Letter):
            table.objects.filter(leased_until__isnull=False).update(leased_until=Now() - BEAT)
        sending.sweep(now)

    def leave_now(self, reader: int) -> None:
        self.world.publication.subscribers.get(pk=reader).leave(self.clock())

    def look_at_plans(self) -> None:
        """Compare what has just been planned with what was promised."""
        for struck in invariants.last_struck(self.world.fresh()):
            known = self.struck.get(struck.zone)
            if known == struck.date:
                continue
            self.look_at_passed(struck, known)
            self.tell(invariants.none_forgotten(struck))
            self.looked["promises struck"] += 1
            if self.subscribers <= FEW or self.random.randrange(SAMPLE) == 0:
                self.tell(invariants.as_the_cascade_says(struck))
                self.looked["plans read once more in plain Python"] += 1
            self.struck[struck.zone] = struck.date

    def look_at_passed(self, struck: Struck, known: date | None) -> None:
        """Look at the dates that a beat which was down for days has planned with this one."""
        if not known or struck.date - known <= clock.ONE_DAY:
            return
        # Whoever paused meanwhile was not there for each of them.
        touched = {reader for reader, at in self.world.touched.items() if at > self.now - timedelta(days=10)}
        among = Q(invariants.has_row(known)) & ~Q(pk__in=touched)
        for passed in invariants.between(known, struck):
            self.tell(invariants.none_forgotten(passed, among))

    def look_around(self, day: date) -> None:
        """Look at the last days' rows, unless the machines are down or their clocks wrong."""
        closed_now = self.world.publication.days.filter(closed_at=self.clock())
        self.tell(invariants.ledger(closed_now))
        if self.shift or self.asleep > self.now:
            return
        # The last beat may be as long ago.
        now = self.clock() - BEAT
        self.tell(invariants.standing(self.world.publication, day - RECENT, now))
        self.tell(invariants.standing_clocks(self.world.publication, now))

    def finish(self) -> None:
        """Let everything under way come to its end, and compare our rows with the server's record."""
        self.faults.over, self.shift = True, timedelta(0)
        self.asleep, self.witness.away = self.now, False
        self.expire(self.now)
        # The beat may have been down to the end.
        self.tick()
        self.send()
        self.now += timedelta(days=3)
        self.expire(self.now)
        publication = self.world.publication
        stuck.settle(self.witness, self.now)
        self.tell(invariants.standing(publication, FIRST - timedelta(days=2), self.now))
        self.tell(invariants.fixed_days(publication))
        self.tell(self.reconcile())
        self.tell(self.audit())

    def reconcile(self) -> Iterator[str]:
        """Tell where our rows and the server's record differ (I4, I5, I6)."""
        yield from (f"I6 {number} × {key}" for key, number in self.witness.accepted.items() if number > 1)
        yield from (f"I4 handed to a reader who is not active: {key}" for key in self.witness.unwanted)
        for table in (Delivery, Letter):
            for row in table.objects.iterator():
                accepted, end = self.witness.keys[row.pk], row.state
                if end in OPEN or end == State.HANDOFF:
                    yield f"I5 {row} has no end"
                elif end == State.SENT and not accepted:
                    yield f"I5 {row} was never accepted"
                elif accepted and end not in {State.SENT, State.UNCERTAIN}:
                    yield f"I6 {row} was accepted"

    def audit(self) -> Iterator[str]:
        """Close the ledger and compare it with a recount of the rows."""
        promise.go_round(self.now)
        self.tell(f"I5 {row} is still in doubt" for row in stuck.uncertain(self.world.publication))
        days = Day.objects.filter(publication=self.world.publication).order_by("date")
        over = days.filter(date__lt=(self.end - timedelta(days=1)).date(), closed_at=None)
        yield from (f"ledger: {day.date} never closed" for day in over)
        yield from invariants.ledger(days)
        self.looked["days of the ledger compared with a recount of their rows"] = days.exclude(closed_at=None).count()
        self.looked["corrections after a day had closed"] = Correction.objects.filter(day__in=days).count()

    def ends(self) -> Counter[str]:
        """Return how many rows ended how."""
        ends = Counter[str]()
        for table in (Delivery, Letter):
            ends.update(table.objects.values_list("state", flat=True).iterator())
        return ends
