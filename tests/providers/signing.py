"""How each provider proves that an event is its own. A key is what its owner writes into the environment."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import urlencode

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from django.test import Client
from django.utils import timezone

SNS = {
    "Type": "Notification",
    "MessageId": "22b80b92-0000-4c2c-8f9d-bdfb0c7bf324",
    "TopicArn": "arn:aws:sns:eu-west-3:104900000017:letters",
    "Timestamp": "2026-11-23T06:00:10.001Z",
}
OWN, ANOTHER = "own", "another"


@dataclass(frozen=True)
class Call:
    body: str
    headers: dict[str, str] = field(default_factory=dict)
    kind: str = "application/json"
    tail: str = "tracking/"

    def to(self, provider: str) -> int:
        """Make the call, and return the status of the answer."""
        path, headers = f"/hooks/{provider}/{self.tail}", self.headers
        return Client().post(path, self.body, content_type=self.kind, headers=headers).status_code


def basic(key: str) -> str:
    return "Basic " + base64.b64encode(f"amazon:{key}".encode()).decode()


def amazon_ses(event: Any, key: str, sns: dict[str, str] = SNS) -> Call:
    """https://docs.aws.amazon.com/sns/latest/dg/http-header.html"""
    body = json.dumps(sns | ({"Message": json.dumps(event)} if event else {}))
    marks = {"x-amz-sns-message-type": sns["Type"], "x-amz-sns-message-id": sns["MessageId"]}
    return Call(body, marks | {"Authorization": basic(key)}, "text/plain; charset=UTF-8")


def resend(event: Any, key: str, name: str = "msg_2mB1", seconds: int = 0) -> Call:
    """https://docs.svix.com/receiving/verifying-payloads/how-manual; `seconds` ago."""
    body, stamp = json.dumps(event), str(int(timezone.now().timestamp()) - seconds)
    made = hmac.new(key.encode(), f"{name}.{stamp}.{body}".encode(), hashlib.sha256).digest()
    signatures = f"v1,{base64.b64encode(bytes(32)).decode()} v1,{base64.b64encode(made).decode()}"
    return Call(body, {"svix-id": name, "svix-timestamp": stamp, "svix-signature": signatures})


def mailersend(event: Any, key: str) -> Call:
    """https://developers.mailersend.com/api/v1/webhooks.html#security"""
    body = json.dumps(event)
    return Call(body, {"Signature": hmac.new(key.encode(), body.encode(), hashlib.sha256).hexdigest()})


def mailtrap(event: Any, key: str) -> Call:
    """https://docs.mailtrap.io/email-api-smtp/advanced/webhooks"""
    body = json.dumps(event)
    return Call(body, {"Mailtrap-Signature": hmac.new(key.encode(), body.encode(), hashlib.sha256).hexdigest()})


def mandrill(event: Any, key: str) -> Call:
    """https://mailchimp.com/developer/transactional/guides/track-respond-activity-webhooks/"""
    told = json.dumps(event)
    signed = f"http://testserver/hooks/mandrill/mandrill_events{told}"
    signature = base64.b64encode(hmac.new(key.encode(), signed.encode(), hashlib.sha1).digest()).decode()
    body = urlencode({"mandrill_events": told})
    return Call(body, {"X-Mandrill-Signature": signature}, "application/x-www-form-urlencoded", "")


@cache
def pair(key: str) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def public(key: str) -> str:
    shown = (
        pair(key).public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return base64.b64encode(shown).decode()


def postal(event: Any, key: str) -> Call:
    """https://docs.postalserver.io/developer/webhooks"""
    body = json.dumps(event)
    made = pair(key).sign(body.encode(), padding.PKCS1v15(), hashes.SHA1())  # noqa: S303 -- so Postal signs
    return Call(body, {"X-Postal-Signature": base64.b64encode(made).decode()})


def unisender_go(event: Any, key: str) -> Call:
    """https://godocs.unisender.ru/web-api-ref#callback-format"""
    unsigned = json.dumps(event | {"auth": key})
    return Call(json.dumps(event | {"auth": hashlib.md5(unsigned.encode()).hexdigest()}))  # noqa: S324 -- so it signs


SIGN: dict[str, Callable[..., Call]] = {
    "amazon_ses": amazon_ses,
    "mailersend": mailersend,
    "mailtrap": mailtrap,
    "mandrill": mandrill,
    "postal": postal,
    "resend": resend,
    "unisender_go": unisender_go,
}


def settings_of(provider: str, key: str = OWN) -> dict[str, str]:
    """Return what the provider's key makes of anymail's settings."""
    return {
        "amazon_ses": {"WEBHOOK_SECRET": f"amazon:{key}", "AMAZON_SES_CLIENT_PARAMS": '{"region_name": "eu-west-3"}'},
        "mailersend": {"MAILERSEND_SIGNING_SECRET": key},
        "mailtrap": {"MAILTRAP_TRACKING_SECRET": key},
        "mandrill": {"MANDRILL_WEBHOOK_KEY": key},
        "postal": {"POSTAL_WEBHOOK_KEY": public(key)},
        "resend": {"RESEND_SIGNING_SECRET": "whsec_" + base64.b64encode(key.encode()).decode()},
        "unisender_go": {"UNISENDER_GO_API_KEY": key},
    }[provider]
