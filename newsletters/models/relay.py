import base64
import socket
from datetime import datetime

from cryptography.fernet import Fernet
from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Max, Q
from django.utils.translation import gettext_lazy as _

from newsletters.limits import known_caps
from newsletters.models.publication import Publication

AT_LEAST_ONE = [MinValueValidator(1)]
HERE = socket.gethostname()


class RelayQuerySet(models.QuerySet["Relay"]):
    def seen_from_here(self) -> "RelayQuerySet":
        """Tell of each until when this host leaves it alone."""
        until = Max("rests__until", filter=Q(rests__host__in=["", HERE]))
        # The attribute is there for relays that were not asked for in this way.
        return self.annotate(rests_until=until)  # type: ignore[no-redef]


class Relay(models.Model):
    """A way out. The first stands for MAIL_URL; more, or one publication's own, keep their address encrypted."""

    publication = models.ForeignKey(Publication, models.CASCADE, null=True, blank=True, related_name="relays")
    name = models.CharField(_("name"), max_length=80)
    rank = models.PositiveSmallIntegerField(_("order"), default=0)
    sealed_url = models.BinaryField(editable=False, default=b"")

    per_second = models.PositiveIntegerField(_("messages a second"), null=True, blank=True, validators=AT_LEAST_ONE)
    per_hour = models.PositiveIntegerField(_("messages an hour"), null=True, blank=True, validators=AT_LEAST_ONE)
    per_day = models.PositiveIntegerField(_("messages a day"), null=True, blank=True, validators=AT_LEAST_ONE)
    warm_up_from = models.DateField(
        _("warm-up from"),
        null=True,
        blank=True,
        help_text=_("A new server earns its name slowly: the day’s limit grows from this date on."),
    )
    warm_up_volume = models.PositiveIntegerField(_("messages on its first day"), default=200, validators=AT_LEAST_ONE)
    warm_up_days = models.PositiveSmallIntegerField(_("days of warm-up"), default=42, validators=AT_LEAST_ONE)
    letters_share = models.PositiveSmallIntegerField(
        _("per cent kept for letters"),
        default=10,
        validators=[MaxValueValidator(50)],
        help_text=_("Of each limit, for confirmations and welcomes; at least 50 a day."),
    )
    domain_caps = models.JSONField(
        _("limits by recipient’s domain"),
        default=dict,
        blank=True,
        validators=[known_caps],
        help_text=_('Messages a second, minute, hour or day, such as {"gmail.com": "20/s", "orange.fr": "500/h"}.'),
    )
    # What all workers know of the server's mood: newsletters.allowances writes it.
    slowed_at = models.DateTimeField(_("slowed down"), null=True, editable=False)
    slowed_from = models.FloatField(default=0, editable=False)  # messages a second
    slowed_to = models.FloatField(default=0, editable=False)

    rests_until: datetime | None = None
    objects = RelayQuerySet.as_manager()

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

    def is_resting(self, now: datetime) -> bool:
        return self.rests_until is not None and self.rests_until > now

    @classmethod
    def of(cls, publication_id: int) -> "Relay":
        """Return the publication's first relay, else the instance's, made from MAIL_URL at its first use."""
        relays = cls.objects.filter(Q(publication_id=publication_id) | Q(publication=None))
        first = relays.order_by(F("publication_id").asc(nulls_last=True), "rank", "pk").first()
        return first or cls.objects.create(name="MAIL_URL")


class Rest(models.Model):
    """Until when a relay is left alone: by the host that could not reach it, or by all, who have the empty name."""

    relay = models.ForeignKey(Relay, models.CASCADE, related_name="rests")
    host = models.CharField(max_length=255, blank=True)
    until = models.DateTimeField()
    failures = models.PositiveSmallIntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["relay", "host"], name="rest_once_a_host")]

    def __str__(self) -> str:
        return f"{self.relay_id} {self.host} {self.until:%H:%M:%S}"


def _box() -> Fernet:
    return Fernet(base64.urlsafe_b64encode(settings.KEYS.derived("relay")))
