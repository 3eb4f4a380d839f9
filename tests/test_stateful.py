"""Readers, authors, machines and clocks do what they like, in any order; the promise holds after each step."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
from random import Random
from typing import Any

import pytest
import time_machine
from django.db import connection, transaction
from django.db.models import Min, Q
from django.db.models.functions import Now
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from newsletters import addresses, clock, invariants, planning, promise, queue, sending
from newsletters.models import Break, Clock, Delivery, Entry, Issue, Letter, Publication, Series, Subscriber, Text
from newsletters.models.outgoing import HAD
from newsletters.simulation.faults import CHANCES, Faults, Killed
from newsletters.simulation.witness import Witness
from optin import confirmation
from optin.guard import Asker
from optin.models import OptInPage, Request

# The clocks of Paris change on the third date of each, those of Lord Howe by half an hour on the second of October's.
STARTS = [date(2026, 3, 27), date(2026, 10, 2), date(2026, 10, 23), date(2026, 11, 20)]
ZONES = ["Europe/Paris", "Asia/Tokyo", "Pacific/Honolulu", "Pacific/Kiritimati", "Australia/Lord_Howe"]
AT_THE_SERVER = [
    kind
    for kind in CHANCES
    if kind.split()[0] in {"worker", "recipient", "message", "server", "reader"}
    and kind not in {"worker killed at any statement", "server away for hours"}
]
HOUR, ONE_DAY = timedelta(hours=1), timedelta(days=1)

which = st.integers(0, 40)
zones = st.sampled_from(ZONES)


class Armed(Faults):
    """Lets one fault land at its next occasion."""

    def __init__(self) -> None:
        super().__init__(Random(1), wanted=True)
        self.armed = ""

    def loaded(self, kind: str) -> bool:
        if kind != self.armed:
            return False
        self.armed = ""
        return True


class Life(RuleBasedStateMachine):
    """A publication with a sequence, a daily queue and a reserve, and whoever meets it."""

    def __init__(self) -> None:
        super().__init__()
        self.traveller = time_machine.travel(datetime(2026, 1, 1, tzinfo=UTC), tick=False)
        self.clock = self.traveller.start()
        self.undone = transaction.atomic()
        self.undone.__enter__()
        self.faults = Armed()
        self.witness = Witness(self.faults, lambda pk: Subscriber.objects.get(pk=pk).leave(self.now))
        self.struck: dict[str, date] = {}
        self.fixed: dict[date, Any] = {}
        self.swept = True
        self.paused: set[int] = set()

    def teardown(self) -> None:
        transaction.set_rollback(True)
        self.undone.__exit__(None, None, None)
        self.traveller.stop()

    @initialize(first=st.sampled_from(STARTS), readers=st.lists(zones, min_size=2, max_size=4))
    def begin(self, first: date, readers: list[str]) -> None:
        self.first = first
        self.clock.move_to(datetime.combine(first, time(1), tzinfo=UTC))
        made = {name: f"{name}@pas.example" for name in ("sender", "reply_to")}
        self.publication = Publication.objects.create(name="Pas", slug="pas", author="Maud", **made)
        self.page = OptInPage.objects.create(publication=self.publication, slug="main", main=True, headline="Pas")
        lengths = {Series.Kind.SEQUENCE: 3, Series.Kind.DAILY: 3, Series.Kind.RESERVE: 2}
        self.series = [self.make_series(kind, length) for kind, length in lengths.items()]
        for zone in readers:
            self.ask(zone)
            self.confirm(0)

    def make_series(self, kind: str, length: int) -> Series:
        welcome = kind == Series.Kind.SEQUENCE
        columns = {"publication": self.publication, "name": kind, "slug": kind, "welcome": welcome}
        series = Series.objects.create(kind=kind, **columns)
        for _ in range(length):
            series.append(self.issue())
        return series

    def issue(self, text: Text | None = None) -> Issue:
        name = f"i{Issue.objects.count()}"
        columns = {"subject": name, "body": name, "public_id": name, "state": Issue.State.QUEUED}
        issue = Issue.objects.create(publication=self.publication, **columns)
        issue.texts.add(text or Text.objects.create(publication=self.publication))
        return issue

    @property
    def now(self) -> datetime:
        return datetime.now(UTC)

    def one(self, rows: Any, number: int) -> Any:
        """Return one of these rows, None where there is none."""
        keys = list(rows.order_by("pk").values_list("pk", flat=True))
        return rows.get(pk=keys[number % len(keys)]) if keys else None

    def reader(self, number: int, *statuses: str) -> Any:
        return self.one(self.publication.subscribers.filter(status__in=statuses), number)

    def entry(self, number: int, *series: Series) -> Any:
        return self.one(Entry.objects.filter(series__in=series or self.series), number)

    # Readers

    @rule(zone=zones)
    def ask(self, zone: str) -> None:
        email, asker = addresses.normalise(f"reader{Request.objects.count()}@example.com"), Asker("", "", "")
        confirmation.ask(self.page, email, "Yes.", "/", asker, self.now, first_name="", zone=zone)

    @rule(number=which)
    def confirm(self, number: int) -> None:
        if request := self.one(Request.objects.filter(confirmed_at=None), number):
            confirmation.confirm(request.pk, "/", Asker("", "", ""), self.now)

    @rule(number=which, again=st.booleans())
    def leave_or_come_back(self, number: int, again: bool) -> None:
        reader = self.reader(number, "active", "paused", "unsubscribed")
        if reader and reader.status != Subscriber.Status.UNSUBSCRIBED:
            reader.leave(self.now)
        elif reader and (again or not reader.undo_leave(self.now)):
            reader.start(self.now, self.series[0])

    @rule(number=which, days=st.integers(1, 4))
    def pause_or_resume(self, number: int, days: int) -> None:
        reader = self.reader(number, "active", "paused")
        if reader and reader.status == Subscriber.Status.PAUSED:
            reader.resume()
        elif reader:
            self.paused.add(reader.pk)
            reader.pause(clock.local_date(self.now, reader.zone) + days * ONE_DAY, self.now)

    @rule(number=which, zone=zones)
    def move(self, number: int, zone: str) -> None:
        if reader := self.reader(number, "active"):
            reader.move(zone, self.now)

    @rule(number=which, weekday=st.integers(0, 7))
    def change_pace(self, number: int, weekday: int) -> None:
        if reader := self.reader(number, "active"):
            reader.receive_weekly(weekday) if weekday else reader.receive_daily()

    # The author

    @rule(place=st.integers(0, 2), again=st.booleans(), number=which, before=st.none() | which)
    def write(self, place: int, again: bool, number: int, before: int | None) -> None:
        """Queue a new issue, anywhere; it may tell a text that readers know from another one."""
        series = self.series[place]
        text = self.one(self.publication.texts.all(), number) if again else None
        series.insert(self.issue(text), None if before is None else self.entry(before, series))

    @rule(number=which, state=st.booleans())
    def edit_or_take_out_of_the_queue_or_put_back(self, number: int, state: bool) -> None:
        issue = self.one(self.publication.issues.filter(kind="daily"), number)
        if state:
            issue.state = {"queued": "ready", "ready": "queued"}[issue.state]
        issue.body += " And more."
        issue.save(update_fields=["state", "body", "updated_at"])

    @rule(number=which, before=st.none() | which, stays=st.booleans())
    def reorder_or_remove(self, number: int, before: int | None, stays: bool) -> None:
        entry = self.entry(number)
        other = None if before is None or not entry else self.entry(before, entry.series)
        if entry and stays and other != entry:
            entry.series.move(entry, other)
        elif entry and not stays:
            entry.series.remove(entry)

    @rule(number=which, ahead=st.integers(0, 3))
    def skip_or_pin(self, number: int, ahead: int) -> None:
        if entry := self.entry(number, self.series[1]):
            if not ahead:
                queue.skip(entry, self.now)
                return
            entry.pinned_date = clock.local_date(self.now, "Europe/Paris") + ahead * ONE_DAY
            entry.save(update_fields=["pinned_date"])

    @rule(kind=st.sampled_from(Break.Kind.values), ahead=st.integers(2, 4), days=st.integers(0, 1))
    def rest(self, kind: str, ahead: int, days: int) -> None:
        first = clock.local_date(self.now, "Europe/Paris") + ahead * ONE_DAY
        Break.objects.create(publication=self.publication, kind=kind, first=first, last=first + days * ONE_DAY)

    @rule(hour=st.sampled_from([time(0), time(2, 30), time(7), time(20)]), strikes=st.booleans())
    def change_hour(self, hour: time, strikes: bool) -> None:
        """Promise another hour; what was due before is planned first, unless the planner fails."""
        if strikes:
            planning.strike(self.publication.clocks.all(), self.now)
            self.look_at_plans()
        self.publication.hour = hour
        self.publication.save(update_fields=["hour"])
        Clock.objects.reset(self.publication, self.now)

    # Machines

    @rule(kind=st.sampled_from(AT_THE_SERVER))
    def arm(self, kind: str) -> None:
        self.faults.armed = kind

    @rule(statements=st.integers(1, 12))
    def planner_dies(self, statements: int) -> None:
        with self.dying(statements):
            planning.tick(self.now)
        self.tick()

    @rule(statements=st.integers(1, 12))
    def sender_dies(self, statements: int) -> None:
        with self.dying(statements):
            sending.drain(lambda: self.now, way_out=self.witness.connect)
        self.leases_run_out()

    @rule()
    def tick_again(self) -> None:
        self.tick()

    @rule(hours=st.integers(1, 80))
    def outage(self, hours: int) -> None:
        """No tick comes for so long."""
        self.clock.shift(hours * HOUR)
        self.swept = False

    @rule(hours=st.sampled_from([3, 12, 48]), sends=st.booleans())
    def live(self, hours: int, sends: bool) -> None:
        """Let time pass from one struck hour to the next."""
        until = self.now + hours * HOUR
        while (soonest := Clock.objects.aggregate(at=Min("next_at"))["at"]) and soonest <= until:
            self.clock.move_to(max(soonest, self.now))
            self.tick()
            if sends:
                self.send()
        self.clock.move_to(until)
        self.tick()

    @rule()
    def a_day(self) -> None:
        self.live(24, sends=True)

    @rule()
    def send(self) -> None:
        try:
            sending.drain(lambda: self.now, way_out=self.witness.connect)
        except Killed:
            self.leases_run_out()

    def tick(self) -> None:
        plans = planning.tick(self.now)
        self.look_at_plans()
        promise.tick(self.now, plans)
        sending.sweep(self.now)
        self.swept = True

    @contextmanager
    def dying(self, statements: int) -> Iterator[None]:
        """End what is done within at one of its statements."""
        left = statements

        def fuse(execute: Callable[..., Any], *call: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                raise Killed
            return execute(*call)

        try:
            with connection.execute_wrapper(fuse):
                yield
        except Killed:
            pass

    def leases_run_out(self) -> None:
        for table in (Delivery, Letter):
            table.objects.filter(leased_until__isnull=False).update(leased_until=Now() - HOUR)
        sending.sweep(self.now)

    # What holds

    def look_at_plans(self) -> None:
        """Ask of each date that has just been planned whether everyone has what they are owed (I2, I3, I12, I13)."""
        for struck in invariants.last_struck(Publication.objects.get(pk=self.publication.pk)):
            known = self.struck.get(struck.zone)
            if known != struck.date:
                self.struck[struck.zone] = struck.date
                # Whoever paused meanwhile was not there for each date between.
                among = Q(invariants.has_row(known)) & ~Q(pk__in=self.paused) if known else Q()
                for passed in invariants.between(known, struck) if known else []:
                    hold(invariants.none_forgotten(passed, among))
                hold(invariants.none_forgotten(struck), invariants.as_the_cascade_says(struck))

    @invariant()
    def the_rows_keep_the_rules(self) -> None:
        if hasattr(self, "first"):
            broken = invariants.standing(self.publication, self.first - 2 * ONE_DAY, self.now)
            hold(line for line in broken if self.swept or not line.startswith("I5 waits past its end"))

    @invariant()
    def no_date_changes_its_issue(self) -> None:
        if hasattr(self, "first"):
            fixed = dict(self.publication.days.values_list("date", "issue"))
            hold(f"I13 {day} had {issue}" for day, issue in self.fixed.items() if fixed[day] != issue)
            hold(invariants.fixed_days(self.publication))
            self.fixed = fixed

    @invariant()
    def the_server_saw_each_message_once_and_only_for_who_wants_it(self) -> None:
        hold(f"I6 {number} × {key}" for key, number in self.witness.accepted.items() if number > 1)
        hold(f"I4 {key}" for key in self.witness.unwanted)
        rows = Delivery.objects.exclude(state__in=HAD).in_bulk([key for key in self.witness.keys if type(key) is tuple])
        hold(f"I6 accepted, and yet {row}" for row in rows.values())


def hold(*broken: Any) -> None:
    assert not [line for lines in broken for line in lines]


LIMITS = settings(
    max_examples=15,
    stateful_step_count=30,
    deadline=None,
    phases=[Phase.generate],  # a long story shrinks for minutes
    derandomize=os.environ.get("CI") == "true",
    database=None,
    print_blob=False,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.timeout(600)
def test_the_promise_holds_whatever_happens(db: None) -> None:
    run_state_machine_as_test(Life, settings=LIMITS)
