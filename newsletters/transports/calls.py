"""One call to a provider's interface, made from the copies of many readers by django-anymail's own payloads."""

import hashlib
import uuid
from collections.abc import Callable, Mapping
from email.utils import parseaddr
from typing import Any
from urllib.parse import urljoin

from django.core.mail import EmailMultiAlternatives

from newsletters.transports.copies import Copy, literal, template, variables
from newsletters.transports.providers import Provider

# Where each reader's own address for answers goes in a text for many; SES takes one address for all.
REPLY_TO: Mapping[str, Callable[[str], dict[str, Any]]] = {
    "mailgun": lambda variable: {"h:Reply-To": variable},
    "sparkpost": lambda variable: {"content": {"reply_to": variable}},
}
OFF = {"ConfigurationOverrides": {"Tracking": {"OpenTrackingEnabled": "DISABLED", "ClickTrackingEnabled": "DISABLED"}}}


def post(backend: Any, provider: Provider, copies: list[Copy]) -> Any:
    """Hand these copies over in one call and return the provider's answer. Raises AnymailError."""
    if provider.batch == "own":
        payload: Any = Together(backend, provider, copies)
        return backend.post_to_esp(payload, payload.mails[0])
    mail = merged(provider, copies)
    return backend.post_to_esp(backend.build_message_payload(mail, backend.send_defaults), mail)


def single(provider: Provider, copy: Copy) -> Any:
    """Return one reader's copy as a mail of Django's."""
    text, page = copy.parts()
    mail = _mail(provider, copy, literal(text, provider), literal(page, provider, markup=True))
    mail.to, mail.extra_headers = [str(copy.to)], dict(copy.headers)
    mail.metadata = {"message_id": copy.number}
    if provider.name == "mailjet":  # what it gives back with events, and what it can be asked by, are two things
        mail.esp_extra = {"Globals": {"CustomID": copy.number}}
    return mail


def merged(provider: Provider, copies: list[Copy]) -> Any:
    """Return one mail to many readers, with variables where their copies differ."""
    first = copies[0]
    if first.message.blueprint:
        text, page = template(first.message.blueprint, provider)
    else:
        text, page = first.parts()
        text, page = literal(text, provider), literal(page, provider, markup=True)
    mail = _mail(provider, first, text, page)
    mail.subject = provider.variable.format("subject")
    mail.to = [str(copy.to) for copy in copies]
    shared = set.intersection(*(set(copy.headers.items()) for copy in copies))
    mail.extra_headers = {name: literal(value, provider) for name, value in shared}
    values = {copy.address: _values(copy, provider) for copy in copies}
    own = {copy.address: dict(copy.headers.items() - shared) for copy in copies}
    numbers = {copy.address: {"message_id": copy.number} for copy in copies}
    mail.merge_data, mail.merge_headers, mail.merge_metadata = values, own, numbers
    if len({copy.reply_to for copy in copies}) > 1:
        _answered(provider, mail, copies)
    return mail


def _answered(provider: Provider, mail: Any, copies: list[Copy]) -> None:
    """Let answers go to each reader's own address, or where one call cannot say so, to the author's."""
    if provider.name not in REPLY_TO:
        mail.reply_to = [copies[0].message.values["author_address"]]
        return
    mail.reply_to, mail.esp_extra = [], REPLY_TO[provider.name](provider.variable.format("reply_to"))
    for copy in copies:
        mail.merge_data[copy.address]["reply_to"] = parseaddr(copy.reply_to)[1]


def _values(copy: Copy, provider: Provider) -> dict[str, str]:
    return variables(copy, provider) | {"subject": literal(copy.subject, provider)}


def _mail(provider: Provider, copy: Copy, text: str, page: str) -> Any:
    reply_to = [copy.reply_to] if copy.reply_to else None
    mail: Any = EmailMultiAlternatives(copy.subject, text, copy.sender, reply_to=reply_to)
    mail.attach_alternative(page, "text/html")
    if provider.name == "amazon_ses":
        mail.esp_extra = OFF
    elif provider.name not in {"brevo", "resend"}:  # they have no word for it
        mail.track_opens = mail.track_clicks = False
    return mail


def key(copies: list[Copy]) -> str:
    """Return the same key for the same copies, however often they are handed over."""
    names = "\n".join(copy.message.message_id for copy in copies)
    return str(uuid.UUID(bytes=hashlib.sha256(names.encode()).digest()[:16], version=4))


class Together:
    """The payloads of single mails in one call: to anymail's backend, one payload like any other."""

    def __init__(self, backend: Any, provider: Provider, copies: list[Copy]) -> None:
        self.provider, self.key = provider, key(copies)
        self.mails = [single(provider, copy) for copy in copies]
        self.payloads = [backend.build_message_payload(mail, backend.send_defaults) for mail in self.mails]

    def get_request_params(self, api_url: str) -> dict[str, Any]:
        params: dict[str, Any] = self.payloads[0].get_request_params(api_url)
        path, join = JOINED[self.provider.name]
        body = join([payload.data for payload in self.payloads], self.key)
        params |= {"url": urljoin(api_url, path), "data": self.payloads[0].serialize_json(body)}
        if self.provider.name == "resend":
            params["headers"][self.provider.idempotency] = self.key
        return params


Bodies = list[dict[str, Any]]


def _listed(bodies: Bodies, key: str) -> Any:
    return bodies


def _mailjet(bodies: Bodies, key: str) -> Any:
    return {"Messages": [body["Globals"] | body["Messages"][0] for body in bodies]}


def _brevo(bodies: Bodies, key: str) -> Any:
    """Each version has its reader's own text. The text above them must be there, and must be nobody's."""
    versions = [{name: value for name, value in body.items() if name != "sender"} for body in bodies]
    nobodys = {"subject": "-", "htmlContent": "<p>-</p>"}
    return nobodys | {
        "sender": bodies[0]["sender"],
        "headers": {"idempotencyKey": key},
        "messageVersions": versions,
    }


JOINED: Mapping[str, tuple[str, Callable[[Bodies, str], Any]]] = {
    "postmark": ("email/batch", _listed),
    "resend": ("emails/batch", _listed),
    "mailjet": ("send", _mailjet),
    "brevo": ("smtp/email", _brevo),
}
