from django.db import models


class Seen(models.Model):
    """A mail in the POP3 mailbox that is no business of ours: it stays there, and is not read again.

    `name` is a hash of the mailbox and of what its server calls the mail (RFC 1939, UIDL).
    """

    name = models.CharField(max_length=64, unique=True)

    def __str__(self) -> str:
        return self.name
