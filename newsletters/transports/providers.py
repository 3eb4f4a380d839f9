"""What each mail provider really does with our mails. docs/providers.md gives the source of every word here."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from newsletters.transports import Options

ACCEPTED = "accepted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """One line of the table; `name` is the one after esp:, and that of anymail's backend."""

    name: str
    title: str
    # "merge": one body with variables in it, and each reader's values. "own": each reader's body in one call.
    batch: Literal["merge", "own"]
    # How many recipients one call takes.
    limit: int
    # Whether each recipient gets an id of the provider's, or the whole call gets one.
    ids: Literal["recipient", "call"]
    # Where its pixel and its rewriting of links are switched off. "account": a request cannot, its owner must.
    tracking: Literal["message", "account", "never"]
    # Whether our List-Unsubscribe arrives. "account": only after a setting there.
    way_out: Literal["kept", "account"]
    # Where it says that an address stands on its own blocklist.
    blocklist: Literal["answer", "event"]
    # How a value is named in a body that is merged.
    variable: str = ""
    # What would be read as a command of the provider's wherever it stands in an author's text.
    commands: tuple[str, ...] = ()
    # The name of the key under which a repeated call is taken only once.
    idempotency: str = ""

    @property
    def tracks(self) -> bool:
        """Tell whether it adds its own tracking whatever it is asked."""
        return self.tracking == "never"

    def leaves(self, event: str, reason: str | None = None) -> bool:
        """Tell whether an event, in anymail's words, says that a reader wants no more mail.

        Who unsubscribes there has left. Where the provider's own list is asked before ours, standing on it is leaving
        too: nothing of ours would arrive any more, and no reader would learn why.
        """
        if event == "unsubscribed" or (event == "rejected" and reason == "unsubscribed"):
            return True
        return event == "rejected" and reason == "blocked" and (self.tracks or self.way_out == "account")


_TABLE = (
    Provider(
        name="mailgun",
        title="Mailgun",
        batch="merge",
        variable="%recipient.{}%",
        commands=("%recipient",),
        limit=1000,
        ids="call",
        tracking="message",
        way_out="kept",
        blocklist="event",
    ),
    Provider(
        name="postmark",
        title="Postmark",
        batch="own",
        commands=("{{",),
        limit=500,
        ids="recipient",
        tracking="account",
        way_out="account",
        blocklist="answer",
    ),
    Provider(
        name="amazon_ses",
        title="Amazon SES",
        batch="merge",
        variable="{{{{{}}}}}",
        commands=("{{",),
        limit=50,
        ids="recipient",
        tracking="message",
        way_out="kept",
        blocklist="event",
    ),
    Provider(
        name="brevo",
        title="Brevo",
        batch="own",
        commands=("{{", "{%"),
        limit=1000,
        ids="recipient",
        tracking="never",
        way_out="kept",
        blocklist="event",
        idempotency="idempotencyKey",
    ),
    Provider(
        name="mailjet",
        title="Mailjet",
        batch="own",
        commands=("[[", "{{"),
        limit=50,
        ids="recipient",
        tracking="message",
        way_out="kept",
        blocklist="event",
    ),
    Provider(
        name="sparkpost",
        title="SparkPost",
        batch="merge",
        variable="{{{{{{{}}}}}}}",
        commands=("{{", "[["),
        limit=1000,
        ids="call",
        tracking="message",
        way_out="kept",
        blocklist="event",
    ),
    Provider(
        name="resend",
        title="Resend",
        batch="own",
        limit=100,
        ids="recipient",
        tracking="account",
        way_out="kept",
        blocklist="event",
        idempotency="Idempotency-Key",
    ),
)
PROVIDERS: Mapping[str, Provider] = MappingProxyType({provider.name: provider for provider in _TABLE})

# anymail speaks to these too, but our way out would not arrive with each reader, or nobody can try it.
REFUSED: Mapping[str, str] = MappingProxyType(
    {
        "mailersend": "takes neither our List-Unsubscribe nor our own number with a reader's copy",
        "mailtrap": "has not been tried with a body for each reader",
        "mandrill": "gives every reader of a call the same List-Unsubscribe",
        "postal": "takes one mail at a time",
        "scaleway": "takes one mail at a time and reports no bounces",
        "sendgrid": "is not supported by django-anymail any more",
        "unisender_go": "adds its own way out",
    }
)


def fault(options: Options) -> str:
    """Return what is wrong with an esp: address, as the end of a sentence, or nothing."""
    name = options.host
    if name in REFUSED:
        return f"names {name}, which {REFUSED[name]}. Use its SMTP server: smtp://USER:PASSWORD@HOST:PORT?tls=starttls."
    provider = PROVIDERS.get(name)
    if provider is None:
        return f"names no provider that is known here: {name!r}. Give one of {', '.join(PROVIDERS)}."
    if provider.tracks and options.query.get("tracking") != ACCEPTED:
        return (
            f"names {provider.title}, which puts a pixel and rewritten links into every mail, asked or not. "
            f"Whoever wants that all the same, and has the readers' consent, writes esp:{name}?tracking={ACCEPTED}."
        )
    return ""
