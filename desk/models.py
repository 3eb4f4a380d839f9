"""Who knocks at the desk: each attempt to log in, for some minutes, under keyed hashes."""

from datetime import datetime, timedelta

from django.db import models

from newsletters.models.subscriber import keyed_hash
from optin.guard import network

WINDOW = timedelta(minutes=15)
# Attempts within the window: at one name from one network, from one network, at one name from anywhere
TOGETHER, PER_NETWORK, PER_NAME = 5, 30, 50


class Attempt(models.Model):
    """One attempt to log in; one that succeeds takes those at its name from its network with it."""

    name_hash = models.CharField(max_length=64)
    network_hash = models.CharField(max_length=64)
    at = models.DateTimeField()

    class Meta:
        # What is old is deleted at each attempt, so the table stays small.
        indexes = [models.Index(fields=["at"], name="attempt_at")]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M}"

    @classmethod
    def note(cls, name: str, ip: str, now: datetime) -> "Attempt | None":
        """Write an attempt down, before the password is looked at; None where there were too many."""
        cls.objects.filter(at__lte=now - WINDOW).delete()
        hashes = {"name_hash": keyed_hash(name.lower()), "network_hash": keyed_hash(network(ip) or ip)}
        attempt = cls.objects.create(**hashes, at=now)
        if attempt.fits():
            return attempt
        attempt.delete()
        return None

    def fits(self) -> bool:
        known = type(self).objects.filter(pk__lte=self.pk)
        at_name, near = known.filter(name_hash=self.name_hash), known.filter(network_hash=self.network_hash)
        return self.mine().count() <= TOGETHER and near.count() <= PER_NETWORK and at_name.count() <= PER_NAME

    def mine(self) -> "models.QuerySet[Attempt]":
        return type(self).objects.filter(name_hash=self.name_hash, network_hash=self.network_hash)

    def succeed(self) -> None:
        self.mine().delete()
