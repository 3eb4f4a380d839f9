from datetime import date, datetime, time, timedelta

import tzdata
from django.core.exceptions import ValidationError
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from newsletters import clock
from newsletters.models.issue import Issue
from newsletters.models.outgoing import State
from newsletters.models.publication import Publication, promised_weekdays

A_WEEK = timedelta(days=7)
# States that a delivery does not stay in
MOVING = [State.PLANNED, State.LEASED, State.HANDOFF, State.RETRY]


class ClockManager(models.Manager["Clock"]):
    def ensure(self, publication: Publication, zone: str, now: datetime) -> None:
        """Start the clock of a zone that has its first reader, and the author's own: it fixes each date's issue."""
        for one in {zone, publication.zone}:
            next_date, next_at = publication.next_promise(now, one)
            start = {"next_date": next_date, "next_at": next_at, "rules": tzdata.IANA_VERSION}
            self.get_or_create(publication=publication, zone=one, defaults=start)

    def outdated(self) -> models.QuerySet["Clock"]:
        """Return the clocks that older zone rules have set."""
        return self.filter(rules__lt=tzdata.IANA_VERSION)

    def reset(self, publication: Publication, now: datetime) -> None:
        """Set every clock of a publication anew, after its promise changed.

        No date is struck twice and none is lost: where today's new hour has passed already, today is struck at once,
        and so is each date before it that an outage has left.
        """
        self.ensure(publication, publication.zone, now)
        for row in self.filter(publication=publication):
            first = min(clock.local_date(now, row.zone), row.next_date)
            if row.last_date:
                first = max(first, row.last_date + clock.ONE_DAY)
            row.aim(*publication.promise_from(first, row.zone))


class Clock(models.Model):
    """The next promise of one publication in one zone. Claiming it and planning its day are one transaction."""

    publication = models.ForeignKey(Publication, models.CASCADE, related_name="clocks")
    zone = models.CharField(max_length=50)
    next_date = models.DateField()
    next_at = models.DateTimeField()
    last_date = models.DateField(null=True)
    rules = models.CharField(max_length=10, db_default="", editable=False)  # the tzdata that set it, such as 2026f

    objects = ClockManager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["publication", "zone"], name="clock_once")]
        # The tick asks for what is due, and for what older zone rules have set.
        indexes = [
            models.Index(fields=["next_at"], name="clock_due"),
            models.Index(fields=["rules"], name="clock_rules"),
        ]

    def __str__(self) -> str:
        return f"{self.publication} {self.zone} {self.next_at:%Y-%m-%d %H:%M}"

    def aim(self, next_date: date, next_at: datetime, *struck: str) -> None:
        """Set when this clock strikes next; `struck` names what else has changed."""
        self.next_date, self.next_at, self.rules = next_date, next_at, tzdata.IANA_VERSION
        self.save(update_fields=["next_date", "next_at", "rules", *struck])


def refuse_foreign(announcement: Issue | None, publication: Publication) -> None:
    """Raise ValidationError where an issue cannot tell this publication's readers of something."""
    if announcement is None:
        return
    fit = announcement.kind == Issue.Kind.ANNOUNCEMENT and announcement.state == Issue.State.QUEUED
    if announcement.publication_id != publication.pk or not fit:
        text = _("Choose a queued announcement of this publication, or none: one is written then.")
        raise ValidationError({"announcement": text})


