from django.db import models
from django.utils.translation import gettext_lazy as _

from newsletters.models.publication import Publication
from newsletters.models.relay import Relay


class Allowance(models.Model):
    """So many messages that one worker may send by a relay, or has sent.

    `until` is the instant after which none of them can leave any more: while the worker is at it, the end of its lease;
    once it has told how many left, that instant. `domain` is empty for the relay's own limits.
    """

    relay = models.ForeignKey(Relay, models.CASCADE, related_name="allowances")
    domain = models.CharField(max_length=255, blank=True)
    letters = models.BooleanField(default=False)
    number = models.PositiveIntegerField()
    until = models.DateTimeField()

    class Meta:
        # Each taking adds up what may still leave or has left within a window.
        indexes = [models.Index(fields=["relay", "domain", "until"], name="allowance_in_window")]

    def __str__(self) -> str:
        return f"{self.relay_id} {self.domain} {self.number}"


class Line(models.Model):
    """Where the emails to one domain queue, because it takes no more for now: the end of the line."""

    relay = models.ForeignKey(Relay, models.CASCADE, related_name="lines")
    domain = models.CharField(max_length=255)
    until = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["relay", "domain"], name="line_once_a_domain")]

    def __str__(self) -> str:
        return f"{self.relay_id} {self.domain} {self.until:%H:%M:%S}"


class Wave(models.Model):
    """So many readers who came in numbers, and the date from which on they are promised an email."""

    publication = models.ForeignKey(Publication, models.CASCADE, related_name="waves")
    date = models.DateField(_("date"))
    readers = models.PositiveIntegerField(_("readers"))

    class Meta:
        verbose_name = _("wave")
        verbose_name_plural = _("waves")
        ordering = ["date"]
        constraints = [models.UniqueConstraint(fields=["publication", "date"], name="wave_once_a_date")]

    def __str__(self) -> str:
        return f"{self.date}: {self.readers}"
