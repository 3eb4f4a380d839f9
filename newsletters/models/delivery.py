import base64
import uuid
from datetime import datetime, timedelta
from typing import Any

from cryptography.fernet import Fernet
from django.conf import settings
from django.db import models, transaction
from django.db.models import Exists, F, OuterRef, Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from newsletters.models.issue import Issue, Revision
from newsletters.models.publication import Publication
from newsletters.models.series import Entry
from newsletters.models.stop import Stop
from newsletters.models.subscriber import Subscriber

# Long enough for a batch on a slow server; a lease that runs out gives the rows to another worker.
LEASE = timedelta(minutes=5)
# RFC 5321 section 4.5.3.2.6 grants a server ten minutes to answer the final dot.
REPLY_WAIT = timedelta(minutes=11)


class Relay(models.Model):
    """A way out. The first stands for MAIL_URL; more, or one publication's own, keep their address encrypted."""

    publication = models.ForeignKey(Publication, models.CASCADE, null=True, blank=True, related_name="relays")
    name = models.CharField(_("name"), max_length=80)
    rank = models.PositiveSmallIntegerField(_("order"), default=0)
    sealed_url = models.BinaryField(editable=False, default=b"")

    class Meta:
        verbose_name = _("relay")
        verbose_name_plural = _("relays")
        ordering = ["rank", "pk"]

    def __str__(self) -> str:
        return self.name

    @property
    def url(self) -> str:
        """The address with its password, such as smtp://user:pass@host:587; empty stands for MAIL_URL."""
        return _box().decrypt(bytes(self.sealed_url)).decode() if self.sealed_url else settings.MAIL_URL

    @url.setter
    def url(self, value: str) -> None:
        self.sealed_url = _box().encrypt(value.encode()) if value else b""

    @classmethod
    def of(cls, publication_id: int) -> "Relay":
        """Return the publication's first relay, else the instance's, made from MAIL_URL at its first use."""
        relays = cls.objects.filter(Q(publication_id=publication_id) | Q(publication=None))
        first = relays.order_by(F("publication_id").asc(nulls_last=True), "rank", "pk").first()
        return first or cls.objects.create(name="MAIL_URL")


def _box() -> Fernet:
    return Fernet(base64.urlsafe_b64encode(settings.KEYS.derived("relay")))


class State(models.TextChoices):
    PLANNED = "planned", _("planned")
    LEASED = "leased", _("being prepared")
    HANDOFF = "handoff", _("handed over")
    SENT = "sent", _("sent")
    RETRY = "retry", _("put off")
    FAILED = "failed", _("failed")
    SKIPPED = "skipped", _("skipped")
    MISSED = "missed", _("missed")
    UNCERTAIN = "uncertain", _("uncertain")


WAITING = (State.PLANNED, State.RETRY)
OPEN = (State.PLANNED, State.LEASED, State.RETRY)
HAD = (State.HANDOFF, State.SENT, State.UNCERTAIN)