class Break(models.Model):
    """Dates on which the daily queue rests: covered by the reserve, or an announced break without any promise."""

    class Kind(models.TextChoices):
        RESERVE = "reserve", _("covered by the reserve")
        SILENCE = "silence", _("announced break")

    publication = models.ForeignKey(Publication, models.CASCADE, related_name="breaks")
    kind = models.CharField(_("kind"), max_length=8, choices=Kind.choices, default=Kind.RESERVE)
    first = models.DateField(_("first day"))
    last = models.DateField(_("last day"))
    announcement = models.ForeignKey(
        Issue, models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("announcement")
    )
    announced_at = models.DateTimeField(_("announced"), null=True, blank=True, editable=False)

    class Meta:
        verbose_name = _("break")
        verbose_name_plural = _("breaks")
        ordering = ["first"]

    def __str__(self) -> str:
        return f"{self.first} – {self.last}"

    def clean(self) -> None:
        super().clean()
        if self.first and self.last and self.last < self.first:
            raise ValidationError({"last": _("A break ends on its first day or later. Choose a later last day.")})
        if hasattr(self, "publication"):
            refuse_foreign(self.announcement, self.publication)
            if self.kind == self.Kind.SILENCE and self.first and self.last:
                self._check_told()

    def _check_told(self) -> None:
        known = Break.objects.filter(pk=self.pk, kind=self.kind).first()
        today = clock.local_date(timezone.now(), self.publication.zone)
        if known is None or known.first != self.first:
            if self.first <= today:
                text = _("Readers are told the day before. Begin this break tomorrow or later.")
                raise ValidationError({"first": text})
            if self._told_too_late():
                text = _("Some readers can no longer be told ahead. Begin later, or cover these days from the reserve.")
                raise ValidationError({"first": text})
        if known and known.announced_at and not known.first <= self.first <= self.last <= known.last:
            text = _("Readers were told of other dates. Add another break for the days that are to be silent as well.")
            raise ValidationError({"last" if self.first >= known.first else "first": text})

    def _told_too_late(self) -> bool:
        zones, now = self.publication.clocks.values_list("zone", flat=True), timezone.now()
        late = [zone for zone in zones if self.told_on(zone, now) >= self.first]
        return self.publication.subscribers.filter(status="active", zone__in=late).exists()

    @property
    def eve(self) -> date:
        """The last promised date before this break, at most a week before it."""
        kind, since = self.Kind.SILENCE, self.first - A_WEEK
        silences = list(self.publication.breaks.filter(kind=kind, last__gte=since).exclude(pk=self.pk))
        for back in range(1, 8):
            day = self.first - timedelta(days=back)
            quiet = any(rest.first <= day <= rest.last for rest in silences)
            if str(day.isoweekday()) in self.publication.promise_on(day).weekdays and not quiet:
                return day
        return self.first - clock.ONE_DAY

    def told_on(self, zone: str, now: datetime) -> date:
        """Return the local date on which readers are told who are told now: the eve, or the next promised date."""
        _due_at, late_until = self.publication.window(self.eve, zone)
        return self.eve if late_until > now else self.publication.next_promise(now, zone)[0]

    @classmethod
    def on(cls, publication: Publication, day: date) -> str:
        """Return the kind of break on a date, or an empty text."""
        found = cls.objects.filter(publication=publication, first__lte=day, last__gte=day)
        # Where two overlap, the reader was told of the silence.
        return found.order_by("-kind").values_list("kind", flat=True).first() or ""


