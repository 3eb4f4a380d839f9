from django.db import models


class Heartbeat(models.Model):
    """When a worker last did a round of its own accord; health turns red when this grows old."""

    name = models.CharField(max_length=20, unique=True)
    at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.name} {self.at:%Y-%m-%d %H:%M:%S}"