class OutgoingQuerySet(models.QuerySet[Any]):
    """The claims on rows that go out. Each is a conditional UPDATE on the row's own columns."""

    def due(self, now: datetime) -> "OutgoingQuerySet":
        return self.filter(state__in=WAITING, try_at__lte=now, late_until__gt=now)

    def lease(self, size: int, now: datetime) -> list[Any]:
        """Claim up to `size` rows due at `now`, the longest due first, and return them as they stand then."""
        owner = uuid.uuid4()
        with transaction.atomic():
            # On SQLite, which has one writer, Django leaves the locking clause out.
            due = self.select_related(None).due(now).order_by("try_at").select_for_update(skip_locked=True)
            keys = list(due.values_list("pk", flat=True)[:size])
            if not keys:
                return []
            self.filter(pk__in=keys).update(state=State.LEASED, owner=owner, leased_until=Now() + LEASE)
        return list(self.filter(pk__in=keys, owner=owner).order_by("try_at"))

    def hand_off(self, keys: list[Any], owner: uuid.UUID, now: datetime) -> set[Any]:
        """Commit that these rows' last byte may now be sent; return the keys of those that still may.

        A row drops out when its reader left, or when the lease ran out: a worker that was stopped in its sleep
        must not send what another one has taken over.
        """
        mine = self.filter(pk__in=keys, owner=owner)
        with transaction.atomic():
            still = mine.filter(self.still_wanted(), state=State.LEASED, leased_until__gt=Now(), late_until__gt=now)
            passed = still.update(state=State.HANDOFF, handoff_at=now, leased_until=Now() + REPLY_WAIT)
        if passed == len(keys):
            return set(keys)
        return set(mine.filter(state=State.HANDOFF).values_list("pk", flat=True))

    def still_wanted(self) -> Q:
        return Q()

    def settle(self, keys: list[Any], owner: uuid.UUID, now: datetime, state: str, **columns: object) -> int:
        """Write down how these rows ended. A reply that comes after the row was given up still counts."""
        mine = self.filter(pk__in=keys, owner=owner, state__in=(State.LEASED, State.HANDOFF, State.UNCERTAIN))
        return mine.update(state=state, settled_at=now, leased_until=None, **columns)

    def put_off(
        self, keys: list[Any], owner: uuid.UUID, try_at: datetime, reply: str, state: str = State.LEASED
    ) -> int:
        """Try these rows again, but not before `try_at`."""
        return self.filter(pk__in=keys, owner=owner, state=state).update(
            state=State.RETRY, try_at=try_at, attempts=F("attempts") + 1, reply=reply, owner=None, leased_until=None
        )

    def release(self, keys: list[Any], owner: uuid.UUID) -> int:
        """Give leased rows back untouched."""
        mine = self.filter(pk__in=keys, owner=owner, state=State.LEASED)
        return mine.update(state=State.PLANNED, owner=None, leased_until=None)

    def abandoned(self) -> "OutgoingQuerySet":
        """Return what was handed off by a worker that never settled it."""
        return self.filter(state=State.HANDOFF, leased_until__lt=Now())

    def sweep(self, now: datetime) -> dict[str, int]:
        """Take back what dead workers held, and close what came too late; return how many rows of each."""
        expired = self.filter(leased_until__lt=Now())
        return {
            "released": expired.filter(state=State.LEASED).update(state=State.PLANNED, owner=None, leased_until=None),
            "uncertain": self.abandoned().update(state=State.UNCERTAIN, leased_until=None),
            "missed": self.filter(state__in=WAITING, late_until__lte=now).update(
                state=State.MISSED, reason="late", settled_at=now
            ),
        }


class Outgoing(models.Model):
    """What a delivery and a letter share: the row is the queue and the truth about one message."""

    state = models.CharField(_("state"), max_length=9, choices=State.choices, default=State.PLANNED)
    reason = models.CharField(_("reason"), max_length=20, blank=True)
    due_at = models.DateTimeField(_("due"))
    try_at = models.DateTimeField(_("next try"))
    late_until = models.DateTimeField(_("late until"))
    attempts = models.PositiveSmallIntegerField(default=0)
    owner = models.UUIDField(null=True, editable=False)
    leased_until = models.DateTimeField(null=True, editable=False)
    handoff_at = models.DateTimeField(_("handed over"), null=True, editable=False)
    settled_at = models.DateTimeField(_("settled"), null=True, editable=False)
    reply = models.CharField(_("the server's word"), max_length=250, blank=True)

    class Meta:
        abstract = True


class DeliveryQuerySet(OutgoingQuerySet):
    def due(self, now: datetime) -> "OutgoingQuerySet":
        stopped = list(Stop.objects.standing().values_list("publication", flat=True))
        waiting = super().due(now)
        return waiting.exclude(publication__in=stopped) if stopped else waiting

    def still_wanted(self) -> Q:
        return Q(self._reader()) & ~Q(Exists(Stop.objects.standing().filter(publication=OuterRef("publication_id"))))

    def _reader(self) -> Exists:
        return Exists(Subscriber.objects.mailable().filter(pk=OuterRef("subscriber_id")))

    def hand_off(self, keys: list[Any], owner: uuid.UUID, now: datetime) -> set[Any]:
        passed = super().hand_off(keys, owner, now)
        for key in set(keys) - passed:
            # Planned while the reader was leaving: the row itself never heard of it.
            unwanted = self.filter(pk=key, owner=owner, state=State.LEASED).exclude(self._reader())
            unwanted.update(state=State.SKIPPED, reason="left", settled_at=now, leased_until=None)
        return passed

    def skip(self, subscriber: Subscriber, reason: str, now: datetime) -> int:
        """End what is planned for a reader. Rows are open on a date or two around today's only."""
        dates = [now.date() + timedelta(days=days) for days in (-2, -1, 0, 1, 2)]
        return self.filter(subscriber=subscriber, local_date__in=dates, state__in=OPEN).update(
            state=State.SKIPPED, reason=reason, settled_at=now, leased_until=None
        )