class PromiseChange(models.Model):
    """Another hour or other weekdays, from a date on. A promise of more days is announced a week ahead."""

    publication = models.ForeignKey(Publication, models.CASCADE, related_name="promise_changes")
    first = models.DateField(_("from"))
    hour = models.TimeField(_("promised hour"))
    weekdays = models.CharField(_("promised days"), max_length=7, validators=[promised_weekdays])
    late_until = models.TimeField(_("late until"))
    before = models.CharField(_("promised days before"), max_length=7, blank=True, editable=False)
    announcement = models.ForeignKey(
        Issue, models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("announcement")
    )
    announced_at = models.DateTimeField(_("announced"), null=True, blank=True, editable=False)
    applied_at = models.DateTimeField(_("in force since"), null=True, blank=True, editable=False)

    class Meta:
        verbose_name = _("change of the promise")
        verbose_name_plural = _("changes of the promise")
        ordering = ["first"]
        constraints = [models.UniqueConstraint(fields=["publication", "first"], name="promise_change_once_a_date")]

    def __str__(self) -> str:
        return f"{self.first}: {self.hour:%H:%M} {self.weekdays}"

    def clean(self) -> None:
        super().clean()
        if all(isinstance(one, time) for one in (self.hour, self.late_until)) and self.late_until <= self.hour:
            raise ValidationError({"late_until": _("The day ends before its promised hour. Choose a later hour.")})
        if self.publication_id is None or not self.first or self.applied_at:
            return
        today = clock.local_date(timezone.now(), self.publication.zone)
        if self.first <= today:
            raise ValidationError({"first": _("A promise changes from tomorrow on at the earliest.")})
        refuse_foreign(self.announcement, self.publication)
        told = PromiseChange.objects.filter(pk=self.pk).exclude(announced_at=None).first()
        if told and (self.first < told.first or set(self.weekdays) - set(told.weekdays)):
            text = _("Readers were told of a later date or of fewer days. Take this change back and add another.")
            raise ValidationError({"weekdays" if self.first >= told.first else "first": text})
        if self.adds_days and told is None and self.first < today + A_WEEK:
            text = _("More days are announced a week ahead. Choose %(first)s or later.")
            raise ValidationError({"first": ValidationError(text, params={"first": today + A_WEEK})})

    @property
    def adds_days(self) -> bool:
        """Tell whether this promises a weekday that was not promised until then."""
        publication = Publication.objects.get(pk=self.publication_id)
        known = [promise for promise in publication.terms if promise.first < self.first]
        return bool(set(self.weekdays) - set(self.before or known[-1].weekdays))


class Day(models.Model):
    """One promised date of one publication: the daily issue fixed for it, and what the ledger wrote when it closed.

    Without issue the date is dry, or rests. The figures never change once closed: what comes later is a correction.
    """

    publication = models.ForeignKey(Publication, models.CASCADE, related_name="days")
    date = models.DateField(_("date"))
    issue = models.ForeignKey(Issue, models.SET_NULL, null=True, blank=True, related_name="days")
    fixed_at = models.DateTimeField(_("fixed"))
    rest = models.CharField(_("break"), max_length=8, choices=Break.Kind.choices, blank=True)
    hour = models.TimeField(_("promised hour"), default=time(7))
    weekdays = models.CharField(_("promised days"), max_length=7, default="1234567")
    closed_at = models.DateTimeField(_("closed"), null=True, blank=True)
    expected = models.PositiveIntegerField(_("expected"), default=0)
    on_time = models.PositiveIntegerField(_("on time"), default=0)
    late = models.PositiveIntegerField(_("late"), default=0)
    failed = models.PositiveIntegerField(_("failed"), default=0)
    uncertain = models.PositiveIntegerField(_("uncertain"), default=0)
    skipped = models.JSONField(_("skipped, by reason"), default=dict)
    missed = models.JSONField(_("missed, by reason"), default=dict)
    kept = models.BooleanField(_("kept"), null=True)

    class Meta:
        verbose_name = _("day")
        verbose_name_plural = _("days")
        constraints = [models.UniqueConstraint(fields=["publication", "date"], name="day_once")]
        # The ledger looks for what is still open.
        indexes = [models.Index(fields=["publication", "date"], condition=models.Q(closed_at=None), name="day_open")]

    def __str__(self) -> str:
        return f"{self.date}: {self.issue}"


class Correction(models.Model):
    """What became known of a closed day later: figures to add, such as {"on_time": -1, "failed": 1}."""

    day = models.ForeignKey(Day, models.CASCADE, related_name="corrections")
    at = models.DateTimeField(_("at"))
    changes = models.JSONField(_("changes"))

    class Meta:
        verbose_name = _("correction")
        verbose_name_plural = _("corrections")

    def __str__(self) -> str:
        return f"{self.day_id} {self.changes}"


