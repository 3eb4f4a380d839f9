import hashlib
import hmac
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models, transaction
from django.db.models import Case, Max, Value, When
from django.utils.translation import gettext_lazy as _

from newsletters.models.publication import Publication, known_zone, one_line, promised_weekdays

if TYPE_CHECKING:
    from newsletters.models.series import Series

UNDO_WINDOW = timedelta(hours=1)


def keyed_hash(value: str) -> str:
    """Return the instance's HMAC-SHA256 of a value, in hex: to find again what must not be kept in clear."""
    return hmac.new(settings.KEYS.suppression, value.encode(), hashlib.sha256).hexdigest()


class SubscriberQuerySet(models.QuerySet["Subscriber"]):
    def mailable(self) -> "SubscriberQuerySet":
        return self.filter(status=Subscriber.Status.ACTIVE)


class Subscriber(models.Model):
    """One address in one publication. Its number is never used again, even after an erasure."""

    class Status(models.TextChoices):
        PENDING = "pending", _("to confirm")
        ACTIVE = "active", _("active")
        PAUSED = "paused", _("paused")
        UNSUBSCRIBED = "unsubscribed", _("left")
        BOUNCED = "bounced", _("dead address")
        COMPLAINED = "complained", _("complained")

    publication = models.ForeignKey(Publication, models.CASCADE, related_name="subscribers")
    address = models.EmailField(_("address"), max_length=320)
    address_key = models.CharField(max_length=320, editable=False)
    address_hash = models.CharField(max_length=64, editable=False, db_index=True)
    status = models.CharField(_("status"), max_length=12, choices=Status.choices, default=Status.PENDING)
    zone = models.CharField(_("time zone"), max_length=50, validators=[known_zone])
    language = models.CharField(_("language"), max_length=5, choices=settings.LANGUAGES)
    first_name = models.CharField(_("first name"), max_length=80, blank=True, validators=[one_line])
    fields = models.JSONField(_("fields"), default=dict, blank=True)
    tags = models.JSONField(_("tags"), default=list, blank=True)
    origin = models.CharField(_("came by"), max_length=120, blank=True)
    weekdays = models.CharField(
        _("own days"),
        max_length=7,
        blank=True,
        validators=[promised_weekdays],
        help_text=_("Digits from 1 (Monday) to 7; empty: as promised."),
    )
    digest_on = models.PositiveSmallIntegerField(
        _("weekly digest on"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(7)],
        help_text=_("From 1 (Monday) to 7; empty: no digest."),
    )
    catching_up = models.BooleanField(default=False, editable=False)  # back to daily: what the week owes comes first
    moved_at = models.DateTimeField(_("changed zone"), null=True, blank=True, editable=False)
    # In the future for a reader whose wave is still to come: until then nothing is expected, and nothing missed.
    member_since = models.DateTimeField(_("member since"), null=True, blank=True)
    seen_at = models.DateTimeField(_("last sign of life"), null=True, blank=True)
    paused_until = models.DateField(_("paused until"), null=True, blank=True)
    left_at = models.DateTimeField(_("left"), null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = SubscriberQuerySet.as_manager()

    class Meta:
        verbose_name = _("subscriber")
        verbose_name_plural = _("subscribers")
        constraints = [models.UniqueConstraint(fields=["publication", "address_key"], name="subscriber_once")]
        # The planner takes the readers of one zone whose hour strikes.
        indexes = [
            models.Index(fields=["publication", "zone", "status"], name="subscriber_by_zone"),
            # The digests ask for the few who get one.
            models.Index(
                fields=["publication", "zone"],
                condition=models.Q(digest_on__isnull=False) | models.Q(catching_up=True),
                name="subscriber_weekly",
            ),
            # The waves take the readers who have come in numbers and were given no day yet.
            models.Index(
                fields=["publication"],
                condition=models.Q(status="active", member_since=None),
                name="subscriber_to_enter",
            ),
        ]

    def __str__(self) -> str:
        return self.address

    def start(self, now: datetime, series: "Series | None" = None) -> None:
        """Make this reader active, as a new membership unless one is under way, and walk the given sequence.

        Whoever goes on where they were walks it after those under way, unless they have begun it already.
        """
        from newsletters.models.promise import Clock
        from newsletters.models.series import Walk

        with transaction.atomic():
            began = self.member_since is not None and self.member_since <= now
            if self.status in {self.Status.ACTIVE, self.Status.PAUSED} and began:
                return
            resumes = began and self.publication.returning == Publication.Returning.RESUME
            self.status, self.paused_until, self.left_at = self.Status.ACTIVE, None, None
            if not resumes:
                if began:
                    self.weekdays, self.digest_on, self.catching_up = "", None, False
                self.member_since = now
                self.walks.filter(ended_at=None).update(ended_at=now)
            pace = ["weekdays", "digest_on", "catching_up"]
            self.save(update_fields=["status", "member_since", "paused_until", "left_at", *pace])
            if series and resumes:
                self.walk(series, now)
            elif series:
                Walk.objects.create(subscriber=self, series=series, started_at=now)
            Suppression.objects.lift(self, now)
            Clock.objects.ensure(self.publication, self.zone, now)

    def walk(self, series: "Series", now: datetime) -> None:
        """Walk another sequence, after those under way; one that began in this membership begins no second time."""
        from newsletters.models.series import Walk

        walks = self.walks.filter(started_at__gte=self.member_since or now)
        if not walks.filter(series=series).exists():
            last = walks.aggregate(last=Max("position"))["last"] or 0
            Walk.objects.create(subscriber=self, series=series, position=last + 1, started_at=now)

    def leave(self, now: datetime) -> None:
        """End this reader's mails at once, also those already planned. Twice is once."""
        from newsletters.models.letter import Letter

        with transaction.atomic():
            self._stop(self.Status.UNSUBSCRIBED, now, left_at=now)
            Letter.objects.filter(subscriber=self).skip_welcomes(now)
            Suppression.objects.add(self, Suppression.Reason.LEFT, now)

    def bounce(self, now: datetime) -> None:
        """Write no more to a dead address."""
        with transaction.atomic():
            self._stop(self.Status.BOUNCED, now, left_at=now)
            Suppression.objects.add(self, Suppression.Reason.DEAD, now)

    def complain(self, now: datetime) -> None:
        """Never write again to someone who called a mail spam."""
        from newsletters.models.letter import Letter

        with transaction.atomic():
            self._stop(self.Status.COMPLAINED, now, left_at=now)
            Letter.objects.filter(subscriber=self).skip_welcomes(now)
            Suppression.objects.add(self, Suppression.Reason.COMPLAINED, now)

    def undo_leave(self, now: datetime) -> bool:
        """Take a departure of the last hour back; return whether there was one."""
        from newsletters.models.promise import Clock

        paused_or_active = Case(
            When(paused_until=None, then=Value(self.Status.ACTIVE)), default=Value(self.Status.PAUSED)
        )
        with transaction.atomic():
            undone = Subscriber.objects.filter(
                pk=self.pk, status=self.Status.UNSUBSCRIBED, left_at__gt=now - UNDO_WINDOW, member_since__isnull=False
            ).update(status=paused_or_active, left_at=None)
            if undone:
                Suppression.objects.lift(self, now)
                Clock.objects.ensure(self.publication, self.zone, now)
        self.refresh_from_db()
        return bool(undone)

    def pause(self, until: date, now: datetime) -> None:
        """Send nothing before the local date `until`."""
        with transaction.atomic():
            self._stop(self.Status.PAUSED, now, paused_until=until)

    def resume(self) -> None:
        Subscriber.objects.filter(pk=self.pk, status=self.Status.PAUSED).update(
            status=self.Status.ACTIVE, paused_until=None
        )
        self.refresh_from_db()

    def receive_daily(self) -> None:
        """Send every promised day's issue again; what a digest would have gathered since the last comes first."""
        with transaction.atomic():
            members = Subscriber.objects.filter(pk=self.pk)
            members.exclude(digest_on=None).update(digest_on=None, catching_up=True)
            members.update(weekdays="")
            self.resume()

    def receive_weekly(self, weekday: int) -> None:
        """Send the week's issues in one email, on a weekday from 1 (Monday) to 7 that is promised."""
        with transaction.atomic():
            Subscriber.objects.filter(pk=self.pk).update(digest_on=weekday, catching_up=False, weekdays="")
            self.resume()

    def keep_pace(self, weekdays: str) -> None:
        """Send on these days alone, though more are promised."""
        Subscriber.objects.filter(pk=self.pk, digest_on=None).update(weekdays=weekdays)
        self.refresh_from_db()

    def move(self, zone: str, now: datetime) -> None:
        """Promise the hour in another zone from the next one on."""
        from newsletters.models.promise import Clock

        with transaction.atomic():
            self.zone, self.moved_at = zone, now
            self.save(update_fields=["zone", "moved_at"])
            Clock.objects.ensure(self.publication, zone, now)

    def _stop(self, status: str, now: datetime, **columns: object) -> None:
        from newsletters.models.delivery import Delivery

        # An address that bounced or complained stays so: leaving as well changes nothing.
        stoppable = [self.Status.PENDING, self.Status.ACTIVE, self.Status.PAUSED]
        Subscriber.objects.filter(pk=self.pk, status__in=stoppable).update(status=status, **columns)
        Delivery.objects.skip(self, status, now)
        self.refresh_from_db()


class SuppressionManager(models.Manager["Suppression"]):
    def add(self, subscriber: Subscriber, reason: str, now: datetime) -> None:
        self.update_or_create(
            publication=subscriber.publication,
            address_hash=subscriber.address_hash,
            reason=reason,
            defaults={"since": now, "lifted_at": None},
        )

    def lift(self, subscriber: Subscriber, now: datetime) -> None:
        """End what this reader's own fresh consent may end."""
        self.filter(publication=subscriber.publication, address_hash=subscriber.address_hash, lifted_at=None).update(
            lifted_at=now
        )


class Suppression(models.Model):
    """A keyed hash of an address that may not be mailed. Without publication it holds for the whole instance."""

    class Reason(models.TextChoices):
        LEFT = "left", _("left")
        ERASED = "erased", _("erased")
        COMPLAINED = "complained", _("complained")
        DEAD = "dead", _("dead address")
        NOT_ME = "not_me", _("not me")

    publication = models.ForeignKey(Publication, models.CASCADE, null=True, blank=True)
    address_hash = models.CharField(max_length=64)
    reason = models.CharField(_("reason"), max_length=10, choices=Reason.choices)
    since = models.DateTimeField(_("since"))
    lifted_at = models.DateTimeField(_("lifted"), null=True, blank=True)

    objects = SuppressionManager()

    class Meta:
        verbose_name = _("suppression")
        verbose_name_plural = _("suppressions")
        constraints = [
            models.UniqueConstraint(fields=["publication", "address_hash", "reason"], name="suppression_once"),
            models.UniqueConstraint(
                fields=["address_hash", "reason"],
                condition=models.Q(publication=None),
                name="suppression_once_for_the_instance",
            ),
        ]
        indexes = [models.Index(fields=["address_hash"], name="suppression_by_address")]

    def __str__(self) -> str:
        return f"{self.get_reason_display()} ({self.since:%Y-%m-%d})"
