from django.db import models
from django.utils.translation import gettext_lazy as _

from newsletters.models.letter import Letter
from newsletters.models.publication import Publication
from newsletters.models.subscriber import Subscriber


class Bounce(models.Model):
    """What came back of a mail: a refusal, a complaint or an answer. It holds no address, and goes with its reader.

    `key` says which event of the outside world it is, so that the same one counts once however often it is told.
    """

    class Kind(models.TextChoices):
        HARD = "hard", _("address is dead")
        SOFT = "soft", _("not reached")
        FULL = "full", _("mailbox is full")
        BLOCKED = "blocked", _("sender is blocked")
        CONTENT = "content", _("content was refused")
        REPUTATION = "reputation", _("sender's reputation")
        SIZE = "size", _("too large")
        AUTH = "auth", _("sender is not authenticated")
        COMPLAINT = "complaint", _("complaint")
        LEFT = "left", _("left at the provider")
        REPLIED = "replied", _("replied")

    class Door(models.TextChoices):
        SERVER = "server", _("while sending")
        MAIL = "mail", _("by mail")
        HOOK = "hook", _("by the provider")
        LOG = "log", _("in the server's log")

    key = models.CharField(max_length=64, unique=True, editable=False)
    # What a provider calls the event: the same one never counts twice, whatever it says the second time.
    event = models.CharField(max_length=64, blank=True, editable=False)
    kind = models.CharField(_("kind"), max_length=10, choices=Kind.choices)
    door = models.CharField(_("how it came"), max_length=6, choices=Door.choices)
    publication = models.ForeignKey(Publication, models.CASCADE, null=True, related_name="bounces")
    subscriber = models.ForeignKey(Subscriber, models.CASCADE, null=True, db_index=False, related_name="bounces")
    letter = models.ForeignKey(Letter, models.SET_NULL, null=True, related_name="bounces")
    date = models.DateField(_("day of the email"), null=True)  # the local date of the delivery it is about
    slot = models.BigIntegerField(default=0)
    # Whether the event names its message by a token of ours; without one it is written down and changes nothing.
    known = models.BooleanField(_("names its message"), default=False)
    status = models.CharField(_("code"), max_length=12, blank=True)
    text = models.CharField(_("the server's word"), max_length=500, blank=True)
    at = models.DateTimeField(_("at"))

    class Meta:
        verbose_name = _("bounce")
        verbose_name_plural = _("bounces")
        indexes = [
            # The ledger looks at what has just come back.
            models.Index(fields=["at"], name="bounce_by_time"),
            # The breaker counts a date's; the list shows a publication's.
            models.Index(fields=["publication", "date", "kind"], name="bounce_of_day"),
            models.Index(fields=["event"], condition=~models.Q(event=""), name="bounce_by_event"),
            # On how many days was this reader not reached?
            models.Index(fields=["subscriber", "kind", "date"], name="bounce_of_reader"),
        ]

    def __str__(self) -> str:
        return f"{self.date} {self.kind}"