class Tally(models.Model):
    """How many deliveries of a date and an instant stand how, so that no page counts rows. Kept for some weeks.

    Counted anew while anything moves. No foreign key is enforced: deliveries outlive what they name.
    """

    publication = models.ForeignKey(
        Publication, models.CASCADE, db_constraint=False, db_index=False, related_name="tallies"
    )
    date = models.DateField()
    due_at = models.DateTimeField()
    issue = models.ForeignKey(Issue, models.DO_NOTHING, db_constraint=False, db_index=False, null=True)
    way = models.CharField(max_length=12)
    state = models.CharField(max_length=9)
    reason = models.CharField(max_length=20)
    on_time = models.BooleanField()
    count = models.PositiveIntegerField()
    until = models.DateTimeField()

    class Meta:
        indexes = [
            models.Index(fields=["date", "publication"], name="tally_of_day"),
            # The tick asks which days still move.
            models.Index(fields=["date"], condition=models.Q(state__in=MOVING), name="tally_moving"),
        ]

    def __str__(self) -> str:
        return f"{self.date} {self.state} {self.count}"


class Rehearsal(models.Model):
    """Tomorrow's emails, rendered for everyone who will get them, and what was found wrong."""

    publication = models.ForeignKey(Publication, models.CASCADE, related_name="rehearsals")
    date = models.DateField(_("for"))
    at = models.DateTimeField(_("at"))
    fingerprint = models.CharField(max_length=64)
    readers = models.PositiveIntegerField(_("readers"), default=0)
    largest = models.PositiveIntegerField(_("largest message, in bytes"), default=0)
    # Each {"kind", "issue", "subject", ...}: what breaks an email, and what is only worth a look
    problems = models.JSONField(_("problems"), default=list)
    remarks = models.JSONField(_("remarks"), default=list)

    class Meta:
        verbose_name = _("dress rehearsal")
        verbose_name_plural = _("dress rehearsals")
        constraints = [models.UniqueConstraint(fields=["publication", "date", "fingerprint"], name="rehearsal_once")]

    def __str__(self) -> str:
        return f"{self.date}: {len(self.problems)}"


class StepsAhead(models.Model):
    """How many readers have so many steps of their sequences to come, as [steps, readers]; counted once an hour."""

    publication = models.OneToOneField(Publication, models.CASCADE, related_name="steps_ahead")
    counts = models.JSONField(_("counts"), default=list)

    class Meta:
        verbose_name = _("steps ahead")
        verbose_name_plural = _("steps ahead")

    def __str__(self) -> str:
        return f"{self.publication}: {self.counts}"


class Alarm(models.Model):
    """One cause, told once a day; `cleared_at` when it was over. Without publication it is the operator's."""

    publication = models.ForeignKey(Publication, models.CASCADE, null=True, blank=True, related_name="alarms")
    cause = models.CharField(_("cause"), max_length=20)
    date = models.DateField(_("date"))
    text = models.TextField(_("text"))
    raised_at = models.DateTimeField(_("raised"))
    told_at = models.DateTimeField(_("told"), null=True, blank=True)
    cleared_at = models.DateTimeField(_("over"), null=True, blank=True)
    try_at = models.DateTimeField(null=True, editable=False)  # when to tell it, or that it is over, next
    told_to = models.JSONField(default=list, editable=False)  # fingerprints of the destinations that have heard

    class Meta:
        verbose_name = _("alarm")
        verbose_name_plural = _("alarms")
        constraints = [models.UniqueConstraint(fields=["publication", "cause", "date"], name="alarm_once_a_day")]
        indexes = [
            # The tick asks what is still to be told, and the round what is not over.
            models.Index(fields=["try_at"], condition=~models.Q(try_at=None), name="alarm_to_tell"),
            models.Index(fields=["date"], condition=models.Q(cleared_at=None), name="alarm_not_over"),
        ]

    def __str__(self) -> str:
        return f"{self.date} {self.cause}"
