"""Wake-ups. Any of them may be lost or doubled: the rows say what is owed."""

from celery import shared_task
from django.utils import timezone

from optin import answering, forgetting


@shared_task
def answer() -> None:
    """Write the letters owed to new requests, and forget what nobody confirmed."""
    now = timezone.now()
    answering.answer(now)
    forgetting.forget(now)
