"""Where alarms go: any address that Apprise knows, by other servers than those the mail goes out by."""

import logging
from typing import TYPE_CHECKING

from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from apprise import NotifyBase

log = logging.getLogger(__name__)


def opened(url: str) -> "NotifyBase | None":
    """Return the destination behind an address, or None where Apprise knows no such kind."""
    # It brings two hundred kinds and takes a third of a second: only where an alarm is set up or told.
    from apprise import Apprise

    found: NotifyBase | None = Apprise.instantiate(url, suppress_exceptions=True)
    return found


def known(urls: str) -> None:
    """Refuse a text of addresses, one a line, of which one cannot be used."""
    for url in urls.split():
        if opened(url) is None:
            message = _(
                "“%(url)s” is no address for alarms. Write it as mailto://…, tgram://… or ntfy://…, one a line."
            )
            raise ValidationError(message, params={"url": url.partition("://")[0]})


def send(url: str, title: str, text: str) -> bool:
    """Tell one destination; return whether it took the message. Connecting and answering may take four seconds each."""
    found = opened(url)
    if found is None:
        log.warning("An alarm could not be told: no destination begins with %s", url.partition("://")[0])
        return False
    from apprise import Apprise, NotifyFormat

    told = Apprise()
    told.add(found)
    if told.notify(body=text, title=title, body_format=NotifyFormat.TEXT):
        return True
    log.warning("An alarm could not be told by %s://%s", found.secure_protocol or found.protocol, found.host)
    return False
