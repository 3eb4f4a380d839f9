from datetime import datetime

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from newsletters.models.outgoing import OPEN, Outgoing, OutgoingQuerySet, State
from newsletters.models.publication import Publication
from newsletters.models.subscriber import Subscriber


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