class Delivery(Outgoing):
    """One issue to one subscriber on one local date. The key makes a second daily email impossible.

    The date comes first in the key, so that a day's rows lie together however long the history grows. No foreign key
    is enforced by the database: erasing a reader keeps the bare number.
    """

    class Way(models.TextChoices):
        SEQUENCE = "sequence", _("sequence")
        DAILY = "daily", _("daily queue")
        RESERVE = "reserve", _("reserve")
        DIGEST = "digest", _("digest")
        ANNOUNCEMENT = "announcement", _("announcement")
        NONE = "none", _("nothing to send")

    pk = models.CompositePrimaryKey("local_date", "subscriber_id", "slot")
    local_date = models.DateField(_("date"))
    subscriber = models.ForeignKey(Subscriber, models.DO_NOTHING, db_constraint=False, db_index=False)
    slot = models.BigIntegerField(default=0)  # 0: the daily email; otherwise the announcement's own number
    publication = models.ForeignKey(Publication, models.DO_NOTHING, db_constraint=False, db_index=False)
    way = models.CharField(_("way"), max_length=12, choices=Way.choices)
    issue = models.ForeignKey(Issue, models.DO_NOTHING, db_constraint=False, db_index=False, null=True)
    entry = models.ForeignKey(Entry, models.DO_NOTHING, db_constraint=False, db_index=False, null=True)
    revision = models.ForeignKey(Revision, models.DO_NOTHING, db_constraint=False, db_index=False, null=True)

    objects = DeliveryQuerySet.as_manager()

    class Meta:
        verbose_name = _("delivery")
        verbose_name_plural = _("deliveries")
        indexes = [
            # Has this reader had this issue?
            models.Index(fields=["issue", "subscriber"], name="delivery_had"),
            # The lease takes what waits, the longest due first.
            models.Index(fields=["try_at"], condition=Q(state__in=["planned", "retry"]), name="delivery_waiting"),
            # The sweep takes back what a dead worker held.
            models.Index(fields=["leased_until"], condition=Q(state__in=["leased", "handoff"]), name="delivery_held"),
            # What may have been taken waits to be settled.
            models.Index(fields=["handoff_at"], condition=Q(state="uncertain"), name="delivery_uncertain"),
        ]

    def __str__(self) -> str:
        return f"{self.local_date} {self.subscriber_id} {self.state}"


class LetterQuerySet(OutgoingQuerySet):
    def skip_welcomes(self, now: datetime) -> int:
        """End the letters that only a reader is sent; whoever leaves still gets the link they asked for."""
        welcomes = self.filter(kind__in=[Letter.Kind.WELCOME, Letter.Kind.ALREADY], state__in=OPEN)
        return welcomes.update(state=State.SKIPPED, reason="left", settled_at=now, leased_until=None)


class Letter(Outgoing):
    """One transactional email, written in the transaction of its cause, in a lane before every daily email.

    `address_key` is folded (no +tag, no dots at Gmail), so that the limits on letters hold for one mailbox.
    """

    class Kind(models.TextChoices):
        CONFIRM = "confirm", _("please confirm")
        REMIND = "remind", _("please confirm, once more")
        WELCOME = "welcome", _("welcome")
        ALREADY = "already", _("already in")
        ACCESS = "access", _("link to one's data")
        MOVE = "move", _("confirm a new address")
        SAMPLE = "sample", _("tomorrow's email")
        OFFER = "offer", _("offer to leave")
        ANSWER = "answer", _("a reader's answer")

    publication = models.ForeignKey(Publication, models.CASCADE, related_name="letters")
    subscriber = models.ForeignKey(Subscriber, models.SET_NULL, null=True, blank=True, related_name="letters")
    kind = models.CharField(_("kind"), max_length=10, choices=Kind.choices)
    cause = models.CharField(_("cause"), max_length=40)
    address = models.EmailField(_("address"), max_length=320)
    address_key = models.CharField(max_length=320)
    language = models.CharField(_("language"), max_length=5)
    context = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = LetterQuerySet.as_manager()

    class Meta:
        verbose_name = _("letter")
        verbose_name_plural = _("letters")
        constraints = [models.UniqueConstraint(fields=["address_key", "kind", "cause"], name="letter_once")]
        indexes = [
            models.Index(fields=["try_at"], condition=Q(state__in=["planned", "retry"]), name="letter_waiting"),
            models.Index(fields=["leased_until"], condition=Q(state__in=["leased", "handoff"]), name="letter_held"),
            # How many letters has this mailbox had of late?
            models.Index(fields=["address_key", "created_at"], name="letter_by_mailbox"),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.address}"


class Heartbeat(models.Model):
    """When a worker last did a round of its own accord; health turns red when this grows old."""

    name = models.CharField(max_length=20, unique=True)
    at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.name} {self.at:%Y-%m-%d %H:%M:%S}"
