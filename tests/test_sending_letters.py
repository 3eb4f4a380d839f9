"""Letters on their way: before the daily email, each for itself."""

from typing import Any

from newsletters import letters
from newsletters.models import Letter, Publication, Subscriber
from newsletters.models.outgoing import State
from tests.conftest import Reader
from tests.servers import MailServer
from tests.test_sending import MONDAY, SUNDAY, drain, mail_url, planned  # noqa: F401


def letter(publication: Publication, subscriber: Subscriber, cause: str, kind: str = Letter.Kind.WELCOME) -> Letter:
    written = letters.write(
        publication,
        kind,
        subscriber.address,
        cause,
        language="fr",
        subscriber=subscriber,
        context={"subscriber": subscriber.pk},
        now=MONDAY,
    )
    assert written
    return written


def test_letters_go_before_the_daily_email(
    planned: Any,  # noqa: F811
    publication: Publication,
    smtp: MailServer,
    settings: Any,
) -> None:
    settings.MAIL_URL = f"{smtp.url}?connections=1"
    (alice,) = planned()
    letter(publication, alice, "test")

    assert drain() == {"sent": 2}

    assert Letter.objects.get().state == State.SENT
    assert smtp.messages[1]["Subject"] == "Le carnet"


def test_a_letter_that_cannot_be_made_keeps_no_other_waiting(
    publication: Publication, reader: Reader, smtp: MailServer
) -> None:
    alice = reader(now=SUNDAY)
    Letter.objects.filter(pk=letter(publication, alice, "broken").pk).update(kind="unheard")
    letter(publication, alice, "sound")

    assert drain() == {"sent": 1, "retry": 1}

    assert Letter.objects.get(cause="broken").state == State.RETRY
    assert len(smtp.received) == 1


def test_whoever_leaves_is_not_welcomed_any_more(publication: Publication, reader: Reader, smtp: MailServer) -> None:
    alice = reader(now=SUNDAY)
    letter(publication, alice, "welcome")

    alice.leave(MONDAY)

    assert drain() == {}
    assert Letter.objects.get().state == State.SKIPPED
