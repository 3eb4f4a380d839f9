"""The addresses of Amazon and Resend, whose settings and signatures anymail reads in another way than this service."""

import base64
import hashlib
import hmac
import time
from typing import Any

from anymail.exceptions import AnymailWebhookValidationFailure
from anymail.utils import get_anymail_setting
from anymail.webhooks import amazon_ses, resend
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest

from newsletters.transports.ses import client_params

# Svix asks for a tolerance; its own libraries take this one, in seconds.
TOLERANCE = 300


class Amazon(amazon_ses.AmazonSESBaseWebhookView):  # type: ignore[misc]
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(client_params=client_params(), **kwargs)


class AmazonTracking(amazon_ses.AmazonSESTrackingWebhookView, Amazon):  # type: ignore[misc]
    pass


class AmazonInbound(amazon_ses.AmazonSESInboundWebhookView, Amazon):  # type: ignore[misc]
    pass


class Signed(resend.SvixWebhookValidationMixin):  # type: ignore[misc]
    """Holds a call against Svix's signature, an HMAC, for which anymail would want Svix's whole library."""

    def __init__(self, **kwargs: Any) -> None:
        name = self._secret_setting_name
        secret = get_anymail_setting(name, esp_name=self.esp_name, default=None, kwargs=kwargs)
        self._svix_webhook = None
        self.key = key_of(secret) if secret else None
        self.warn_if_no_basic_auth = self.key is None
        super(resend.SvixWebhookValidationMixin, self).__init__(**kwargs)

    def validate_request(self, request: HttpRequest) -> None:
        if self.key and not genuine(self.key, request):
            raise AnymailWebhookValidationFailure(f"{self.esp_name} called with a wrong signature")


class ResendTracking(resend.ResendTrackingWebhookView, Signed):  # type: ignore[misc]
    pass


class ResendInbound(resend.ResendInboundWebhookView, Signed):  # type: ignore[misc]
    pass


def key_of(secret: str) -> bytes:
    if key := base64.b64decode(secret.removeprefix("whsec_")):
        return key
    raise ImproperlyConfigured("an empty key proves nothing")


def genuine(key: bytes, request: HttpRequest) -> bool:
    """Tell whether a call is fresh and signed: https://docs.svix.com/receiving/verifying-payloads/how-manual"""
    name, stamp = request.headers["svix-id"], request.headers["svix-timestamp"]
    if abs(time.time() - int(stamp)) > TOLERANCE:
        return False
    signed = hmac.new(key, f"{name}.{stamp}.".encode() + request.body, hashlib.sha256).digest()
    wanted = f"v1,{base64.b64encode(signed).decode()}".encode()
    # While a secret is being changed there is one signature by each.
    return any(hmac.compare_digest(wanted, one.encode()) for one in request.headers["svix-signature"].split())


VIEWS: dict[str, Any] = {
    "amazon_ses/tracking/": AmazonTracking,
    "amazon_ses/inbound/": AmazonInbound,
    "resend/tracking/": ResendTracking,
    "resend/inbound/": ResendInbound,
}
